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
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import format_matrix
import speed

from vocalsep import audio
from vocalsep.release import DEFAULT_MODEL

RATES = (8_000, 16_000, 44_100, 48_000, 96_000, 192_000)
CHANNELS = (1, 2, 6)
USUAL = (44_100, 48_000)


def song(rate: int, channels: int, minutes: float) -> format_matrix.Array:
    """``(channel, time)``, within full scale."""
    samples, own = soundfile.read(speed.DEMO, dtype="float32", always_2d=True)
    once = audio.resample(torch.from_numpy(samples.T), own, rate).numpy()
    count = round(minutes * 60 * rate)
    whole = np.tile(once, (1, -(-count // once.shape[-1])))[:, :count]
    return np.stack([whole[channel % len(whole)] for channel in range(channels)]).clip(-1, 1)


def cell(path: Path | None, model: str, out: str = "wav") -> str:
    """What extracting from a song costs; "-" where there is no such song."""
    if path is None:
        return "-"
    report, _ = speed.run(path, model, "phase", out)
    return f"{report['times_real_time']:.1f}; {report['peak_memory_mb']:.0f}"


def line(heading: object, found: Iterable[str]) -> None:
    print(f"| {heading} | {' | '.join(found)} |", flush=True)


def head(heading: str, rates: tuple[int, ...]) -> None:
    print()
    line(heading, [f"{rate / 1_000:g} kHz" for rate in rates])
    print("|---" * (1 + len(rates)) + "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, {options.minutes:g} min, model {options.model}")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "song"
        head("wav of 16 bits, channels", RATES)
        for channels in CHANNELS:
            songs = (song(rate, channels, options.minutes) for rate in RATES)
            made = (format_matrix.written(path, "WAV PCM_16", *pair) for pair in zip(RATES, songs, strict=True))
            line(channels, [cell(one, options.model) for one in made])
        stereo = {rate: song(rate, 2, options.minutes) for rate in USUAL}
        head("read, stereo", USUAL)
        for heading, row in format_matrix.IN.items():
            made = (format_matrix.written(path, row.kinds[0], *pair) for pair in stereo.items())
            line(heading, [cell(one, options.model) for one in made])
        wavs = [format_matrix.written(path.with_name(f"{rate}"), "WAV PCM_16", rate, stereo[rate]) for rate in USUAL]
        head("written, stereo", USUAL)
        for heading, row in format_matrix.OUT.items():
            ending = row.kinds[0].split()[0]
            line(heading, [cell(wav, options.model, ending) for wav in wavs])


if __name__ == "__main__":
    main()
