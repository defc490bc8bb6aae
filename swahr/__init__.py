"""swahr: bottom-up multi-person pose estimation with scale- and weight-adaptive heatmap regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swahr.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Predictor` when it is first asked for, so that ``import swahr`` stays quick."""
    if name == "Predictor":
        from swahr.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'swahr' has no attribute '{name}'")
