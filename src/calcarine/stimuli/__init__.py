"""What the eye looks at: images, gratings, noise, crops of photographs, data sets."""

from __future__ import annotations

from calcarine.stimuli.datasets import (
    Digits,
    LabeledImage,
    NamedImages,
    StreamedImages,
    digits,
    named_images,
)
from calcarine.stimuli.digits_data import DigitsData
from calcarine.stimuli.dvs import events_from_frames
from calcarine.stimuli.event_files import read_events
from calcarine.stimuli.events import EventStream
from calcarine.stimuli.gratings import GratingSet, grating
from calcarine.stimuli.hyperspectral import HyperspectralScenes
from calcarine.stimuli.images import cover_image, load_image, save_image
from calcarine.stimuli.labeled_data import LabeledBatch, LabeledData
from calcarine.stimuli.light import luminance
from calcarine.stimuli.materials import material_spectra
from calcarine.stimuli.moving_disks import DiskTruth, MovingDisks, moving_disks
from calcarine.stimuli.named_data import NamedData
from calcarine.stimuli.natural import NaturalPatches
from calcarine.stimuli.noise import pink_noise, white_noise
from calcarine.stimuli.patches import ImagePatches
from calcarine.stimuli.patterns import OrientedGaussians, RandomGratings
from calcarine.stimuli.rgb_spectra import RgbSpectra
from calcarine.stimuli.samples import (
    HELD_OUT_SAMPLES,
    TRAINING_SAMPLES,
    sample_image,
    sample_image_names,
)
from calcarine.stimuli.scenes import SceneBatch, Scenes
from calcarine.stimuli.shapes import Bars, ThreeDotFaces
from calcarine.stimuli.sheet import Sheet
from calcarine.stimuli.spectral_leaves import SpectralLeaves

__all__ = [
    "HELD_OUT_SAMPLES",
    "TRAINING_SAMPLES",
    "Bars",
    "Digits",
    "DigitsData",
    "DiskTruth",
    "EventStream",
    "GratingSet",
    "HyperspectralScenes",
    "ImagePatches",
    "LabeledBatch",
    "LabeledData",
    "LabeledImage",
    "MovingDisks",
    "NamedData",
    "NamedImages",
    "NaturalPatches",
    "OrientedGaussians",
    "RandomGratings",
    "RgbSpectra",
    "SceneBatch",
    "Scenes",
    "Sheet",
    "SpectralLeaves",
    "StreamedImages",
    "ThreeDotFaces",
    "cover_image",
    "digits",
    "events_from_frames",
    "grating",
    "load_image",
    "luminance",
    "material_spectra",
    "moving_disks",
    "named_images",
    "pink_noise",
    "read_events",
    "sample_image",
    "sample_image_names",
    "save_image",
    "white_noise",
]
