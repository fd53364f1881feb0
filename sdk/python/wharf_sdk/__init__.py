"""Write Wharf DNS providers in Python. Everything but `host` is pure and runs anywhere."""

from . import batch, http, names, types
from .problem import Problem

__all__ = ["Problem", "batch", "http", "names", "types"]
