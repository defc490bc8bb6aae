"""Training procedures beyond that of bottom-up networks, chosen by ``training=…``."""

from swahr.procedures.adversarial import AdversarialModule, AdversarialPersonModule
from swahr.procedures.person import PersonModule
from swahr.procedures.sstn import SstnModule

__all__ = ["AdversarialModule", "AdversarialPersonModule", "PersonModule", "SstnModule"]
