"""Measure what many short songs cost: memory and open files after each hundred, and the time to plan them.

    python tests/bench/batch.py [--songs 5000] [--seconds 1] [--jobs 1] [--threads 1] [--model duo] [--remote]

The songs are parts of the demo song, mono at 16 kHz. The table has the worker's peak memory from its report and, on
Linux, the memory and the open files of the command itself, which with --jobs 1 is the worker. None should grow. The
command writes a manifest. With --remote, songs and outputs have addresses. In the end, only the outputs may be left.
"""

from __future__ import annotations

import argparse
import json
import os
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


def count_open_files(process: int) -> int:
    try:
        return len(list(Path(f"/proc/{process}/fd").iterdir()))
    except OSError:
        return -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--remote", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        songs, out, temporary = (Path(name, folder) for folder in ("songs", "out", "temporary"))
        songs.mkdir()
        temporary.mkdir()
        make_songs(songs, options.songs, options.seconds)
        scheme = "file://" if options.remote else ""
        command = [sys.executable, "-m", "vocalsep", "extract", f"{scheme}{songs}", "-o", f"{scheme}{out}"]
        command += ["--device", "cpu", "--manifest", f"{name}/manifest.jsonl"]
        command += ["--model", options.model, "--jobs", str(options.jobs), "--threads", str(options.threads)]
        started = time.perf_counter()
        subprocess.run([*command, "--dry-run"], check=True, stdout=subprocess.DEVNULL)
        print(f"planning, with start-up: {time.perf_counter() - started:.2f} s\n")
        print("| songs | peak memory | memory | open files | seconds so far |")
        print("|---|---|---|---|---|")
        started, done = time.perf_counter(), 0
        command += ["--progress", "json"]
        environment = os.environ | {"TMPDIR": str(temporary)}
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        ) as running:
            assert running.stderr is not None
            for event in map(json.loads, running.stderr):
                done += event["event"] == "done"
                if event["event"] == "done" and (done % STEP == 0 or done == 1):
                    peak, held = event["report"]["peak_memory_mb"], measure_memory_mb(running.pid)
                    taken = time.perf_counter() - started
                    files = count_open_files(running.pid)
                    print(f"| {done} | {peak:.1f} MiB | {held:.1f} MiB | {files} | {taken:.1f} |", flush=True)
        if running.returncode:
            sys.exit(f"the command ended with status {running.returncode}")
        left = len(list(out.iterdir())) - options.songs, len(list(temporary.iterdir()))
        print(f"\nfiles besides the outputs: {left[0]} in their folder, {left[1]} temporary ones")
        command = [sys.executable, "-m", "vocalsep", "manifest", "summary", f"{name}/manifest.jsonl"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
