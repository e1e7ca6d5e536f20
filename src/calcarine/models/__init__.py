"""Complete published models, one file per paper."""

from calcarine.models.kotani2024 import ColorVision
from calcarine.models.portilla2000 import PortillaSimoncelli
from calcarine.models.relative_texture import RelativeTexture

__all__ = ["ColorVision", "PortillaSimoncelli", "RelativeTexture"]
