"""Data sets: tracks with stems, splits that do not leak, and random excerpts for training."""
