"""The annotated frames in a window."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cv2

from ...errors import OutputError
from ..live.frames import SourceEvent, SourceInfo
from ..live.results import FrameResult
from .sink import Stop


class WindowSink:
    """One window per source that shows the annotated frames; q, Esc or closing it stops the run."""

    def __init__(self, sources: Sequence[SourceInfo], level: float | None, blur: bool) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("--show needs a screen, but neither DISPLAY nor WAYLAND_DISPLAY is set; use --save FILE")
        self._level, self._blur, self._hold = level, blur, sources[0].stills
        try:
            for source in sources:
                cv2.namedWindow(self._title(source.name), cv2.WINDOW_NORMAL)
        except cv2.error:
            raise OutputError(
                "--show needs an OpenCV with windows, which this build of OpenCV lacks; install numclip[cpu], or use --save "
                "FILE"
            ) from None

    @staticmethod
    def _title(name: str) -> str:
        return f"numclip {name}"

    def write(self, result: FrameResult) -> None:
        """Show one frame; raises Stop when the user quits."""
        title = self._title(result.frame.source)
        cv2.imshow(title, result.plot(self._level, self._blur))
        key = cv2.waitKey(0 if self._hold else 1) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            raise Stop

    def tell(self, event: SourceEvent) -> None:
        """Ignore events: the last picture stays."""

    def close(self) -> None:
        cv2.destroyAllWindows()
