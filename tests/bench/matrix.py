"""Print the tables of rates, channels and formats in docs/speed.md: speed and memory of the extraction.

    python tests/bench/matrix.py [--minutes 1] [--model duo]

Each cell is one run of the command in its own process. It shows the speed in multiples of real time, without starting
Python and loading the model, and the peak memory of the process in MiB. The song is the demo song, resampled and
looped, with its channels repeated.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import format_matrix
import speed

from vocalsep import audio
from vocalsep.release import DEFAULT_MODEL

RATES = (8_000, 16_000, 44_100, 48_000, 96_000, 192_000)
CHANNELS = (1, 2, 6)
STEREO_RATES = (44_100, 48_000)


def make_song(rate: int, channels: int, minutes: float) -> format_matrix.Array:
    """Return ``(channel, time)`` samples within full scale."""
    samples, own = soundfile.read(speed.DEMO, dtype="float32", always_2d=True)
    once = audio.resample(samples.T, own, rate)
    count = round(minutes * 60 * rate)
    whole = np.tile(once, (1, -(-count // once.shape[-1])))[:, :count]
    return np.stack([whole[channel % len(whole)] for channel in range(channels)]).clip(-1, 1)


def measure(path: Path | None, model: str, out: str = "wav") -> str:
    """Return speed and memory of one extraction; "-" if the format does not support such a song."""
    if path is None:
        return "-"
    report, _ = speed.run(path, model, "phase", out)
    return f"{report['times_real_time']:.1f}; {report['peak_memory_mb']:.0f}"


def print_row(heading: object, cells: Iterable[str]) -> None:
    print(f"| {heading} | {' | '.join(cells)} |", flush=True)


def print_head(heading: str, rates: tuple[int, ...]) -> None:
    print()
    print_row(heading, [f"{rate / 1_000:g} kHz" for rate in rates])
    print("|---" * (1 + len(rates)) + "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, {options.minutes:g} min, model {options.model}")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "song"
        print_head("16-bit wav, channels", RATES)
        for channels in CHANNELS:
            songs = (make_song(rate, channels, options.minutes) for rate in RATES)
            made = (format_matrix.write_song(path, "WAV PCM_16", *pair) for pair in zip(RATES, songs, strict=True))
            print_row(channels, [measure(one, options.model) for one in made])
        stereo = {rate: make_song(rate, 2, options.minutes) for rate in STEREO_RATES}
        print_head("read, stereo", STEREO_RATES)
        for heading, row in format_matrix.READ.items():
            made = (format_matrix.write_song(path, row.kinds[0], *pair) for pair in stereo.items())
            print_row(heading, [measure(one, options.model) for one in made])
        wavs = [
            format_matrix.write_song(path.with_name(f"{rate}"), "WAV PCM_16", rate, stereo[rate])
            for rate in STEREO_RATES
        ]
        print_head("written, stereo", STEREO_RATES)
        for heading, row in format_matrix.WRITTEN.items():
            extension = row.kinds[0].split()[0]
            print_row(heading, [measure(wav, options.model, extension) for wav in wavs])


if __name__ == "__main__":
    main()
