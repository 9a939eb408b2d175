"""A text file or stdout that is written in whole lines, each at once, whatever happens next."""

from __future__ import annotations

import errno
import os
import sys

from ...errors import OutputError


class LineFile:
    """Lines that are in the file, or in the pipe, when `append` returns."""

    def __init__(self, where: str, flag: str) -> None:
        """where: a path, or - for stdout; flag: the one to name in errors. Raises OutputError."""
        self._where = where
        if where == "-" and sys.stdout is None:
            raise OutputError(f"cannot write {where} (standard output is closed); give another {flag} FILE")
        try:
            self._file = (
                os.dup(sys.stdout.fileno())
                if where == "-"
                else os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            )
        except OSError as error:
            raise OutputError(f"cannot write {where} ({error.strerror}); give another {flag} FILE") from None

    def append(self, line: bytes) -> None:
        """Append one line, its newline included; if it does not fit, take its beginning back and raise OutputError."""
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(done)
            raise OutputError(
                f"cannot write {self._where} ({error.strerror}); free space; the file ends with the last whole line"
            ) from None
        except KeyboardInterrupt:
            self._take_back(done)
            raise

    def _take_back(self, done: int) -> None:
        try:
            os.ftruncate(self._file, os.lseek(self._file, -done, os.SEEK_CUR))
        except OSError as error:  # a pipe or terminal cannot take back
            if error.errno not in (errno.EINVAL, errno.ESPIPE):
                raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
