"""Write the static site: the built page, the runtime's WebAssembly, a model and the face finder.

`make web` builds the page from the TypeScript in this folder into web/dist/site; a wheel contains it.
The site runs on any static host, and offline after the first visit.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, OutputError, UsageError
from ..runtime.contract.model_file import FINDER, read_faces_spec, read_spec, resolve
from ..runtime.sessions.model import check_calibration

BUILT = Path(__file__).parent / "dist" / "site"
MARK = "site.json"  # marks a folder that this module wrote


@dataclass(frozen=True)
class SiteOptions:
    """Options of `write_site`."""

    out: Path  # output folder: new, empty, or with an earlier site, which is replaced
    model: str = "age-nano.int8"  # a name or an .onnx file; the browser reads fp32 and int8
    finder: str = FINDER  # the face finder, a name or an .onnx file


@dataclass(frozen=True)
class Site:
    """A written site."""

    folder: Path
    model: str  # the model's name
    sizes: dict[str, tuple[int, int]]  # bytes of each file, plain and gzipped

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(size for size, _ in self.sizes.values())

    @property
    def gzipped_bytes(self) -> int:
        """Size of all files gzipped, as a host sends them."""
        return sum(gzipped for _, gzipped in self.sizes.values())

    def to_json(self) -> dict[str, object]:
        """Return the site as one JSON object."""
        files = {name: {"bytes": size, "gzipped_bytes": gzipped} for name, (size, gzipped) in self.sizes.items()}
        total = {"bytes": self.size_bytes, "gzipped_bytes": self.gzipped_bytes}
        return {"folder": str(self.folder), "model": self.model, **total, "files": files}


def write_site(options: SiteOptions) -> Site:
    """Write the site atomically.

    Raises UsageError for a folder that holds something else, ModelError for a model that the browser cannot run,
    OutputError if the page was not built or the folder cannot be written.
    """
    out = options.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"expected a folder for the site, but {out} is a file; give another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise UsageError(
            f"expected a new or empty folder or an earlier site, but {out} holds other files; give another --out"
        )
    if not (BUILT / "index.html").is_file():
        raise OutputError(
            "expected the built browser page, found none in this checkout; run (node 20 or newer): make web"
        )
    model, finder = resolve(options.model), resolve(options.finder)
    for file in (model, finder):
        if file.suffix != ".onnx":
            raise ModelError(
                f"{file}: expected an .onnx file, because a browser cannot run an engine; give the .onnx that it was built from"
            )
    spec = read_spec(model)
    check_calibration(model, spec)
    read_faces_spec(finder)
    if "whole" in spec.crop.box_rules:
        raise ModelError(f"{model}: expected a model for faces, got one for whole pictures; use numclip run")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            written = Path(temporary) / "site"
            _fill(written, model, finder)
            sizes = {str(p.relative_to(written)): _size(p) for p in sorted(written.rglob("*")) if p.is_file()}
            if out.exists():
                os.replace(out, Path(temporary) / "before")
            os.replace(written, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); free space or choose another place") from None
    return Site(out, spec.name, sizes)


def _fill(site: Path, model: Path, finder: Path) -> None:
    shutil.copytree(BUILT, site)
    site.chmod(0o755)
    (site / "models").mkdir()
    finder_name = finder.name if finder.name.lower() != model.name.lower() else f"finder-{finder.name}"
    about = {"model": f"models/{model.name}", "finder": f"models/{finder_name}"}
    for file, place in zip((model, finder), about.values(), strict=True):
        shutil.copyfile(file, site / place)
    (site / MARK).write_text(json.dumps(about) + "\n", encoding="utf-8")
    files = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.encode() + (site / file).read_bytes())
    worker = site / "sw.js"
    text = worker.read_text(encoding="utf-8")
    kept = ["./", *(file for file in files if file not in ("sw.js", "index.html"))]
    for placed, value in (("__VERSION__", f"numclip-{digest.hexdigest()[:16]}"), ('["__FILES__"]', json.dumps(kept))):
        if placed not in text:
            raise OutputError(
                f"{worker.name}: expected the placeholder {placed} in the built page, found none; run: make web"
            )
        text = text.replace(placed, value)
    worker.write_text(text, encoding="utf-8")


def _size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    return len(data), len(gzip.compress(data, 6))
