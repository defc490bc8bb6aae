"""Networks: images in, named maps out."""

from swahr.model.folding import fold_batch_norm
from swahr.model.higherhrnet import HigherHRNet

__all__ = ["HigherHRNet", "fold_batch_norm"]
