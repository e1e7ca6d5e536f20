"""Complete published models, one file per paper."""

from calcarine.models.kotani2024 import ColorVision
from calcarine.models.miikkulainen2005 import Lissom
from calcarine.models.portilla2000 import PortillaSimoncelli
from calcarine.models.relative_texture import RelativeTexture
from calcarine.models.stevens2013 import Gcal

__all__ = ["ColorVision", "Gcal", "Lissom", "PortillaSimoncelli", "RelativeTexture"]
