from ..research.studies.carry_out import __doc__, add_arguments, run

__all__ = ["__doc__", "add_arguments", "run"]
