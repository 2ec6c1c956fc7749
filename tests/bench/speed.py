"""Measure how fast vocalsep extracts songs and in how much memory, for the table in docs/speed.md.

    python tests/bench/speed.py [--minutes 3 4 180] [--model duo] [--inversion phase] [--threads 2]

Each row is one run of the command in its own process. The song is the demo song, repeated: stereo at 44.1 kHz. "taken"
is the time in the report, without starting Python and loading the model. "whole command" includes both.
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
    missing = round(minutes * 60 * rate)
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], "PCM_16") as file:
        while missing > 0:
            file.write(np.ascontiguousarray(samples[:missing]))
            missing -= len(samples)


def run(
    song: Path, model: str, inversion: str, out: str = "wav", threads: int | None = None
) -> tuple[dict[str, float], float]:
    """Run the command on a song.

    Args:
        song: Path of the song.
        model: Name of the model.
        inversion: As the command's option.
        out: File extension of the output.
        threads: As the command's option.

    Returns:
        The command's report, and the seconds that the whole command took.
    """
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
    parser.add_argument("--threads", type=int, help="as in the command; by default one per core")
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
