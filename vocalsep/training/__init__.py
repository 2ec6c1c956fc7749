"""Train nets: read recipes, open recordings, estimate the cost, and run the loop."""

from vocalsep.training.loop import Status, fit

__all__ = ["Status", "fit"]
