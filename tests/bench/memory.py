"""Measure peak memory and speed on songs of any length through pipes, for the table in docs/speed.md.

    python tests/bench/memory.py [--minutes 3 30 180] [--model duo]
    python tests/bench/memory.py --model mdx    # or waveform: a small model of another program, made here

Each row is one run of ``vocalsep extract - -o -`` in its own process. The song is the demo song, repeated: stereo at
44.1 kHz. The script writes no file: it sends the song into the pipe block by block, and only counts the bytes of the
vocals.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import foreign_graphs

from vocalsep.release import DEFAULT_MODEL

DEMO = Path(__file__).parents[2] / "docs" / "demo" / "orphanage.ogg"
BLOCK = 2**14  # samples
BYTES = 4  # per sample of both channels


def feed(pipe: IO[bytes], samples: np.ndarray, count: int) -> None:
    with pipe:
        at = 0
        while at < count:
            start = at % len(samples)
            block = samples[start : start + min(BLOCK, count - at)]
            pipe.write(block.tobytes())
            at += len(block)


def run(minutes: float, model: str) -> dict[str, float]:
    """Run the command on a song of this length, and return its report."""
    samples, rate = soundfile.read(DEMO, dtype="int16", always_2d=True)
    count = round(minutes * 60 * rate)
    command = [sys.executable, "-m", "vocalsep", "extract", "-", "-o", "-", "--raw", f"{rate},2,s16le"]
    command += ["--model", str(model), "--json", "--device", "cpu"]
    got, pipe = 0, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        threading.Thread(target=feed, args=(running.stdin, samples, count), daemon=True).start()
        while content := running.stdout.read(BLOCK * BYTES):
            got += len(content)
        messages = running.stderr.read()
    if running.returncode:
        raise SystemExit(messages.decode())
    if got != BYTES * count:
        raise SystemExit(f"{got} bytes came out of {BYTES * count}")
    report: dict[str, float] = json.loads(messages)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 30, 180])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    if options.model == "mdx":
        options.model = foreign_graphs.write_mdx(Path(folder.name) / "mdx.onnx", mixes=True, frames=256)
    elif options.model == "waveform":
        options.model = foreign_graphs.write_waveform(Path(folder.name) / "waveform.onnx", mixes=True, samples=343_980)
    print(f"{os.cpu_count()} cores, {platform.machine()}, model {options.model}\n")
    print("| song | taken | times real time | peak memory |")
    print("|---|---|---|---|")
    for minutes in options.minutes:
        report = run(minutes, options.model)
        print(
            f"| {minutes:g} min | {report['taken_seconds']:.1f} s | {report['times_real_time']:.1f} "
            f"| {report['peak_memory_mb']:.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
