"""Build a TensorRT engine from a model file, on the device that will run it.

The graph's types are taken as they are: build FP16 from `numclip export --precision fp16`, INT8 from `numclip quantize --flavour
tensorrt`. Batches of 1 to --max-batch run without building again. The engine is a cache for this card and this version: beside
it lies FILE.engine.json, which says what they are, and the engine is refused where they are not. With TensorRT-RTX and
--targets it is compiled on any machine, without a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...deploy.triton import write_repository
from ...errors import DeviceError, ModelError, UsageError
from ..contract.faces_spec import CANDIDATES, INPUT, FacesSpec
from ..contract.model_file import graph_sha256, is_finder, read_faces_spec, read_spec, resolve
from ..contract.spec import ModelSpec
from ..places import cache_dir, write_whole
from .cuda_device import Card, card, jetpack
from .engine_file import Built, check_card, check_version, read_engine, read_faces_sidecar, read_sidecar, write_engine
from .tensorrt_versions import (
    PACKAGES,
    find_tensorrt,
    import_tensorrt,
    is_rtx,
    new_network,
    quiet_logger,
    set_portability,
    use_full_float32,
)

MAX_BATCH, USUAL_BATCH = 32, 4
MAX_PICTURES, MAX_SIDE_PX, USUAL_SIDES_PX, LEAST_SIDE_PX = 4, 1920, (480, 864), 32  # of a face finder's pictures
WORKSPACE_SHARE, WORKSPACE_LIMIT_MB = 0.5, 4096  # of the free memory, and in all
LEAST_FREE_MB = 64


@dataclass(frozen=True)
class Wish:
    """How an engine is to be built."""

    max_batch: int = MAX_BATCH
    workspace_mb: int | None = None  # None: fitted to the free memory
    versions: bool = False  # run with later versions of the library
    hardware: bool = False  # run on later cards
    targets: tuple[int, ...] = ()  # compute capabilities times ten, for TensorRT-RTX without a card
    max_side_px: int = MAX_SIDE_PX  # the longest side of a picture, for a face finder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip engine`."""
    parser.add_argument("model", metavar="MODEL", help="a model's name or .onnx")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.engine", help="the engine to write")
    parser.add_argument(
        "--max-batch",
        type=int,
        help=f"the most faces in one call ({MAX_BATCH}), or pictures for a face finder ({MAX_PICTURES})",
    )
    parser.add_argument(
        "--max-side", type=int, default=MAX_SIDE_PX, metavar="PX", help="longest side of a picture, for a face finder"
    )
    parser.add_argument("--workspace-mb", type=int, help="memory for building; by default half of what is free")
    parser.add_argument(
        "--library", choices=PACKAGES, help="by default TensorRT where it is installed, else TensorRT-RTX"
    )
    parser.add_argument("--version-compatible", action="store_true", help="run with later versions too; larger, slower")
    parser.add_argument("--hardware-compatible", action="store_true", help="run on later cards too (TensorRT)")
    parser.add_argument(
        "--targets", type=_targets, default=(), metavar="86,89", help="cards to compile for, without one (TensorRT-RTX)"
    )
    parser.add_argument("--triton", type=Path, metavar="DIR", help="also write a Triton model repository there")


def run(args: argparse.Namespace) -> int:
    """Build, write, and say what to type next."""
    if args.max_batch is not None and args.max_batch < 1:
        raise UsageError(f"expected --max-batch of at least 1, got {args.max_batch}")
    if args.max_side < LEAST_SIDE_PX:
        raise UsageError(f"expected --max-side of at least {LEAST_SIDE_PX}, got {args.max_side}")
    if args.out.suffix != ".engine":
        raise UsageError(f"expected --out FILE.engine, got {args.out}")
    path = resolve(args.model)
    spec = read_faces_spec(path) if is_finder(path) else read_spec(path)
    max_batch = args.max_batch or (MAX_PICTURES if isinstance(spec, FacesSpec) else MAX_BATCH)
    wish = Wish(
        max_batch, args.workspace_mb, args.version_compatible, args.hardware_compatible, args.targets, args.max_side
    )
    built = build(path, spec, args.out, wish, args.library)
    cards = ", ".join(built.compute_capabilities)
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {built.library} {built.version}, for {built.gpu or 'cards of'} "
        f"{cards}, up to {built.max_batch} {'pictures' if isinstance(spec, FacesSpec) else 'faces'}"
    )
    if isinstance(spec, FacesSpec):
        if args.triton:
            raise UsageError("expected --triton with a model that reads crops, this is a face finder; leave it out")
        print(f"next: numclip run 0 --detector {args.out} --device tensorrt")
        return 0
    if args.triton:
        print(f"{write_repository(args.triton, args.out, spec, max_batch)}: a Triton model")
    print(f"next: numclip verify {args.model} {args.out} --data DATA")
    return 0


def build(path: Path, spec: ModelSpec | FacesSpec, out: Path, wish: Wish, library: str | None = None) -> Built:
    """Build the engine of an .onnx and write it with its sidecar; raises DeviceError, ModelError."""
    if isinstance(spec, ModelSpec) and spec.graph.flavour == "cpu":
        raise ModelError(
            f"{path}: expected an INT8 file of flavour tensorrt, this one is for CPUs; numclip quantize --flavour tensorrt"
        )
    trt = import_tensorrt(library)
    here = None if wish.targets else card()
    data, flags = compile_graph(trt, path, spec, wish, here)
    capabilities = [f"{t // 10}.{t % 10}" for t in wish.targets] if here is None else [here.compute_capability]
    built = Built(
        graph_sha256=graph_sha256(path),
        engine_sha256=hashlib.sha256(data).hexdigest(),
        library=trt.__name__,
        version=trt.__version__,
        gpu=None if here is None else here.name,
        compute_capabilities=tuple(capabilities),
        cuda=None if here is None else here.cuda,
        driver=None if here is None else here.driver,
        jetpack=jetpack(),
        max_batch=wish.max_batch,
        flags=tuple(flags),
    )
    write_engine(out, data, spec, built)
    return built


def compile_graph(
    trt: Any, path: Path, spec: ModelSpec | FacesSpec, wish: Wish, here: Card | None
) -> tuple[bytes, list[str]]:
    """The serialized engine and the portability flags that were set."""
    logger = quiet_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # what the bindings make of a builder that could not start
        raise DeviceError(f"expected {trt.__name__} to start, it does not; check the driver with nvidia-smi") from None
    network, parser = parsed(trt, builder, logger, path)
    config = builder.create_builder_config()
    use_full_float32(trt, config)
    flags = set_portability(trt, config, versions=wish.versions, hardware=wish.hardware, targets=wish.targets)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb(wish, here) * 2**20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # layer names and types, for the inspector
    if isinstance(spec, FacesSpec):
        stop_at_candidates(network)
        profile = pictures_profile(builder, wish.max_batch, wish.max_side_px)
    else:
        profile = faces_profile(builder, spec, wish.max_batch)
    config.add_optimization_profile(profile)
    cache_file = _load_timings(trt, config, here)
    with tqdm(desc="engine", unit="step", leave=False, disable=None, file=sys.stderr) as bar:
        monitor = _monitor(trt, bar)  # kept until the end: the builder holds no reference of its own
        config.progress_monitor = monitor
        data = builder.build_serialized_network(network, config)
    del parser  # the network's weights live in it until here
    if data is None:
        said = logger.errors[-1][:300] if logger.errors else "it gives no reason"
        raise ModelError(f"{path}: {trt.__name__} {trt.__version__} cannot build it ({said}); export it again")
    if cache_file is not None and (timings := config.get_timing_cache()) is not None:
        write_whole(cache_file, bytes(timings.serialize()))
    return bytes(data), flags


def faces_profile(builder: Any, spec: ModelSpec, max_batch: int) -> Any:
    """The optimization profile: 1 to `max_batch` faces, best at a few."""
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
    """End a face finder's network before its suppression, which follows on the CPU: all its shapes are known then."""
    tensors: dict[str, Any] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        tensors |= {layer.get_output(o).name: layer.get_output(o) for o in range(layer.num_outputs)}
    for output in [network.get_output(i) for i in range(network.num_outputs)]:
        network.unmark_output(output)
    for name in CANDIDATES:
        network.mark_output(tensors[name])


def parsed(trt: Any, builder: Any, logger: Any, path: Path) -> tuple[Any, Any]:
    """The network of an .onnx, and the parser, in which its weights live; raises ModelError with the parser's own words."""
    network = new_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        said = " ".join(parser.get_error(0).desc().split()) if parser.num_errors else "it gives no reason"
        raise ModelError(
            f"{path}: {trt.__name__} {trt.__version__} does not read this graph ({said[:300]}); export it again"
        )
    return network, parser


def cached_engine(path: Path, spec: ModelSpec | FacesSpec) -> Path:
    """The engine of an .onnx in the cache folder, built now where there is none that fits this machine."""
    library = find_tensorrt()
    trt, here = import_tensorrt(library), card()
    engine = cache_dir() / "engines" / f"{graph_sha256(path)[:16]}.engine"
    try:
        _, built = read_faces_sidecar(engine) if isinstance(spec, FacesSpec) else read_sidecar(engine)
        read_engine(engine, built)
        check_version(engine, built, trt.__version__)
        check_card(engine, built, here.name, here.compute_capability)
    except ModelError as error:
        engine.parent.mkdir(parents=True, exist_ok=True)
        print(f"numclip: building an engine of {path.name} for {here.name}: {error}", file=sys.stderr)
        build(path, spec, engine, Wish(MAX_PICTURES) if isinstance(spec, FacesSpec) else Wish(), library)
    return engine


def workspace_mb(wish: Wish, here: Card | None) -> int:
    """The builder's memory: as wished, else fitted to what is free; raises DeviceError where that is too little."""
    if wish.workspace_mb is not None:
        return wish.workspace_mb
    if here is None:
        return WORKSPACE_LIMIT_MB
    fitted = min(WORKSPACE_LIMIT_MB, int(WORKSPACE_SHARE * here.free_mb))
    if fitted < LEAST_FREE_MB:
        raise DeviceError(
            f"expected {2 * LEAST_FREE_MB} MB of free GPU memory, got {here.free_mb}; close other programs"
        )
    return fitted


def _load_timings(trt: Any, config: Any, here: Card | None) -> Path | None:
    """Give the builder the timings of earlier builds of this version on this card; returns where they are kept."""
    if is_rtx(trt) or here is None:
        return None  # TensorRT-RTX times when it runs, not when it builds
    folder = cache_dir() / "timings"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{trt.__name__}-{trt.__version__}-{here.name.replace(' ', '_')}.timings"
    config.set_timing_cache(config.create_timing_cache(file.read_bytes() if file.is_file() else b""), False)
    return file


def _monitor(trt: Any, bar: Any) -> Any:
    """TensorRT's progress as a bar, which estimates what is left."""

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


def _targets(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected compute capabilities as 86,89, got {text!r}") from None
