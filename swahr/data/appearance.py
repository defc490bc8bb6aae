"""Training augmentation of an image's appearance: light, colours, sharpness and missing parts."""

import cv2
import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "h w 3"]

_LARGEST = 0.3  # side of an erased rectangle / side of the image


class RandomAppearance:
    """Random light, colours and blur, and random rectangles replaced by one colour each.

    Light and colours keep black black, so that pixels outside the image stay what they are at test time.
    Keypoints under a rectangle stay labelled, like those behind other people (Zhong et al., Random Erasing
    Data Augmentation, AAAI 2020).

    Args:
        brightness: maximum change of the factor on all values.
        balance: maximum change of the factor on each channel, as by the light's colour.
        gamma: maximum change of the logarithm of the exponent, which changes contrast.
        saturation: maximum change of the factor on differences from grey.
        blur: maximum standard deviation of a Gaussian blur, pixels; half of the images stay sharp.
        erased: maximum number of rectangles, each with sides of at most 0.3 of the image's.

    Raises:
        ValueError: a value is negative, or a factor could become negative.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.4,
        balance: float = 0.1,
        gamma: float = 0.4,
        saturation: float = 0.5,
        blur: float = 1.5,
        erased: int = 3,
    ) -> None:
        factors = {"brightness": brightness, "balance": balance, "saturation": saturation}
        others = {"gamma": gamma, "blur": blur, "erased": erased}
        if any(not 0 <= value <= 1 for value in factors.values()) or any(v < 0 for v in others.values()):
            raise ValueError(
                f"expected {list(factors)} in [0, 1] and {list(others)} >= 0, got {factors | others}"
            )
        self.brightness, self.balance, self.gamma, self.saturation = brightness, balance, gamma, saturation
        self.blur, self.erased = blur, erased

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a changed copy."""
        factors = (1 + self.brightness * rng.uniform(-1, 1)) * (1 + self.balance * rng.uniform(-1, 1, size=3))
        values = np.linspace(0, 1, 256)[:, None] ** np.exp(self.gamma * rng.uniform(-1, 1)) * factors
        changed = cv2.LUT(image, (255 * values).round().clip(0, 255).astype(np.uint8)[None])
        share = 1 + self.saturation * rng.uniform(-1, 1)
        grey = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        changed = cv2.addWeighted(changed, share, grey, 1 - share, 0)
        blur = self.blur * rng.uniform(-1, 1)
        if blur > 0:
            changed = cv2.GaussianBlur(changed, (0, 0), blur)
        self._erase(changed, rng)
        return changed

    def _erase(self, image: Image, rng: np.random.Generator) -> None:
        size = np.array(image.shape[:2])
        for _ in range(rng.integers(self.erased + 1)):
            height, width = (size * rng.uniform(0, _LARGEST, size=2)).astype(int)
            top, left = rng.integers(size - (height, width))
            image[top : top + height, left : left + width] = rng.integers(256, size=3)
