"""Complete published models, one file per paper."""

from calcarine.models.cordsnet_twin import CordsNetTwin
from calcarine.models.disk_velocity import Detections, DiskReadout, DiskVelocityNet
from calcarine.models.kotani2024 import ColorVision
from calcarine.models.miikkulainen2005 import Lissom
from calcarine.models.portilla2000 import PortillaSimoncelli
from calcarine.models.relative_texture import RelativeTexture
from calcarine.models.soo2024 import CordsNet, CordsNetState, Equilibrium
from calcarine.models.spiking_classifier import SpikingClassifier, SpikingResponse
from calcarine.models.stevens2013 import Gcal

__all__ = [
    "ColorVision",
    "CordsNet",
    "CordsNetState",
    "CordsNetTwin",
    "Detections",
    "DiskReadout",
    "DiskVelocityNet",
    "Equilibrium",
    "Gcal",
    "Lissom",
    "PortillaSimoncelli",
    "RelativeTexture",
    "SpikingClassifier",
    "SpikingResponse",
]
