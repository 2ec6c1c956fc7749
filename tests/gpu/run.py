"""Check vocalsep on a CUDA device and measure how fast it is there: one command, at most ten minutes on one GPU.

    python tests/gpu/run.py
    python tests/gpu/run.py --device cpu --only unet --preset unet-tiny --batch 1 --songs 1 2 --seconds 4

The first table compares torch on the device with ONNX Runtime on the CPU, for every model and every way to use it. The
second one has the time of the command for many songs, each a generated stereo song at 44.1 kHz. The third compares a
training step in each precision with the same step on the CPU in fp32: errors of the loss, and of the direction and norm
of the whole gradient, each with its limit. The exit status is 1 if anything is beyond its limit.

With `--device cpu`, as in the second command, it runs without CUDA. That rehearses the script and says nothing about
CUDA. pytest runs the checks of the first table, too, where there is CUDA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import device_checks
import numpy as np
import synthetic_songs
import torch
import training_checks

from vocalsep.release import DEFAULT_MODEL


def check_device(device: str, seconds: float, only: str) -> bool:
    """Print the table of checks. Return whether all have passed."""
    print("| check | result | limit | |\n|---|---|---|---|")
    passed = []
    for check in device_checks.list_checks(device, seconds):
        if only not in check.name:
            continue
        try:
            result = check.measure()
            ok, shown = check.passes(result), f"{result:.4g} {check.unit}"
        except Exception as error:  # the others still run
            ok, shown = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
        sign = "at most" if check.at_most else "at least"
        print(f"| {check.name} | {shown} | {sign} {check.limit:g} | {'ok' if ok else '**failed**'} |", flush=True)
        passed.append(ok)
    return all(passed) and bool(passed)


def measure_speed(device: str, counts: list[int], seconds: float) -> bool:
    """Print the table of speeds. Return whether the command has written all vocals."""
    print(f"\n| songs of {seconds:g} s | whole command | times real time |\n|---|---|---|")
    passed = True
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            songs, out = Path(name, "songs"), Path(name, "out")
            first = synthetic_songs.write(songs / "0.wav", device_checks.make_song(seconds).T, device_checks.RATE)
            for number in range(1, count):
                os.link(first, songs / f"{number}.wav")
            command = [sys.executable, "-m", "vocalsep", "extract", str(songs), "-o", str(out), "--device", device]
            started = time.perf_counter()
            done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=False)
            taken = time.perf_counter() - started
            written = len(list(out.glob("*.wav")))
        passed = passed and done.returncode == 0 and written == count
        failure = "" if done.returncode == 0 and written == count else f" **{written} written** {done.stderr[-200:]}"
        print(f"| {count} | {taken:.1f} s{failure} | {count * seconds / taken:.0f} |", flush=True)
    return passed


def check_training(device: str, presets: list[str], batch: int) -> bool:
    """Print the table of training steps. Return whether all errors are within their limits."""
    print(f"\n| preset, {batch} excerpts | step | s per step | loss | limit | direction | limit | norm | limit | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    passed = True
    for preset in presets:
        reference = training_checks.make_step(preset, "cpu", "fp32", batch)
        print(f"| {preset} | fp32 on the CPU | {reference.seconds:.3f} | | | | | | | |", flush=True)
        for kind, ok, cells in _compare_steps(device, preset, batch, reference):
            print(f"| {preset} | {kind} | {cells} | {'ok' if ok else '**failed**'} |", flush=True)
            passed = passed and ok
    return passed


def _compare_steps(
    device: str, preset: str, batch: int, reference: training_checks.Step
) -> Iterator[tuple[str, bool, str]]:
    for kind, limits in training_checks.LIMITS.items():
        try:
            step = training_checks.make_step(preset, device, kind, batch)
        except Exception as error:  # the others still run
            yield kind, False, f"{type(error).__name__}: {' '.join(str(error).split())} | | | | | |"
            continue
        errors = training_checks.measure_errors(reference, step)
        cells = " | ".join(f"{error:.1e} | {limit:g}" for error, limit in zip(errors, limits, strict=True))
        ok = all(error <= limit for error, limit in zip(errors, limits, strict=True))
        yield kind, ok, f"{step.seconds:.3f} | {cells}"


def describe(device: str) -> str:
    """Return what the tables were measured on."""
    on = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads of the CPU"
    return f"{on}, torch {torch.__version__}, model {DEFAULT_MODEL}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu rehearses without CUDA")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    parser.add_argument("--songs", type=int, nargs="*", default=[1, 10, 100], help="numbers of songs to time")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the songs to time")
    parser.add_argument("--preset", nargs="*", default=["uhnet-hd", "unet", "hdpcl", "drnn-stft"])
    parser.add_argument("--batch", type=int, default=4, help="excerpts in a training step")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; rehearse with --device cpu")
    started = time.perf_counter()
    np.seterr(all="ignore")
    print(f"{describe(options.device)}\n")
    passed = [
        check_device(options.device, min(8.0, options.seconds), options.only),
        measure_speed(options.device, options.songs, options.seconds),
        check_training(options.device, options.preset, options.batch),
    ]
    print(f"\n{'all passed' if all(passed) else 'failed'}, {time.perf_counter() - started:.0f} s")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
