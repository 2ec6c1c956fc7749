"""Prints the tables of rates, channels and formats in docs/speed.md: how fast songs are extracted, in how much memory.

    python tests/bench/matrix.py [--minutes 1] [--model uhnet-hd]

Each cell is one run of the command in a process of its own: times real time, without starting Python and loading the
model, and the process's peak memory in MiB. The song is the demo song over and over, resampled, its channels repeated.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import cells
import speed

from vocalsep import DEFAULT_MODEL, audio

RATES = (8_000, 16_000, 44_100, 48_000, 96_000, 192_000)
CHANNELS = (1, 2, 6)
USUAL = (44_100, 48_000)


def song(rate: int, channels: int, minutes: float) -> cells.Array:
    samples, own = soundfile.read(speed.DEMO, dtype="float32", always_2d=True)
    once = audio.resample(torch.from_numpy(samples.T), own, rate).numpy()
    count = round(minutes * 60 * rate)
    whole = np.tile(once, (1, -(-count // once.shape[-1])))[:, :count]
    return np.stack([whole[channel % len(whole)] for channel in range(channels)]).clip(-1, 1)


def cell(path: Path, model: str, out: str = "wav") -> str:
    report, _ = speed.run(path, model, "phase", out)
    return f"{report['times_real_time']:.1f}; {report['peak_memory_mb']:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, {options.minutes:g} min, model {options.model}\n")
    print(f"| wav of 16 bits, channels | {' | '.join(f'{rate / 1_000:g} kHz' for rate in RATES)} |")
    print("|---" * (1 + len(RATES)) + "|")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "song"
        for channels in CHANNELS:
            row = []
            for rate in RATES:
                assert cells.written(path, "WAV PCM_16", rate, song(rate, channels, options.minutes))
                row.append(cell(path, options.model))
            print(f"| {channels} | {' | '.join(row)} |", flush=True)
        songs = {rate: song(rate, 2, options.minutes) for rate in USUAL}
        print(f"\n| read, stereo | {' | '.join(f'{rate / 1_000:g} kHz' for rate in USUAL)} |\n|---|---|---|")
        for heading, kinds in cells.IN.items():
            made = [
                cells.written(path, kinds.kinds[0], rate, songs[rate]) and cell(path, options.model) for rate in USUAL
            ]
            print(f"| {heading} | {' | '.join(found or '-' for found in made)} |", flush=True)
        print(f"\n| written, stereo | {' | '.join(f'{rate / 1_000:g} kHz' for rate in USUAL)} |\n|---|---|---|")
        for heading, kinds in cells.OUT.items():
            ending = kinds.kinds[0].split()[0]
            made = []
            for rate in USUAL:
                assert cells.written(path, "WAV PCM_16", rate, songs[rate])
                made.append(cell(path, options.model, ending))
            print(f"| {heading} | {' | '.join(made)} |", flush=True)


if __name__ == "__main__":
    main()
