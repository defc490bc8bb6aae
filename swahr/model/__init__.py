"""Networks: images in, named maps out."""

from swahr.model.higherhrnet import HigherHRNet

__all__ = ["HigherHRNet"]
