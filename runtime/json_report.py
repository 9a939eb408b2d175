"""`--json FILE|-`: a verb's report as one JSON object."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..errors import SinkError


def write_json(where: str, content: Any) -> None:
    """Write to a file, or for `-` to stdout; raises SinkError naming the file."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if where == "-":
        sys.stdout.write(text)
        return
    try:
        Path(where).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {where} ({error.strerror}); give another --json FILE") from None
