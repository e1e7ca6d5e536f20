"""Complete published models, one file per paper."""

from calcarine.models.kotani2024 import ColorVision

__all__ = ["ColorVision"]
