"""Other backbones than HRNet for `swahr.model.HigherHRNet`."""

from swahr.backbones.efficientnet import EfficientNetLite

__all__ = ["EfficientNetLite"]
