from ..runtime.faces.fetch import __doc__, add_arguments, run

__all__ = ["__doc__", "add_arguments", "run"]
