"""Train nets: read recipes, open recordings, estimate the cost, and run the loop."""

from vocalsep.training.loop import fit

__all__ = ["fit"]
