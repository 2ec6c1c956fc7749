"""Measure what many short songs cost: memory after each hundred, and the time to plan them.

    python tests/bench/batch.py [--songs 1000] [--seconds 1] [--jobs 1] [--threads 1] [--model uhnet-hd]

The songs are parts of the demo song, mono at 16 kHz. The table has the worker's peak memory from its report and, with
--jobs 1 on Linux, the memory that it holds at that moment. Neither should grow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from vocalsep import audio
from vocalsep.release import DEFAULT_MODEL

DEMO = Path(__file__).parents[2] / "docs" / "demo" / "orphanage.ogg"
RATE, STEP = 16_000, 100


def make_songs(folder: Path, count: int, seconds: float) -> None:
    samples, rate = audio.read(DEMO)
    mono = audio.resample(samples.mean(axis=0, keepdims=True), rate, RATE)[0]
    size = round(seconds * RATE)
    for number in range(count):
        start = 977 * number % (len(mono) - size)
        soundfile.write(folder / f"{number:05d}.wav", mono[start : start + size], RATE, subtype="PCM_16")


def measure_memory_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        songs, out = Path(name, "songs"), Path(name, "out")
        songs.mkdir()
        make_songs(songs, options.songs, options.seconds)
        command = [sys.executable, "-m", "vocalsep", "extract", str(songs), "-o", str(out), "--device", "cpu"]
        command += ["--model", options.model, "--jobs", str(options.jobs), "--threads", str(options.threads)]
        started = time.perf_counter()
        subprocess.run([*command, "--dry-run"], check=True, stdout=subprocess.DEVNULL)
        print(f"planning, with start-up: {time.perf_counter() - started:.2f} s\n")
        print("| songs | peak memory | memory | seconds so far |")
        print("|---|---|---|---|")
        started, done = time.perf_counter(), 0
        command += ["--progress", "json"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr is not None
            for event in map(json.loads, running.stderr):
                done += event["event"] == "done"
                if event["event"] == "done" and (done % STEP == 0 or done == 1):
                    peak, held = event["report"]["peak_memory_mb"], measure_memory_mb(running.pid)
                    taken = time.perf_counter() - started
                    print(f"| {done} | {peak:.1f} MiB | {held:.1f} MiB | {taken:.1f} |", flush=True)
        if running.returncode:
            sys.exit(f"the command ended with status {running.returncode}")


if __name__ == "__main__":
    main()
