"""Training: recipes, what they train on, the loop, and what it will cost."""

from vocalsep.training.loop import fit

__all__ = ["fit"]
