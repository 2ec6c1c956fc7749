"""This release: its version and its default model. This module imports nothing, so any other module can import it."""

__version__ = "0.1.0"
DEFAULT_MODEL = "duo"
