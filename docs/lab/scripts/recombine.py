"""Make accompaniments from two songs of DSD100 Dev: the drums of one over bass and other instruments of the other.

    python docs/lab/scripts/recombine.py DSD100 OUT [--count 360] [--hold-out 6]

OUT can serve as a pool of instrumentals. The script leaves out the songs that a pool of DSD100 with the same `hold_out`
keeps for validation. The drums start anywhere and get the level of those they replace. Each stem's gain then varies
by up to 3 dB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from vocalsep.datasets import splits

_SILENT = 3e-3  # root mean square below which a stem is not used
_STEMS = ("bass", "drums", "other")


def compute_rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=360)
    parser.add_argument("--hold-out", type=int, default=6)
    options = parser.parse_args()
    tracks = splits.split_dataset("dsd100", options.root, every=options.hold_out).training
    songs, rates = [], set()
    for track in tracks:
        stems = {}
        for source in track.accompaniment:
            samples, rate = soundfile.read(source.path, dtype="float32", always_2d=True)
            stems[source.path.stem] = samples.T
            rates.add(rate)
        if stems.keys() == set(_STEMS):
            songs.append(stems)
    (rate,) = rates
    options.out.mkdir(parents=True, exist_ok=True)
    rng, count = np.random.default_rng(7), 0
    while count < options.count:
        one, two = (songs[place] for place in rng.choice(len(songs), 2, replace=False))
        if min(compute_rms(one["drums"]), compute_rms(two["other"])) < _SILENT:
            continue
        length = min(one["drums"].shape[1], two["other"].shape[1])
        wanted = compute_rms(two["drums"]) if compute_rms(two["drums"]) > _SILENT else compute_rms(one["drums"])
        gains = 10 ** (rng.uniform(-3, 3, size=3) / 20)
        drums = np.roll(one["drums"][:, :length], int(rng.integers(length)), axis=1)[:: rng.choice([-1, 1])]
        mixed = gains[0] * wanted / compute_rms(one["drums"]) * drums
        mixed = mixed + gains[1] * two["bass"][:, :length] + gains[2] * two["other"][:, :length]
        mixed = mixed / max(1.0, float(np.abs(mixed).max()) / 0.99)
        soundfile.write(options.out / f"{count:03d}.flac", mixed.T, rate)
        count += 1


if __name__ == "__main__":
    main()
