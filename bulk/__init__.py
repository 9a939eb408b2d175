"""Read collections of pictures, archives and videos into Parquet tables; an interrupted run can be resumed."""

from __future__ import annotations

from .collection import bulk as bulk
from .options import BulkOptions as BulkOptions
from .options import BulkSummary as BulkSummary

__all__ = ["BulkOptions", "BulkSummary", "bulk"]
