"""What the commands of this folder print and return when they fail."""

from __future__ import annotations

import sys

from ..errors import NumclipError, UsageError


def complain(error: NumclipError) -> int:
    """Print the error's sentence on stderr; returns the exit code: 2 for a wrong flag, else 1."""
    print(f"numclip: {error}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1
