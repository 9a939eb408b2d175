"""Build a TensorRT engine from a model file, on the device that will run it.

The engine keeps the precision of the model file: for FP16 use `numclip export --precision fp16`, for INT8 `numclip quantize
--flavour tensorrt`. It runs any batch size from 1 to --max-batch. It works only on the GPU and with the TensorRT version that it
was built for; FILE.engine.json records both, and the engine is not opened anywhere else. With TensorRT-RTX and --targets it can
be built on a machine without a GPU.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...errors import DeviceError, ModelError, UsageError
from ..contract.faces_spec import CANDIDATES, FLOATS, INPUT, PADDED, PADS, FacesSpec
from ..contract.model_file import graph_sha256, is_finder, message, read_faces_spec, read_spec, resolve
from ..contract.spec import ModelSpec
from ..places import cache_dir, write_whole
from ..system import l4t
from .cuda_device import Card, card, free_memory_mb, runtime_version
from .engine_file import Built, check_card, check_version, read_engine, read_faces_sidecar, read_sidecar, write_engine
from .tensorrt_versions import (
    find_tensorrt,
    import_tensorrt,
    is_rtx,
    new_network,
    quiet_logger,
    set_portability,
    use_full_float32,
)

MAX_BATCH, USUAL_BATCH = 32, 4
MAX_PICTURES, USUAL_SIDES_PX, LEAST_SIDE_PX = 4, (480, 864), 32  # of a face finder's pictures
MAX_SIDE_PX = 2048  # longest side of its largest tile
WORKSPACE_SHARE, WORKSPACE_LIMIT_MB = 0.5, 4096  # of the free memory, and in all
LEAST_FREE_MB = 64


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """What `build_engine` builds, and how."""

    model: str | Path
    """Model or face finder: a shipped one's name, or an .onnx file."""
    out: Path
    """Engine file to write; its record .engine.json is written to the same folder."""
    max_batch: int | None = None
    """Largest batch: faces, or pictures for a face finder; None: 32 faces, 4 pictures."""
    max_side_px: int = MAX_SIDE_PX
    """For a face finder: longest side of a picture, in px."""
    workspace_mb: int | None = None
    """GPU memory for the build, in MB; None: half of what is free, at most 4096."""
    library: str | None = None
    """`tensorrt` or `tensorrt_rtx`; None: TensorRT if it is installed, else TensorRT-RTX."""
    version_compatible: bool = False
    """Allow later versions of the library too; the engine is larger and slower."""
    hardware_compatible: bool = False
    """Allow later GPU generations too (TensorRT only)."""
    targets: tuple[int, ...] = ()
    """With TensorRT-RTX: compute capabilities times ten to build for, without such a GPU; none: this machine's GPU."""


@dataclass(frozen=True)
class BuiltEngine:
    """A written engine."""

    out: Path
    spec: ModelSpec | FacesSpec
    built: Built

    @property
    def is_finder(self) -> bool:
        """Whether the engine is a face finder's; otherwise it reads crops."""
        return isinstance(self.spec, FacesSpec)


def build_engine(options: EngineOptions) -> BuiltEngine:
    """Build the engine of an .onnx file, and write it with its record. Raises UsageError, ModelError, DeviceError, OutputError."""
    _check(options)
    path = resolve(options.model)
    spec = read_faces_spec(path) if is_finder(path) else read_spec(path)
    if isinstance(spec, ModelSpec) and spec.graph.flavour == "cpu":
        raise ModelError(
            f"{path}: expected an INT8 file of flavour tensorrt, got flavour cpu; make one with: numclip quantize --flavour "
            "tensorrt"
        )
    trt = import_tensorrt(options.library)
    here = None if options.targets else card()
    data, flags = compile_graph(trt, path, spec, options, here)
    capabilities = [f"{t // 10}.{t % 10}" for t in options.targets] if here is None else [here.compute_capability]
    release = l4t()
    built = Built(
        graph_sha256=graph_sha256(path),
        engine_sha256=hashlib.sha256(data).hexdigest(),
        library=trt.__name__,
        version=trt.__version__,
        gpu=None if here is None else here.name,
        compute_capabilities=tuple(capabilities),
        cuda=None if here is None else runtime_version(),
        driver=None if here is None else here.driver,
        jetpack=None if release is None else str(release),
        max_batch=_max_batch(options, spec),
        flags=tuple(flags),
    )
    write_engine(options.out, data, spec, built)
    return BuiltEngine(options.out, spec, built)


def _check(options: EngineOptions) -> None:
    if options.max_batch is not None and options.max_batch < 1:
        raise UsageError(f"expected --max-batch to be at least 1, got {options.max_batch}")
    if options.max_side_px < LEAST_SIDE_PX:
        raise UsageError(f"expected --max-side to be at least {LEAST_SIDE_PX}, got {options.max_side_px}")
    if options.out.suffix != ".engine":
        raise UsageError(f"expected --out to end in .engine, got {options.out}")


def _max_batch(options: EngineOptions, spec: ModelSpec | FacesSpec) -> int:
    return options.max_batch or (MAX_PICTURES if isinstance(spec, FacesSpec) else MAX_BATCH)


def compile_graph(
    trt: Any, path: Path, spec: ModelSpec | FacesSpec, options: EngineOptions, here: Card | None
) -> tuple[bytes, list[str]]:
    """The serialized engine and the portability flags that were set."""
    logger = quiet_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # raised by the bindings if the builder cannot start
        raise DeviceError(f"{trt.__name__} does not start; check the driver with nvidia-smi") from None
    network, parser = parsed(trt, builder, logger, path)
    config = builder.create_builder_config()
    use_full_float32(trt, config)
    flags = set_portability(
        trt, config, versions=options.version_compatible, hardware=options.hardware_compatible, targets=options.targets
    )
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb(options, here) * 2**20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # layer names and types, for the inspector
    if isinstance(spec, FacesSpec):
        stop_at_candidates(network)
        profile = pictures_profile(builder, _max_batch(options, spec), options.max_side_px)
    else:
        profile = faces_profile(builder, spec, _max_batch(options, spec))
    config.add_optimization_profile(profile)
    cache_file = _load_timings(trt, config, here)
    with tqdm(desc="engine", unit="step", leave=False, disable=None, file=sys.stderr) as bar:
        monitor = _monitor(trt, bar)  # kept until the end: the builder holds no reference of its own
        config.progress_monitor = monitor
        data = builder.build_serialized_network(network, config)
    del parser  # until here it owns the network's weights
    if data is None:
        said = logger.errors[-1][:300] if logger.errors else "it gives no reason"
        raise ModelError(f"{path}: {trt.__name__} {trt.__version__} cannot build it ({said}); export it again")
    if cache_file is not None and (timings := config.get_timing_cache()) is not None:
        write_whole(cache_file, bytes(timings.serialize()))
    return bytes(data), flags


def faces_profile(builder: Any, spec: ModelSpec, max_batch: int) -> Any:
    """The optimization profile: 1 to `max_batch` faces, tuned for a few."""
    profile, side = builder.create_optimization_profile(), spec.crop.side
    sizes = (1, min(USUAL_BATCH, max_batch), max_batch)
    profile.set_shape(spec.graph.input, *((n, side, side, 3) for n in sizes))
    return profile


def pictures_profile(builder: Any, max_batch: int, max_side_px: int) -> Any:
    """The optimization profile of a face finder: 1 to `max_batch` pictures of any size up to a square of that side."""
    profile = builder.create_optimization_profile()
    usual = tuple(min(side, max_side_px) for side in USUAL_SIDES_PX)
    shapes = [(1, LEAST_SIDE_PX, LEAST_SIDE_PX), (1, *usual), (max_batch, max_side_px, max_side_px)]
    profile.set_shape(INPUT, *((n, h, w, 3) for n, h, w in shapes))
    return profile


def stop_at_candidates(network: Any) -> None:
    """End a face finder's network before its suppression, which runs on the CPU; then all its shapes are known."""
    tensors: dict[str, Any] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        tensors |= {layer.get_output(o).name: layer.get_output(o) for o in range(layer.num_outputs)}
    for output in [network.get_output(i) for i in range(network.num_outputs)]:
        network.unmark_output(output)
    for name in CANDIDATES:
        network.mark_output(tensors[name])


def parsed(trt: Any, builder: Any, logger: Any, path: Path) -> tuple[Any, Any]:
    """The network of an .onnx file, and the parser, which owns its weights; raises ModelError with the parser's message."""
    network = new_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(floats_first(path.read_bytes())):
        said = " ".join(parser.get_error(0).desc().split()) if parser.num_errors else "it gives no reason"
        raise ModelError(
            f"{path}: {trt.__name__} {trt.__version__} cannot read this graph ({said[:300]}); export it again"
        )
    return network, parser


def floats_first(data: bytes) -> bytes:
    """An .onnx file in which a face finder's pictures become floats before they are padded, because TensorRT cannot pad bytes.

    The two nodes change places. Their names have equal lengths, so no length field in the file changes. Other .onnx files are
    returned unchanged.
    """

    def node(operator: str, inputs: tuple[str, ...], output: str, attribute: bytes = b"") -> bytes:
        names = b"".join(message(1, name.encode()) for name in inputs)
        ends = message(2, output.encode()) + message(3, output.encode()) + message(4, operator.encode())
        return message(1, names + ends + attribute)

    to_float = message(5, message(1, b"to") + b"\x18\x01" + b"\xa0\x01\x02")  # i: FLOAT, type: INT
    bytes_first = node("Pad", (INPUT, PADS), PADDED) + node("Cast", (PADDED,), FLOATS, to_float)
    return data.replace(bytes_first, node("Cast", (INPUT,), PADDED, to_float) + node("Pad", (PADDED, PADS), FLOATS))


def cached_engine(path: Path) -> Path:
    """The engine of an .onnx file in the cache folder; it is built if none there fits this machine."""
    library = find_tensorrt()
    trt, here = import_tensorrt(library), card()
    engine = cache_dir() / "engines" / f"{graph_sha256(path)[:16]}.engine"
    try:
        built = read_faces_sidecar(engine)[1] if is_finder(path) else read_sidecar(engine)[1]
        read_engine(engine, built)
        check_version(engine, built, trt.__version__)
        check_card(engine, built, here.name, here.compute_capability)
    except ModelError as error:
        engine.parent.mkdir(parents=True, exist_ok=True)
        _log.info("building an engine of %s for %s: %s", path.name, here.name, error)
        build_engine(EngineOptions(path, engine, library=library))
    return engine


def workspace_mb(options: EngineOptions, here: Card | None) -> int:
    """The builder's memory: as requested, or a share of what is free; raises DeviceError if that is too little."""
    if options.workspace_mb is not None:
        return options.workspace_mb
    return WORKSPACE_LIMIT_MB if here is None else fitted_workspace_mb(free_memory_mb())


def fitted_workspace_mb(free_mb: int) -> int:
    """A share of the GPU's free memory; raises DeviceError if that is too little."""
    fitted = min(WORKSPACE_LIMIT_MB, int(WORKSPACE_SHARE * free_mb))
    if fitted < LEAST_FREE_MB:
        raise DeviceError(
            f"the build needs {2 * LEAST_FREE_MB} MB of free GPU memory, got {free_mb} MB; close other programs that "
            "use the GPU"
        )
    return fitted


def _load_timings(trt: Any, config: Any, here: Card | None) -> Path | None:
    """Load the timings of earlier builds of this version on this GPU into the builder; returns the file that keeps them."""
    if is_rtx(trt) or here is None:
        return None  # TensorRT-RTX tunes at run time, not at build time
    folder = cache_dir() / "timings"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{trt.__name__}-{trt.__version__}-{here.name.replace(' ', '_')}.timings"
    config.set_timing_cache(config.create_timing_cache(file.read_bytes() if file.is_file() else b""), False)
    return file


def _monitor(trt: Any, bar: Any) -> Any:
    """TensorRT's progress as a progress bar with an estimate of the remaining time."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            bar.total = (bar.total or 0) + num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            bar.update(1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            bar.refresh()

    return Monitor()
