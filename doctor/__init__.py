"""Diagnosis of an installation: what works on this machine, and the command that fixes what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .diagnosis import Diagnosis as Diagnosis
    from .diagnosis import diagnose as diagnose
    from .finding import Finding as Finding
    from .tracing import PrivacyOptions as PrivacyOptions
    from .tracing import PrivacyReport as PrivacyReport
    from .tracing import privacy as privacy

__all__ = ["Diagnosis", "Finding", "PrivacyOptions", "PrivacyReport", "diagnose", "privacy"]

__getattr__ = lazy(
    __name__,
    {
        "Diagnosis": ".diagnosis",
        "Finding": ".finding",
        "PrivacyOptions": ".tracing",
        "PrivacyReport": ".tracing",
        "diagnose": ".diagnosis",
        "privacy": ".tracing",
    },
)
