"""Data sets: tracks with stems, splits that do not leak, and a cache of decoded recordings."""
