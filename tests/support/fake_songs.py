"""Songs made of noise, and untrained models, for tests of scores."""

from __future__ import annotations

from pathlib import Path

import fake_nets
import numpy as np

from vocalsep import weights
from vocalsep.evaluation.songs import Song
from vocalsep.features import FrontEnd


def make_noise_song(channels: int = 1, samples: int = 20_000, rate: int = 8_000) -> Song:
    return Song(np.stack([fake_nets.noise(channels, samples), fake_nets.noise(channels, samples, seed=1)]), rate)


def save_narrow_model(path: Path, seed: int = 0, front_end: FrontEnd = fake_nets.SMALL) -> str:
    made = fake_nets.random_unet(front_end, seed)
    weights.save(path, made.net, made.front_end, {"licence": "none"})
    return str(path)
