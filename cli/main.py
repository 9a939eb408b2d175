"""The command `numclip`: one verb, one module, imported only when the verb is used."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import NumclipError, UsageError

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141

# verb: (module relative to this package, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "run": ("runtime.sinks.run_verb", "read ages off a camera, video, stream or folder"),
    "replay": ("runtime.sinks.replay", "play a recording of a run back, without a camera"),
    "demo": ("demo.demo", "make a clip from two well-known portraits and run on it"),
    "doctor": ("doctor.doctor", "what works on this machine, and the exact line to type for what does not"),
    "info": ("runtime.info", "what a model file says about itself"),
    "fetch": ("runtime.faces.fetch", "download the YuNet face detector, checked by its sha256"),
    "deploy": ("deploy.jetson_kit", "the kit that sets a Jetson up: containers, service, engine scripts"),
    "bench": ("bench.bench", "latency, throughput and stages of models on this machine"),
    "compare": ("bench.compare", "two benchmark reports side by side"),
    "evaluate": ("calibration.measure.evaluate", "mean error, bias and coverage on labelled faces"),
    "calibrate": ("calibration.calibrate", "fit intervals on labelled faces and write them into the model"),
    "quantize": ("calibration.quantize", "static INT8 of a model file, proven in the task's unit"),
    "engine": ("runtime.sessions.engine", "build a TensorRT engine from a model file, on the device"),
    "verify": ("calibration.measure.verify", "differences between artifacts of one model, in the task's unit"),
    "train": ("train.train_verb", "train a NumCLIP on labelled faces"),
    "study": ("research.studies.carry_out", "the experiments of the paper and of its open questions"),
    "rebin": ("train.rebin", "put new words and bins into a checkpoint without training its tower"),
    "export": ("export.to_onnx", "freeze a checkpoint into one .onnx, proven in the task's unit"),
}

# import name of a third party: the extra that brings it
_EXTRA_OF = {
    "cv2": "cpu",
    "onnxruntime": "cpu",
    "paho": "mqtt",
    "prometheus_client": "metrics",
    "matplotlib": "demo",
    "skimage": "demo",
    "torch": "train",
    "torchvision": "train",
    "open_clip": "train",
    "timm": "train",
    "safetensors": "train",
    "tflite": "train",
    "lightning_fabric": "train",
    "sklearn": "study",
    "scipy": "study",
    "onnx": "quantize",
    "onnxscript": "export",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 only when it did what was asked."""
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing more to say, and nothing to say at interpreter exit either.
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


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb; imports that verb's module and no other's."""
    module = importlib.import_module(f".{VERBS[verb][0]}", "numclip")
    parser = argparse.ArgumentParser(
        prog=f"numclip {verb}", description=module.__doc__, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    module.add_arguments(parser)
    parser.set_defaults(_run=module.run, _open_checkpoint=_open_checkpoint, _open_rival=_open_rival)
    return parser


def _open_checkpoint(path: str) -> Any:
    """A training checkpoint as a model; only here do folders meet that do not import each other."""
    return importlib.import_module(".train.checkpoint_model", "numclip").open_checkpoint(path)


def _open_rival(name: str, threads: int, device: str) -> Any:
    """What a benchmark measures a model file against, by name (bench/rivals.py)."""
    return importlib.import_module(".bench.rivals", "numclip").open_rival(name, threads, device)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the paragraphs of the docstring and shows each default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else EXIT_USAGE
    verb, rest = argv[0], argv[1:]
    if verb in ("-V", "--version"):
        from importlib.metadata import version

        print(f"numclip {version('numclip')}")
        return 0
    if verb not in VERBS:
        raise UsageError(f"there is no verb {verb!r}{did_you_mean(verb, VERBS)} `numclip --help` lists them")
    parser = build_parser(verb)
    args = _parse(parser, rest)
    return int(args._run(args) or 0)


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, and name the nearest flag when one is unknown; argparse itself exits 2 on its own errors."""
    known = [flag for action in parser._actions for flag in action.option_strings]  # pyright: ignore[reportPrivateUsage]
    for word in argv:
        if word == "--":
            break
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            parser.error(f"there is no flag {flag}{did_you_mean(flag, known)}")
    return parser.parse_args(argv)


def _overview() -> str:
    lines = ["usage: numclip VERB [--flags]", "", "Read ages off live video with one self-describing model file.", ""]
    lines += [f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join([*lines, "", "numclip VERB --help tells the flags; numclip --version the version."])


def _complain(sentence: str, code: int) -> int:
    print(f"numclip: {sentence}", file=sys.stderr)
    return code


def _os_sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"the system refused: {error.strerror or error}{where}"


if __name__ == "__main__":
    sys.exit(main())
