"""A text file or stdout that always contains complete lines, even if the process is killed."""

from __future__ import annotations

import errno
import os
import sys

from ...errors import OutputError


class LineFile:
    """A file of lines; a line is in the file, or in the pipe, when `append` returns."""

    def __init__(self, where: str, flag: str) -> None:
        """where: a path, or - for stdout. flag: the flag to name in errors. Raises OutputError."""
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
        """Append one line, which includes its newline; if it does not fit, remove its beginning again and raise OutputError."""
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(done)
            raise OutputError(
                f"cannot write {self._where} ({error.strerror}); free disk space. The file ends with the last complete "
                "line"
            ) from None
        except KeyboardInterrupt:
            self._take_back(done)
            raise

    def _take_back(self, done: int) -> None:
        try:
            os.ftruncate(self._file, os.lseek(self._file, -done, os.SEEK_CUR))
        except OSError as error:  # nothing can be removed from a pipe or terminal
            if error.errno not in (errno.EINVAL, errno.ESPIPE):
                raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
