from ..export.to_onnx import __doc__, add_arguments, run

__all__ = ["__doc__", "add_arguments", "run"]
