"""The command `numclip`: one file per command in this folder, imported only when the command is used."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from ..errors import NumclipError, UsageError, did_you_mean
from . import config

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141

# command: what it does, in one line; its file is cli/COMMAND.py
COMMANDS: dict[str, str] = {
    "run": "read ages off a camera, video, stream or folder",
    "replay": "play a recording of a run back, without a camera",
    "demo": "make a clip from two well-known portraits and run on it",
    "serve": "ages over HTTP: pictures, live sources, browsers' cameras, and a page",
    "web": "the static site that reads ages in a visitor's own browser",
    "doctor": "what works on this machine, and the exact line to type for what does not",
    "info": "what a model file says about itself",
    "fetch": "download the YuNet face detector, checked by its sha256",
    "deploy": "the kit that sets a Jetson up: containers, service, engine scripts",
    "bulk": "read a collection of pictures, archives and videos into Parquet tables",
    "bulk-report": "one page about a collection that was read",
    "bench": "latency, throughput and stages of models on this machine",
    "audit": "check an audit file of a gate's answers",
    "compare": "two benchmark reports side by side",
    "evaluate": "mean error, bias and coverage on labelled faces",
    "assure": "a gate's errors by year and group, as evaluations of age assurance give them",
    "calibrate": "fit intervals on labelled faces and write them into the model",
    "quantize": "static INT8 of a model file, proven in the task's unit",
    "engine": "build a TensorRT engine from a model file, on the device",
    "verify": "differences between artifacts of one model, in the task's unit",
    "push": "upload a model to the Hugging Face Hub, with a card from what it says about itself",
    "card": "a model's card, written from measurements",
    "train": "train a NumCLIP on labelled faces",
    "train-faces": "train the face finder that ships, and freeze it",
    "rebin": "put new words and bins into a checkpoint without training its tower",
    "export": "freeze a checkpoint into one .onnx, proven in the task's unit",
    "completion": "a script that completes commands and flags in bash, zsh or fish",
}

# flags of earlier versions: what to type instead
RENAMED_FLAGS: dict[tuple[str, str], str] = {
    ("engine", "--triton"): "a command of its own: numclip deploy triton FILE.engine --out DIR",
    ("quantize", "--faces"): "--num-faces",
    ("verify", "--faces"): "--num-faces",
    ("bench", "--faces"): "--pictures",
    ("train", "--precision"): "--amp",
    ("train", "--limit"): "--num-faces",
    ("export", "--limit"): "--max-difference",
    ("run", "--buffer"): "--challenge AGE, the gate's age included: --gate 18 --buffer 7 is --gate 18 --challenge 25",
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
    "pillow_heif": "heic",
    "fastapi": "server",
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
    "tflite": "study",
    "lightning_fabric": "train",
    "sklearn": "study",
    "scipy": "study",
    "onnx": "quantize",
    "onnxscript": "export",
    "tomli": "config",
    "joserfc": "sign",
    "huggingface_hub": "hub",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 only when it did what was asked."""
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
        # The reader (head, less) has gone: nothing more to say, and nothing to say at interpreter exit either.
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
    """A letter that the terminal does not know becomes a question mark; what is said to a closed stream is lost."""
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # closed: without this, the next file that is opened would take its number, and its text
            null = os.open(os.devnull, os.O_WRONLY)
            if name == "stderr":
                sys.stderr = os.fdopen(null, "w", encoding="utf-8")  # print(file=None) would mean stdout
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


@contextmanager
def _log_to_stderr() -> Generator[None]:
    """Show what the library logs, one line each, beside progress bars; the loggers are as before afterwards.

    Other libraries' remarks on the root logger are not shown, as open_clip's that a network without weights is random.
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
    """Say which extra brings the import `name`; None when no extra does (then it is a bug, not an install)."""
    top = (name or "").partition(".")[0]
    extra = _EXTRA_OF.get(top)
    if extra is None:
        return None
    sentence = f'this needs the package {top}, which is not installed: pip install "numclip[{extra}]"'
    if extra == "cpu":
        sentence += " (or numclip[gpu] with an NVIDIA card, numclip[headless] without a screen; one of them, never two)"
    return sentence


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb; imports that verb's module and no other's."""
    parser = argparse.ArgumentParser(prog=f"numclip {verb}", allow_abbrev=False, formatter_class=_HelpFormatter)
    add_command(parser, verb)
    return parser


def add_command(parser: argparse.ArgumentParser, verb: str) -> None:
    """Give a parser a command's description, its flags and those that every command has."""
    module = importlib.import_module("." + verb.replace("-", "_"), __package__)
    parser.description = module.__doc__
    module.add_arguments(parser)
    config.add_config(parser)
    parser.set_defaults(_run=module.run)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the paragraphs of the docstring and shows each default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
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
        raise UsageError(f"numclip {verb} is now {MOVED_COMMANDS[verb]}")
    if verb not in COMMANDS:
        raise UsageError(f"there is no command {verb!r}{did_you_mean(verb, COMMANDS)} `numclip --help` lists them")
    parser = build_parser(verb)
    _refuse_unknown_flags(parser, rest)
    if any(word.startswith("--config") for word in rest):
        rest = config.with_config(parser, rest)
    if "--print-config" in rest:
        print(config.config_of(parser, rest))
        return 0
    args = parser.parse_args(rest)
    return int(args._run(args) or 0)


def _refuse_unknown_flags(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    """Name the nearest flag when one is unknown; argparse itself exits 2 on its own errors."""
    reached = {parser, config.chosen(parser, argv)}
    known = [flag for p in reached for action in p._actions for flag in action.option_strings]  # pyright: ignore[reportPrivateUsage]
    for word in argv:
        if word == "--":
            break
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            renamed = RENAMED_FLAGS.get((parser.prog.rpartition(" ")[2], flag))
            if renamed is not None:
                parser.error(f"{flag} is now {renamed}")
            parser.error(f"there is no flag {flag}{did_you_mean(flag, known)}")


def _overview() -> str:
    lines = ["usage: numclip VERB [--flags]", "", "Read ages off live video with one self-describing model file.", ""]
    lines += [f"  {verb:<10} {text}" for verb, text in COMMANDS.items()]
    return "\n".join([*lines, "", "numclip VERB --help tells the flags; numclip --version the version."])


def _complain(sentence: str, code: int) -> int:
    print(f"numclip: {sentence}", file=sys.stderr)
    return code


def _os_sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"the system refused: {error.strerror or error}{where}"


if __name__ == "__main__":
    sys.exit(main())
