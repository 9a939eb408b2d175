"""The setup kit for a Jetson: container files, a systemd unit, and scripts that build, verify and update the engine.

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
# In the checkout's root alone; server/dist and web/dist are the built pages.
NOT_BUILT = ("build", "dist", "runs", "docs", "tests")
NOT_BUILT_ANYWHERE = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "node_modules")
SOURCE = "/dev/video0"


@dataclass(frozen=True)
class JetsonKitOptions:
    """The options of a kit."""

    out: Path
    """Folder to write; must be new or empty."""
    source: str = SOURCE
    """Video source on the board: a camera, csi://0, rtsp://…"""
    wheel: Path | None = None
    """The numclip wheel; None: built from the checkout."""

    def __post_init__(self) -> None:
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UsageError(f"expected --out to be a new or empty folder, got {self.out}; choose another")
        if any(c in self.source for c in "'\n\r\0"):
            raise UsageError(f"expected --source to be one line without the character ', got {self.source!r}")


def jetson_kit(options: JetsonKitOptions) -> Path:
    """Write the kit to a temporary name, then rename it; returns its folder. Raises UsageError, and then leaves nothing behind."""
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
    """Write every file of the kit, the wheel, and the settings with this source; raises UsageError."""
    if wheel.suffix != ".whl" or not wheel.is_file():
        raise UsageError(f"{wheel}: this wheel does not exist; make it with: make build")
    shutil.copytree(KIT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for script in folder.glob("*.sh"):
        script.chmod(0o755)
    shutil.copy(wheel, folder)
    settings = folder / "numclip.env"
    text = settings.read_text(encoding="utf-8").replace("NUMCLIP_SOURCE='/dev/video0'", f"NUMCLIP_SOURCE='{source}'")
    settings.write_text(text, encoding="utf-8")


def build_wheel(folder: Path) -> Path:
    """Build a wheel of this checkout; raises UsageError if this is not a checkout, or the build fails."""
    if not (PACKAGE / "pyproject.toml").is_file():
        raise UsageError(
            "cannot build numclip's wheel, because this is an installed package and not a checkout; give --wheel"
        )
    source = folder / "source"  # a copy: an old build folder in the checkout would add its files to the wheel
    shutil.copytree(PACKAGE, source, ignore=_not_built)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)]
    done = subprocess.run(words, capture_output=True, text=True)
    made = sorted(folder.glob("numclip-*.whl"))
    if done.returncode != 0 or not made:
        reason = (done.stderr.strip().splitlines() or ["no wheel came out"])[-1]
        raise UsageError(f"numclip's wheel could not be built ({reason}); build it on another machine and give --wheel")
    return made[0]


def _not_built(folder: str, names: list[str]) -> set[str]:
    """What of a folder the wheel does not need; a folder in the root may be large, such as that of the training runs."""
    in_root = set(NOT_BUILT) & set(names) if Path(folder) == PACKAGE else set[str]()
    return in_root | NOT_BUILT_ANYWHERE(folder, names)
