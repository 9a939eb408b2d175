"""Graphs in ONNX Runtime: on the CPU, on CUDA with inputs and outputs in GPU memory, or through its TensorRT provider."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DeviceError, ModelError
from ..places import cache_dir
from .session import Array, SessionFacts, Tensor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDER = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# This optimizer would replace float layers of an INT8 file, kept because INT8 costs them years, by int8 weights with one scale per layer.
NOT_WANTED = ["WeightBiasQuantization"]
MAX_CUDA_BATCHES = 16  # batch sizes whose buffers and CUDA graph are kept
TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxGraph:
    """A graph in ONNX Runtime; several threads may call `run` at once.

    keep_on_card: with CUDA, bind inputs and outputs to GPU memory, and replay a CUDA graph for each number of crops; for graphs
    with one input and outputs of fixed sizes. Threads then take turns, because they share that memory.
    """

    def __init__(self, path: Path, device: str, threads: int | None, keep_on_card: bool = False) -> None:
        """Raises DeviceError if the device is not available, ModelError if the library cannot open the file."""
        import onnxruntime as ort

        check_offered(device, ort.get_available_providers())
        session = _open(ort, path, device, threads, keep_on_card)
        self._library, self._session = ort, session
        running = session.get_providers()
        if device != "cpu" and PROVIDER[device] not in running:
            raise DeviceError(
                f"device {device}: {PROVIDER[device]} failed to start and {running[0]} took its place; check the driver "
                "with nvidia-smi, or use --device cpu"
            )
        self.facts = SessionFacts("onnxruntime", ort.__version__, device, threads)
        self.inputs, self.outputs = (
            {t.name: _tensor(t) for t in tensors} for tensors in (session.get_inputs(), session.get_outputs())
        )
        self._bound: dict[int, _Bound] | None = {} if keep_on_card and device != "cpu" else None
        self._turn = threading.Lock()

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The outputs of these names, in this order, as new arrays."""
        if self._bound is None:
            return [np.asarray(answer) for answer in self._opened().run(list(outputs), dict(feeds))]
        with self._turn:
            return self._run_bound(self._bound, feeds, outputs)

    def close(self) -> None:
        """Free memory and threads; the graph cannot run afterwards."""
        with self._turn:
            self._session, self._bound = None, None if self._bound is None else {}

    def _opened(self) -> InferenceSession:
        if self._session is None:
            raise ModelError("the model is closed; open it again with numclip.load")
        return self._session

    def _run_bound(self, kept: dict[int, _Bound], feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run with input and outputs bound to GPU memory; each batch size has its own memory and CUDA graph."""
        ((name, array),) = feeds.items()
        n = len(array)
        bound = kept.get(n)
        if bound is None:
            if len(kept) >= MAX_CUDA_BATCHES:
                kept.pop(next(iter(kept)))
            bound = kept[n] = _Bound(self._library, self._opened(), name, array, self.outputs)
        bound.input.update_inplace(array)
        self._opened().run_with_iobinding(bound.binding, bound.options)
        return [bound.outputs[output].numpy() for output in outputs]


class _Bound:
    """GPU memory for one batch size."""

    def __init__(self, ort: Any, session: Any, name: str, array: Array, outputs: Mapping[str, Tensor]) -> None:
        self.input = ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
        self.outputs = {
            output: ort.OrtValue.ortvalue_from_shape_and_type([len(array), *tensor.sizes], np.float32, "cuda", 0)
            for output, tensor in outputs.items()
        }
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input(name, self.input)
        for output, value in self.outputs.items():
            self.binding.bind_ortvalue_output(output, value)
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("gpu_graph_id", str(len(array)))  # one CUDA graph per batch size


def _open(ort: Any, path: Path, device: str, threads: int | None, keep_on_card: bool) -> Any:
    reason = ""
    for providers in provider_lists(device, ort.__version__, keep_on_card):
        try:
            return ort.InferenceSession(
                str(path), _options(ort, threads), providers=providers, disabled_optimizers=NOT_WANTED
            )
        except Exception as error:  # onnxruntime's exceptions have no common base class
            reason = str(error).splitlines()[0][:200]
    raise ModelError(f"{path}: ONNX Runtime {ort.__version__} cannot open the graph ({reason}); export it again")


def offers_cuda() -> bool:
    """Whether this ONNX Runtime is built for CUDA; whether there is a GPU shows only when it starts."""
    import onnxruntime as ort

    return PROVIDER["cuda"] in ort.get_available_providers()


def check_offered(device: str, offered: list[str]) -> None:
    """Raise DeviceError if this ONNX Runtime does not offer the device."""
    if PROVIDER[device] in offered:
        return
    line = 'pip install "numclip[gpu]" in place of numclip[cpu]'
    if device == "tensorrt":
        raise DeviceError(
            "device tensorrt: needs the package tensorrt or an onnxruntime with TensorrtExecutionProvider, but this "
            f'onnxruntime offers {", ".join(offered)}; run: pip install tensorrt "numclip[tensorrt]" (on a Jetson TensorRT '
            f"is a system package: python -m venv --system-site-packages), or {line}, or use --device cpu"
        )
    raise DeviceError(
        f"device {device}: needs {PROVIDER[device]}, but this onnxruntime offers {', '.join(offered)}; {line}, "
        "or use --device cpu"
    )


def _options(ort: Any, threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return options


def provider_lists(device: str, version: str, keep_on_card: bool = True) -> list[list[Any]]:
    """The provider lists to try, in order: first with a CUDA graph, then without, for graphs that do not run entirely on the GPU."""
    cuda = [(PROVIDER["cuda"], {"enable_cuda_graph": "1", "use_tf32": "0"}), PROVIDER["cpu"]]
    plain = [(PROVIDER["cuda"], {"use_tf32": "0"}), PROVIDER["cpu"]]
    if device == "cpu":
        return [[PROVIDER["cpu"]]]
    if device == "cuda":
        return [cuda, plain] if keep_on_card else [plain]
    folder = cache_dir() / f"tensorrt-onnxruntime-{version}"  # engines and timings are valid for one version only
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": "0",  # the graph itself states its types
    }
    return [[(PROVIDER["tensorrt"], options), *plain]]


def _tensor(found: Any) -> Tensor:
    sizes = tuple(size if isinstance(size, int) else None for size in found.shape[1:])
    return Tensor(TYPES.get(str(found.type), str(found.type)), sizes)
