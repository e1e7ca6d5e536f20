"""The layout that CordsNet and its twin share."""

from __future__ import annotations

import pytest

from calcarine.models import CordsNet
from calcarine.models._cordsnet_layout import area_layouts
from calcarine.models.cordsnet_twin import CordsNetTwin


def test_areas_for_images_of_224_pixels_are_the_published_ones():
    layouts = area_layouts(8, (224, 224))
    assert [area.number for area in layouts] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [area.channels for area in layouts] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [area.below for area in layouts] == [64, 64, 64, 128, 128, 256, 256, 512]
    assert [area.size[0] for area in layouts] == [56, 56, 28, 28, 14, 14, 7, 7]
    assert [area.stride for area in layouts] == [1, 1, 2, 1, 2, 1, 2, 1]
    assert [area.skipped for area in layouts] == [0, 0, 0, 64, 0, 128, 0, 256]


@pytest.mark.parametrize("depth", [2, 4, 6, 8])
@pytest.mark.parametrize("size", [(17, 21), (64, 64), (255, 301)])
def test_network_and_twin_have_the_same_areas(depth, size):
    layouts = area_layouts(depth, size)
    network = CordsNet(depth=depth, classes=2, image_size=size)
    twin = CordsNetTwin(depth=depth, classes=2, image_size=size)
    for layout, area, flat in zip(layouts, network.areas, twin.areas, strict=True):
        assert area.size == flat.size == layout.size
        assert area.stride == flat.stride == layout.stride
        assert area.feedforward.weight.shape == flat.feedforward.weight.shape
        assert area.recurrent.weight.shape == flat.kernel().shape
    for number in range(2, depth + 1, 2):
        skips = (getattr(net, f"skip{number}").weight.shape for net in (network, twin))
        assert next(skips) == next(skips)
