"""The appearance of people: colours, clothes and patterns. It is the same on the left and right side."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

_LIMB_PARTS = (
    "upper_arm", "sleeve", "forearm", "cuff", "hand", "thigh", "breeches", "shin", "trouser", "foot", "ear",
)  # fmt: skip
PARTS = (
    *("neck", "chest", "pelvis", "skirt", "head", "face", "hair", "hat"),
    *(f"{side}_{part}" for side in ("left", "right") for part in _LIMB_PARTS),
)
"""The parts of a person; ``head`` is the skull with short hair, ``hair`` is long hair."""
PART: dict[str, int] = {name: i for i, name in enumerate(PARTS)}

SKIN, UPPER, LOWER, HAIR, SHOES = range(5)
_MATERIAL_PARTS = {
    UPPER: ("chest", "sleeve", "cuff"),
    LOWER: ("pelvis", "skirt", "breeches", "trouser"),
    HAIR: ("head", "hair", "hat"),
    SHOES: ("foot",),
}


def parts_called(*names: str) -> list[int]:
    """Indices of the parts with these names, on both sides of the body."""
    return [i for i, part in enumerate(PARTS) if part.removeprefix("left_").removeprefix("right_") in names]


MATERIALS = np.full(len(PARTS), SKIN)
for _material, _names in _MATERIAL_PARTS.items():
    MATERIALS[parts_called(*_names)] = _material

_SKINS = np.array(
    [
        [242, 208, 184], [232, 190, 160], [224, 172, 138], [205, 150, 115], [181, 128, 92], [150, 102, 72],
        [116, 76, 54], [88, 58, 44], [238, 196, 172], [214, 164, 126],
    ]
)  # fmt: skip
_HAIRS = np.array(
    [
        [28, 24, 22], [44, 32, 26], [70, 48, 34], [104, 70, 44], [150, 110, 66], [196, 160, 104],
        [150, 148, 146], [120, 56, 34],
    ]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outfits:
    """The appearance of ``p`` people.

    Attributes:
        colours: RGB of every part.
        second: RGB of the pattern on the upper and the lower garment.
        pattern: index of the pattern of each garment; -1 for none.
        pattern_size: period of the pattern, in statures.
        sleeve, cuff, breeches, trouser: covered fraction of upper arm, forearm, thigh and shin.
        skirt: position of the hem: 1 at the knee, 2 at the ankle, 0 for no skirt.
        hair: length of long hair in statures; 0 for short hair.
        hairline: half angle of the face in degrees.
        glasses, hat: whether the person wears them.
        waist: width of the waist relative to an average one.
    """

    colours: UInt8[np.ndarray, "p parts 3"]
    second: UInt8[np.ndarray, "p 2 3"]
    pattern: Int64[np.ndarray, "p 2"]
    pattern_size: Float64[np.ndarray, "p 2"]
    sleeve: Float64[np.ndarray, " p"]
    cuff: Float64[np.ndarray, " p"]
    breeches: Float64[np.ndarray, " p"]
    trouser: Float64[np.ndarray, " p"]
    skirt: Float64[np.ndarray, " p"]
    hair: Float64[np.ndarray, " p"]
    hairline: Float64[np.ndarray, " p"]
    glasses: Bool[np.ndarray, " p"]
    hat: Bool[np.ndarray, " p"]
    waist: Float64[np.ndarray, " p"]


def sample_outfits(rng: np.random.Generator, count: int, num_patterns: int) -> Outfits:
    """Sample the appearance of ``count`` people; pattern indices are below ``num_patterns``."""
    colours, second = _sample_colours(rng, count)
    sleeve_kind, leg_kind = rng.random(count), rng.random(count)
    sleeve = np.select([sleeve_kind < 0.12, sleeve_kind < 0.55], [0.0, rng.uniform(0.4, 0.85, count)], 1.0)
    long_trousers, shorts = leg_kind < 0.62, leg_kind < 0.84
    breeches = np.select([long_trousers, shorts], [1.0, rng.uniform(0.4, 0.95, count)], 0.25)
    return Outfits(
        colours=colours,
        second=second,
        pattern=np.where(
            rng.random((count, 2)) < (0.55, 0.25), rng.integers(0, num_patterns, (count, 2)), -1
        ),
        pattern_size=np.exp(rng.uniform(np.log(0.12), np.log(0.6), (count, 2))),
        sleeve=sleeve,
        cuff=np.where(sleeve == 1.0, rng.uniform(0.45, 0.98, count), 0.0),
        breeches=breeches,
        trouser=np.where(long_trousers, rng.uniform(0.7, 0.98, count), 0.0),
        skirt=np.where(shorts, 0.0, rng.uniform(0.5, 1.7, count)),
        hair=np.where(rng.random(count) < 0.38, rng.uniform(0.05, 0.2, count), 0.0),
        hairline=rng.uniform(62, 84, count),
        glasses=rng.random(count) < 0.12,
        hat=rng.random(count) < 0.14,
        waist=rng.uniform(0.82, 1.12, count),
    )


def _sample_colours(
    rng: np.random.Generator, count: int
) -> tuple[UInt8[np.ndarray, "p parts 3"], UInt8[np.ndarray, "p 2 3"]]:
    skin = _SKINS[rng.integers(0, len(_SKINS), count)] * rng.uniform(0.9, 1.05, (count, 1))
    hair = _HAIRS[rng.integers(0, len(_HAIRS), count)] * rng.uniform(0.8, 1.2, (count, 1))
    cloth = _cloth_colours(rng, count * 6).reshape(count, 6, 3)
    dress = rng.random(count) < 0.12
    lower = np.where(dress[:, None], cloth[:, 0], cloth[:, 1])
    by_material = np.stack([skin, cloth[:, 0], lower, hair, cloth[:, 2] * 0.8], axis=1)
    colours = by_material[:, MATERIALS]
    colours[:, PART["hat"]] = cloth[:, 3]
    return colours.clip(8, 250).astype(np.uint8), cloth[:, 4:].clip(8, 250).astype(np.uint8)


def _cloth_colours(rng: np.random.Generator, count: int) -> Float64[np.ndarray, "n 3"]:
    """RGB colours of garments; half of them are nearly grey, black or white."""
    muted = rng.random(count) < 0.5
    saturation = np.where(muted, rng.uniform(0, 50, count), rng.uniform(70, 220, count))
    hsv = np.stack([rng.uniform(0, 180, count), saturation, rng.uniform(30, 245, count)], axis=1)
    rgb = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
    return np.asarray(rgb, dtype=np.float64)
