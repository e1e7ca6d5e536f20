"""Spectral dead leaves: scenes of measured surfaces under daylight, for any set of cones.

    cones(p) = gain(p) sum_lambda R_leaf(p) [share(p) sun + (1 - share(p)) d sky] fundamental
    sun, sky = daylight filter                 no filter unless lamps > 0, see _lamps.py
    gain     = exp(contrast a_leaf n(p) - b_leaf)       n: 1/f noise, a_leaf in [-1, 1], b_leaf >= 0
    R        = a measured reflectance, two dyes in layers, or a thin film

Sun and sky are CIE daylights of colour temperatures drawn anew for every scene, uniformly in 1/T;
a white surface in full sun has luminance 1, in the shadow d, drawn from [0.3, 1]. Light of the sky
takes over where the smooth map ``share`` falls, so shadows have a colour of their own.

Things have parts: most leaves have the material of the larger leaf that they are a part of, and
differ from it in brightness, by their tilt (b). So colour changes less from place to place than
brightness does: averages over 7 x 7 px keep 80 % of the variance of L - M and 69 % of that of
luminance; in the photographs of the samples it is 90 and 68 %.

Shapes come from a few tori of leaves drawn when the object is made; crops, mirrorings, materials,
lights and textures are drawn anew for every scene. Daylight is a sum of three spectra, so all a
draw needs of wavelengths is a table of materials x cone types x 3, and pixels look numbers up.
Filters multiply its size by their 31 nodes. A lamp is as bright as white daylight to the pigment to
which it is brightest, of all between 420 and 560 nm, so that it dazzles no cone.

Spectra of natural surfaces span more than three dimensions (maloney1986), which pictures in red,
green and blue cannot: a tetrachromat needs scenes like these. They are smooth, though, and a
pigment at 545 nm between L and M sees little that L and M do not tell. Root mean square of what is
new in its signal, where white is 1; photon noise of one cell is about 0.002:

    materials             545 nm    506 nm
    measured only         0.0012    0.0055
    and dyes (default)    0.0018    0.0086
    films=0.5             0.0039    0.0216
    films=1.0             0.0050    0.0284
    lamps=1.0             0.0035    0.0154
    lamps=3.0             0.0082    0.0269
    lamps=3.0, films=0.5  0.0092    0.0316
    lamps=3.0, films=1.0  0.0097    0.0388
    photographs           0.0001    0.0005       RgbSpectra, from changes of daylight alone

Axes    B batch | T cone types | H W rows down, columns right | M materials | C = T + 3 channels
Source  lee2001 (leaves), judd1964 (daylight), aces2016, cie2017 (surfaces); the rest is ours
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from calcarine.color import DAYLIGHT_RANGE_K, cie_1931, cone_fundamentals, daylights
from calcarine.color.tables import daylight_parts, daylight_weights
from calcarine.devices import send
from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_dtype, checked_size, is_count
from calcarine.stimuli._lamps import NODES, between_nodes, filters
from calcarine.stimuli._leaf_maps import cut_windows, leaf_map, unit_noise
from calcarine.stimuli.light import work_dtype
from calcarine.stimuli.materials import material_spectra
from calcarine.stimuli.scenes import DEFAULT_PEAKS_NM, SceneBatch, response_weights

__all__ = ["SpectralLeaves"]

_LEAST_SIDE = 256  # px of a torus
_THINGS = 3.0  # largest over smallest radius of the things that leaves are parts of. Ours
_SHADOW = (0.3, 1.0)  # luminance of a white surface in the light of the sky
_NOON_K = 6504.0  # daylight in which white looks white: D65
_METERED_NM = tuple(range(420, 561, 10))  # peaks of pigments, whoever looks
_SOFTNESS = 2.0  # how steeply light turns into shadow


class SpectralLeaves:
    """Endless scenes of leaves with measured reflectances under daylight.

    >>> leaves = SpectralLeaves(size=96)
    >>> eye = (560.0, 545.0, 530.0, 419.0)                        # a tetrachromat
    >>> batch = leaves.draw(8, torch.Generator().manual_seed(0), peaks_nm=eye)
    >>> batch.cones.shape, batch.linear.shape            # (8, 4, 96, 96), (8, 3, 96, 96)

    Args:
        size: Height and width of a scene [px], or one number for a square.
        radii_px: Least and largest half of the long axis of a leaf [px].
        coarseness: Factors on the least radius, in one torus after another: scenes with small
            leaves and scenes seen from close by.
        kinship: Share of the leaves that have the material of the larger leaf they are a part of.
        shading: Up to how much leaves are darkened by their tilt, a logarithm.
        materials: How many materials there are; see
            :func:`calcarine.stimuli.material_spectra`. Up to 289: measured ones only.
        films: Share of the materials that are thin films, which have the sharpest spectra.
        temperatures_k: Range of the colour temperatures of sun and sky within 4000..25000 K.
        lamps: How much the lights of a scene differ from daylight at every wavelength: standard
            deviation of the logarithm of the filters before sun and sky, drawn for every scene.
        texture: Contrast within the most textured leaves, as a standard deviation of the logarithm.
        tori: How many maps of leaves to draw from.
        seed: Seed of the tori and the materials, which are the same in every run.

    Raises:
        InputError: If a setting is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("lee2001", "judd1964", "aces2016", "cie2017")

    def __init__(
        self,
        *,
        size: int | tuple[int, int] = 64,
        radii_px: tuple[float, float] = (4.0, 80.0),
        coarseness: tuple[float, ...] = (1.0, 2.0, 4.0),
        kinship: float = 0.85,
        shading: float = 0.7,
        materials: int = 1024,
        films: float = 0.0,
        temperatures_k: tuple[float, float] = DAYLIGHT_RANGE_K,
        lamps: float = 0.0,
        texture: float = 0.3,
        tori: int = 12,
        seed: int = 0,
    ) -> None:
        self.size = checked_size("SpectralLeaves", size)
        self.radii_px, self.coarseness = radii_px, coarseness
        self.kinship, self.shading, self.temperatures_k = kinship, shading, temperatures_k
        self.materials, self.films, self.lamps = materials, films, lamps
        self.texture, self.tori, self.seed = texture, tori, seed
        self._check()
        generator = torch.Generator().manual_seed(seed)
        self._side = max(_LEAST_SIDE, *self.size)
        self._leaves, self._wholes = self._grow(generator)
        self._texture = unit_noise(tori, self._side, 1.0, generator)
        self._share = torch.sigmoid(_SOFTNESS * unit_noise(tori, self._side, 2.0, generator))
        self._tables: dict[tuple[tuple[float, ...], torch.device, torch.dtype], Tensor] = {}

    def _grow(
        self, generator: torch.Generator
    ) -> tuple[Int[Tensor, "P S S"], Int[Tensor, "P labels"]]:
        """Return the leaves of every torus, and the number of the thing each is a part of."""
        least, most = self.radii_px
        leaves, wholes = [], []
        for torus in range(self.tori):
            fine = least * self.coarseness[torus % len(self.coarseness)]
            seen, centres = leaf_map(self._side, (fine, most), generator)
            things, _ = leaf_map(self._side, (most / _THINGS, most), generator)
            leaves.append(seen.int())
            wholes.append(things.flatten()[centres])
        padded = pad_sequence(wholes, batch_first=True)
        missing = max(0, int(padded.max()) + 1 - padded.shape[1])
        return torch.stack(leaves), functional.pad(padded, (0, missing))

    def _check(self) -> None:
        least, most = self.radii_px
        if not 1 <= least < most <= _LEAST_SIDE / 2:
            raise InputError(
                "SpectralLeaves expected radii_px as a pair with 1 <= least < most <= "
                f"{_LEAST_SIDE // 2}, got {self.radii_px}."
            )
        if not self.coarseness or not all(1 <= c < most / least for c in self.coarseness):
            raise InputError(
                "SpectralLeaves expected coarseness as factors of at least 1 that leave the least "
                f"radius below the largest, got {self.coarseness} with radii_px={self.radii_px}."
            )
        cold, hot = self.temperatures_k
        if not DAYLIGHT_RANGE_K[0] <= cold <= hot <= DAYLIGHT_RANGE_K[1]:
            raise InputError(
                "SpectralLeaves expected temperatures_k as a pair (least, most) within "
                f"{DAYLIGHT_RANGE_K[0]:g}..{DAYLIGHT_RANGE_K[1]:g} K, got {self.temperatures_k}."
            )
        bounds = {"texture": 2, "shading": 2, "films": 1, "kinship": 1, "lamps": 3}
        for name, largest in bounds.items():
            if not 0 <= getattr(self, name) <= largest:
                raise InputError(
                    f"SpectralLeaves expected {name} within [0, {largest}], got "
                    f"{getattr(self, name)!r}."
                )
        for name in ("materials", "tori"):
            if not is_count(getattr(self, name)):
                raise InputError(
                    f"SpectralLeaves expected {name} as a whole number of at least 1, got "
                    f"{getattr(self, name)!r}."
                )

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        peaks_nm: tuple[float, ...] = DEFAULT_PEAKS_NM,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SceneBatch:
        """Draw scenes.

        Args:
            batch_size: How many.
            generator: Source of randomness, torch's default one if left out. Its state alone
                decides what is drawn.
            peaks_nm: Peaks of the eye's pigments, nm.
            dtype: Floating-point type, torch's default one if left out.
            device: Where to compute the scenes.

        Returns:
            Cone signals and linear sRGB; a white surface in full sun has luminance 1, or less
            under lamps.
        """
        if not is_count(batch_size):
            raise InputError(
                f"draw expected a batch size of at least 1 (a whole number), got {batch_size!r}."
            )
        dtype = checked_dtype("draw", dtype)
        device = torch.device("cpu" if device is None else device)
        chances = self._chances(batch_size, generator)
        chance, which, leaf_chance, glow = (send(each, device) for each in chances)
        work = work_dtype(dtype)
        self._move(device)
        which = self._kin(which, leaf_chance[2], chance[:, 3])
        table = self._table(peaks_nm, device, work)
        transmission = filters(glow.to(work), self.lamps) if self.lamps else glow.to(work)
        sun, sky = self._lights(table, transmission, chance[:, 0:2].to(work), chance[:, 2].to(work))
        amount = self.texture * (2 * leaf_chance[0].to(work) - 1)[..., None]
        tilt = (-self.shading * leaf_chance[1].to(work)).exp()[..., None]
        both = torch.cat([sky, sun - sky], -1)
        leaf = torch.cat([tilt * _pick(both, which), amount], -1)
        image = self._paint(leaf, chance[:, 3:]).to(dtype)
        return SceneBatch(image[:, :-3].contiguous(), image[:, -3:].contiguous())

    def _move(self, device: torch.device) -> None:
        """Keep the tori where scenes are computed."""
        self._leaves, self._wholes = self._leaves.to(device), self._wholes.to(device)
        self._share, self._texture = self._share.to(device), self._texture.to(device)

    def _kin(
        self, which: Int[Tensor, "B labels"], alone: Tensor, torus: Float[Tensor, " B"]
    ) -> Int[Tensor, "B labels"]:
        """Give most leaves the material of the thing they are a part of."""
        # The materials of the first labels stand for those of the things, of which there are few.
        whole = self._wholes[(torus * self.tori).long()]
        return torch.where(alone < self.kinship, which.gather(1, whole), which)

    def _table(
        self, peaks_nm: tuple[float, ...], device: torch.device, dtype: torch.dtype
    ) -> Float[Tensor, "M C 3 N"]:
        key = (peaks_nm, device, dtype)
        if key not in self._tables:
            made = _materials_under_daylight(
                peaks_nm, self.materials, self.films, self.seed, filtered=self.lamps > 0
            )
            self._tables[key] = made.to(device, dtype)
        return self._tables[key]

    def _chances(
        self, batch_size: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        where = "cpu" if generator is None else generator.device
        chance = torch.rand(batch_size, 15, generator=generator, dtype=torch.double, device=where)
        shape = (batch_size, self._wholes.shape[1])
        which = torch.randint(self.materials, shape, generator=generator, device=where)
        leaves = torch.rand(3, *shape, generator=generator, device=where)
        if not self.lamps:
            return chance, which, leaves, torch.ones(batch_size, 2, 1, device=where)
        glow = torch.randn(batch_size, 2, NODES, generator=generator, device=where)
        return chance, which, leaves, glow

    def _lights(
        self,
        table: Float[Tensor, "M C 3 N"],
        transmission: Float[Tensor, "B 2 N"],
        temperature: Float[Tensor, "B 2"],
        shadow: Float[Tensor, " B"],
    ) -> tuple[Float[Tensor, "B M C"], Float[Tensor, "B M C"]]:
        """Return all materials of every scene in the sun and in the light of the sky."""
        cold, hot = self.temperatures_k
        kelvin = 1 / (1 / hot + (1 / cold - 1 / hot) * temperature)
        weights = daylight_weights(kelvin)
        parts = weights[..., None] * transmission[:, :, None]
        meters = _meters(self.lamps > 0, parts.dtype, parts.device)
        parts = parts / torch.einsum("pkn,blkn->blp", meters, parts).amax(2)[..., None, None]
        under = torch.einsum("mckn,blkn->lbmc", table, parts)
        strength = _SHADOW[0] + (_SHADOW[1] - _SHADOW[0]) * shadow
        return under[0], under[1] * strength[:, None, None]

    def _paint(
        self, leaf: Float[Tensor, "B labels features"], chance: Float[Tensor, "B 12"]
    ) -> Float[Tensor, "B C H W"]:
        """Look up what the leaf at every pixel looks like, and lay light and texture over it."""
        batch, labels, features = leaf.shape
        height, width = self.size
        seen = cut_windows(self._leaves, self.size, chance[:, 0:4]).long()
        first = torch.arange(batch, device=leaf.device)[:, None, None] * labels
        pixels = leaf.flatten(0, 1)[(seen + first).flatten()]
        channels = (features - 1) // 2
        sky, more, amount = pixels.split([channels, channels, 1], -1)
        share = cut_windows(self._share, self.size, chance[:, 4:8]).to(leaf).view(-1, 1)
        noise = cut_windows(self._texture, self.size, chance[:, 8:12]).to(leaf).view(-1, 1)
        light = torch.addcmul(sky, more, share).mul_(noise.mul_(amount).exp_())
        return light.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _pick(table: Float[Tensor, "B M C"], which: Int[Tensor, "B labels"]) -> Tensor:
    return table.gather(1, which[..., None].expand(-1, -1, table.shape[-1]))


@lru_cache(maxsize=8)
def _materials_under_daylight(
    peaks_nm: tuple[float, ...], materials: int, films: float, seed: int, *, filtered: bool
) -> Float[Tensor, "M C 3 N"]:
    """Responses to every material under each part of daylight, by the node of a filter."""
    weights = response_weights(peaks_nm)
    spectra = material_spectra(materials, films=films, seed=seed)
    return torch.einsum("mw,cw,wkn->mckn", spectra, weights, _light_parts(filtered))


@lru_cache(maxsize=8)
def _meters(filtered: bool, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "P 3 N"]:
    """What light is measured by: luminance (P = 1); a lamp by pigments, that none is dazzled."""
    if filtered:
        sees = cone_fundamentals(_METERED_NM).T
        sees = sees / (sees @ daylights(torch.tensor(_NOON_K, dtype=sees.dtype)))[:, None]
    else:
        luminosity = cie_1931()[None, :, 1]
        sees = luminosity / luminosity.sum()
    return torch.einsum("pw,wkn->pkn", sees, _light_parts(filtered)).to(device, dtype)


def _light_parts(filtered: bool) -> Float[Tensor, "wavelengths 3 N"]:
    """Parts of daylight as they pass each node of a filter, or as they are (N = 1)."""
    parts = daylight_parts()[..., None]
    return parts * between_nodes()[:, None] if filtered else parts
