"""This release: its version and its default model. It lies below everything else, so that no import runs upwards."""

__version__ = "0.1.0"
DEFAULT_MODEL = "uhnet-hd"
