"""swahr: bottom-up multi-person pose estimation with scale- and weight-adaptive heatmap regression.

>>> from swahr import Predictor  # doctest: +SKIP
>>> poses = Predictor.from_pretrained()("street.jpg")  # doctest: +SKIP
"""

from swahr.checkpoint import load_checkpoint
from swahr.draw.poses import draw_poses
from swahr.images import read_image
from swahr.predictor import Predictor
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import Poses

__version__ = "0.1.0"
__all__ = [
    "COCO",
    "CROWDPOSE",
    "Poses",
    "Predictor",
    "Skeleton",
    "__version__",
    "draw_poses",
    "load_checkpoint",
    "read_image",
]
