"""Everything a device needs to estimate ages from pictures: model contract, sessions, faces, the live path, and outputs.

`run(RunOptions(("clip.mp4",)))` and `replay(ReplayOptions(path))` do what the commands of these names do;
`build_engine(EngineOptions(...))` is `numclip engine`, and `model_info(NAME)` returns what `numclip info` prints.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .info import ModelInfo as ModelInfo
    from .info import model_info as model_info
    from .sessions.engine_build import BuiltEngine as BuiltEngine
    from .sessions.engine_build import EngineOptions as EngineOptions
    from .sessions.engine_build import build_engine as build_engine
    from .sinks.outputs import OutputOptions as OutputOptions
    from .sinks.replaying import ReplayOptions as ReplayOptions
    from .sinks.replaying import replay as replay
    from .sinks.run_statistics import RunSummary as RunSummary
    from .sinks.running import RunOptions as RunOptions
    from .sinks.running import run as run

__all__ = [
    "BuiltEngine",
    "EngineOptions",
    "ModelInfo",
    "OutputOptions",
    "ReplayOptions",
    "RunOptions",
    "RunSummary",
    "build_engine",
    "model_info",
    "replay",
    "run",
]

__getattr__ = lazy(
    __name__,
    {
        "BuiltEngine": ".sessions.engine_build",
        "EngineOptions": ".sessions.engine_build",
        "ModelInfo": ".info",
        "OutputOptions": ".sinks.outputs",
        "ReplayOptions": ".sinks.replaying",
        "RunOptions": ".sinks.running",
        "RunSummary": ".sinks.run_statistics",
        "build_engine": ".sessions.engine_build",
        "model_info": ".info",
        "replay": ".sinks.replaying",
        "run": ".sinks.running",
    },
)

# ONNX Runtime's wheels write a device id and a database of usage into the home folder unless this says no before they
# are loaded. Nothing is written here that nobody asked for; whoever wants it can set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
