"""The kit that sets a board up: container files, a systemd unit, and scripts that build, verify and update the engine.

Copy the folder to the board and run install.sh there (docs/jetson.md).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..runtime.places import PACKAGE

KIT = Path(__file__).parent / "jetson"
NOT_BUILT = (".*", "build", "dist", "runs", "docs", "tests", "*.egg-info", "__pycache__")
SOURCE = "/dev/video0"


@dataclass(frozen=True)
class JetsonKitOptions:
    """What the kit is made for."""

    out: Path
    """The folder to write; new or empty."""
    source: str = SOURCE
    """What the board reads: a camera, csi://0, rtsp://…"""
    wheel: Path | None = None
    """numclip's wheel; None: built from the checkout."""

    def __post_init__(self) -> None:
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UsageError(f"expected a new or empty folder for --out, got {self.out}; name another")
        if any(c in self.source for c in "'\n\r\0"):
            raise UsageError(f"expected a --source on one line and without the sign ', got {self.source!r}")


def jetson_kit(options: JetsonKitOptions) -> Path:
    """Write the kit under a temporary name, then rename; returns its folder. Raises UsageError, and leaves nothing then."""
    out = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".kit-") as name:
        folder = Path(name) / "kit"
        write_kit(folder, options.source, options.wheel or build_wheel(Path(name)))
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
    return out


def write_kit(folder: Path, source: str, wheel: Path) -> None:
    """Every file of the kit, the wheel, and the settings with this source; raises UsageError."""
    if wheel.suffix != ".whl" or not wheel.is_file():
        raise UsageError(f"{wheel}: expected numclip's wheel, found none; make it with: make build")
    shutil.copytree(KIT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for script in folder.glob("*.sh"):
        script.chmod(0o755)
    shutil.copy(wheel, folder)
    settings = folder / "numclip.env"
    text = settings.read_text(encoding="utf-8").replace("NUMCLIP_SOURCE='/dev/video0'", f"NUMCLIP_SOURCE='{source}'")
    settings.write_text(text, encoding="utf-8")


def build_wheel(folder: Path) -> Path:
    """This checkout as a wheel; raises UsageError where there is no checkout or its build fails."""
    if not (PACKAGE / "pyproject.toml").is_file():
        raise UsageError(
            "expected a checkout of numclip to build its wheel from, this is an installed package; give --wheel"
        )
    source = folder / "source"  # a copy: an old build folder in the checkout would add its files to the wheel
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns(*NOT_BUILT))
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)]
    done = subprocess.run(words, capture_output=True, text=True)
    made = sorted(folder.glob("numclip-*.whl"))
    if done.returncode != 0 or not made:
        reason = (done.stderr.strip().splitlines() or ["no wheel came out"])[-1]
        raise UsageError(f"numclip's wheel could not be built ({reason}); build it elsewhere and give --wheel")
    return made[0]
