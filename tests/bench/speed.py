"""Prints the table of docs/speed.md: how fast songs are extracted, and in how much memory.

    python tests/bench/speed.py [--minutes 3 4 180] [--model uhnet-hd] [--inversion phase] [--threads 2]

Each row is one run of the command in a process of its own, on a stereo 44.1 kHz song made by repeating the demo song.
"taken" is what the command reports, without starting Python and loading the model; "whole command" is with both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from vocalsep.release import DEFAULT_MODEL

DEMO = Path(__file__).parents[2] / "docs" / "demo" / "orphanage.ogg"


def make_song(path: Path, minutes: float) -> None:
    samples, rate = soundfile.read(DEMO, dtype="int16", always_2d=True)
    left = round(minutes * 60 * rate)
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], "PCM_16") as file:
        while left > 0:
            file.write(np.ascontiguousarray(samples[:left]))
            left -= len(samples)


def run(
    song: Path, model: str, inversion: str, out: str = "wav", threads: int | None = None
) -> tuple[dict[str, float], float]:
    """The command's report, and how long all of it took, in seconds; `out` is the ending of what is written."""
    command = [sys.executable, "-m", "vocalsep", "extract", str(song), "-o", str(song.with_suffix(f".out.{out}"))]
    command += ["--model", model, "--inversion", inversion, "--json", "--overwrite", "--device", "cpu"]
    command += [] if threads is None else ["--threads", str(threads)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 4, 180])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--inversion", default="phase")
    parser.add_argument("--threads", type=int, help="as the command's; by default one to each core")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, model {options.model}, inversion {options.inversion}\n")
    print("| song | taken | times real time | whole command | peak memory |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            song = Path(folder) / "song.wav"
            make_song(song, minutes)
            report, whole = run(song, options.model, options.inversion, threads=options.threads)
            print(
                f"| {minutes:g} min | {report['taken_seconds']:.1f} s | {report['times_real_time']:.1f} "
                f"| {whole:.1f} s | {report['peak_memory_mb']:.0f} MiB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
