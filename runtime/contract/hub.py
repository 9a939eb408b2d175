"""Model files on the Hugging Face Hub: `hf://owner/name` is downloaded once, into the cache, through huggingface_hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import ModelError
from ..places import cache_dir

SCHEME = "hf://"
FORM = "hf://owner/name, hf://owner/name@revision or hf://owner/name/FILE.onnx"
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"hf://(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^@/\s]+))?(?:/(?P<file>[^@\s]+\.onnx))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubAddress:
    """The address of a model on the hub."""

    repo: str  # owner/name
    revision: str | None = None  # a branch, tag or commit; None: the main branch
    file: str | None = None  # None: the one that `numclip push` writes

    @staticmethod
    def from_text(text: str) -> HubAddress:
        """Read `text`; raises ModelError."""
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise ModelError(f"expected {FORM}, got {text}")
        return HubAddress(found["repo"], found["revision"], found["file"])


def file_of(precision: str) -> str:
    """The name of the file of this precision in a model's repository."""
    return "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"


def download(text: str, precision: str | None = None) -> Path:
    """The model file at an address. It comes from the cache if the hub has no newer one, or cannot be reached.

    precision: fp32, fp16 or int8; None: fp32, or the file that the address names. Raises ModelError.
    """
    address = HubAddress.from_text(text)
    with hub_errors(text):
        from huggingface_hub import hf_hub_download

        file = address.file or file_of(precision or "fp32")
        cache = cache_dir() / "hub"
        path = Path(hf_hub_download(address.repo, file, revision=address.revision, cache_dir=cache))
    expected = path.resolve().name  # a large file is stored under its SHA-256
    if _SHA256.fullmatch(expected) and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise ModelError(
            f"{text}: expected SHA-256 {expected[:12]}… for {file}, but the copy in {cache} is damaged; delete it"
        )
    return path


@contextmanager
def hub_errors(text: str) -> Generator[None]:
    """Turn errors of huggingface_hub into a ModelError with one sentence about the address."""
    try:
        yield
    except ModelError:
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "huggingface_hub":
            raise
        raise ModelError(
            f'{text}: opening it needs the package huggingface_hub; run: pip install "numclip[hub]"'
        ) from None
    except Exception as error:  # its errors and those of its HTTP library have no common base class
        raise ModelError(f"{text}: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"the hub did not send it{_first_line(error.__cause__)}, and it is not in the cache; connect to the network"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision; correct the part after the @"
    if isinstance(error, errors.EntryNotFoundError):
        return (
            f"expected a file {file_of('fp32')} in the repository, or the file that was named, found neither; name "
            f"the file, as {SCHEME}owner/name/FILE.onnx"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the repository does not exist or you may not read it; correct the name, or log in with `hf auth login`"
    return f"the hub rejected the request{_first_line(error)}; check the address and your login (`hf auth whoami`)"


def _first_line(error: BaseException | None) -> str:
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return f" ({lines[0]})" if lines else ""
