"""Networks: images in, named maps out."""

from swahr.model.folding import fold_batch_norm
from swahr.model.higherhrnet import HigherHRNet
from swahr.model.recompute import recompute_activations

__all__ = ["HigherHRNet", "fold_batch_norm", "recompute_activations"]
