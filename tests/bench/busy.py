"""Measure how much a busy machine slows vocalsep: the time beside a busy process over the time without one.

    python tests/bench/busy.py [--cores 0 1] [--busy 1] [--threads N] [--repeats 5] [--work file ...]

The busy process counts on the same cores. A work that keeps C cores busy gets C / (C + 1) of them beside it, so a fair
ratio is 2.0 on one core and 1.5 on two. A much larger one means that threads spin while they wait.

Each work is measured without and with the busy process in turns, and the table has medians. The works are:

- file: ``vocalsep extract song.wav -o vocals.wav``, the whole command;
- pipe: the same song as mp3 through ``vocalsep extract - -o -``;
- python: ``vocalsep.separate`` on 16 s of sound, in a new process that has used numpy before it imports vocalsep. Its
  imports do not count, but loading the model does;
- training: a step of the preset `unet`, in a process that has made one before.

Processor time is that of the work alone. It should hardly change.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import speed

PYTHON_SECONDS = 16
SPINNING = "while True: pass"
SEPARATE = f"""
import sys, time
import numpy as np
import soundfile

a = np.random.default_rng(0).standard_normal((512, 512))
(a @ a).sum()
samples, rate = soundfile.read(sys.argv[1], dtype="float32", frames={PYTHON_SECONDS} * 44_100)
import vocalsep

vocalsep.separate
wall, cpu = time.perf_counter(), time.process_time()
vocalsep.separate(samples.T, rate)
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
TRAIN = """
import sys, time
import vocalsep
import torch
from training import make_noise
from vocalsep.training import recipes
from vocalsep.training.material import Material
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer
from dataclasses import replace

if int(sys.argv[1]):
    torch.set_num_threads(int(sys.argv[1]))
recipe = recipes.read_recipe("unet")
recipe = replace(recipe, training=replace(recipe.training, precision="fp32"))
material = Material(training=make_noise(recipe, recipe.excerpts), validation=None, names={}, heard={})
trainer = Trainer(recipe, material, Team(device=torch.device("cpu")))
excerpts = trainer.draw_batch(0)
trainer.update(excerpts)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.update(excerpts)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""

Times = tuple[float, float]
"""Seconds of wall time, and of processor time."""


def extract(song: Path, threads: int, *, piped: bool) -> Times:
    """Run the command on a file, or through pipes."""
    command = [sys.executable, "-m", "vocalsep", "extract", "-" if piped else str(song), "--device", "cpu", "--quiet"]
    command += ["-o", "-"] if piped else ["-o", str(song.with_suffix(".vocals.wav")), "--overwrite"]
    command += ["--threads", str(threads)] if threads else []
    started = time.perf_counter()
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdin
    assert running.stdout
    content = song.read_bytes() if piped else b""

    def feed() -> None:
        assert running.stdin
        with running.stdin as pipe:
            pipe.write(content)

    threading.Thread(target=feed, daemon=True).start()
    while running.stdout.read(2**16):
        pass
    _, status, used = os.wait4(running.pid, 0)
    taken = time.perf_counter() - started
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {running.returncode}")
    return taken, used.ru_utime + used.ru_stime


def separate(song: Path) -> Times:
    """Separate the start of a song in a new Python process."""
    done = subprocess.run([sys.executable, "-c", SEPARATE, str(song)], check=True, capture_output=True, text=True)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


@contextlib.contextmanager
def train(threads: int) -> Iterator[Callable[[], Times]]:
    """Start a process that trains. Yield a function that lets it make a step."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path[:1], os.environ.get("PYTHONPATH", "")])}
    command, pipe = [sys.executable, "-c", TRAIN, str(threads)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=environment) as running:
        assert running.stdin
        assert running.stdout

        def step() -> Times:
            assert running.stdin
            assert running.stdout
            running.stdin.write("\n")
            wall, cpu = map(float, running.stdout.readline().split())
            return wall, cpu

        yield step
        running.stdin.close()


@contextlib.contextmanager
def keep_busy(processes: int) -> Iterator[None]:
    """Keep processes counting while the context lasts."""
    running = [subprocess.Popen([sys.executable, "-c", SPINNING]) for _ in range(processes)]
    try:
        time.sleep(0.3)  # until they count
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def print_row(name: str, work: Callable[[], Times], busy: int, repeats: int) -> None:
    """Measure a work in turns without and with the busy process, and print medians."""
    work()  # fills caches
    alone, beside = [], []
    for _ in range(repeats):
        alone.append(work())
        with keep_busy(busy):
            beside.append(work())
    (wall, cpu), (busy_wall, busy_cpu) = (
        [statistics.median(column) for column in zip(*times, strict=True)] for times in (alone, beside)
    )
    print(
        f"| {name} | {wall:.2f} s | {busy_wall:.2f} s | {busy_wall / wall:.2f} | {cpu:.2f} s | {busy_cpu:.2f} s |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    works = ("file", "pipe", "python", "training")
    parser.add_argument("--work", nargs="+", choices=works, default=works)
    parser.add_argument("--cores", type=int, nargs="+", help="pin everything to these cores; by default all")
    parser.add_argument("--busy", type=int, default=1, help="number of busy processes")
    parser.add_argument("--threads", type=int, default=0, help="of commands and of training; by default one per core")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, options.cores)  # processes that are started from here inherit it
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, {options.busy} busy, load average {os.getloadavg()[0]:.1f} at the start\n")
    print("| work | idle | busy | ratio | processor time, idle | processor time, busy |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        speed.make_song(song, max(options.minutes, (PYTHON_SECONDS + 1) / 60))
        compressed = song.with_suffix(".mp3")
        if "pipe" in options.work:
            import soundfile

            samples, rate = soundfile.read(song, dtype="float32")
            soundfile.write(compressed, samples, rate, format="MP3")
        minutes, repeats = f"{options.minutes:g} min", options.repeats
        for name in options.work:
            if name == "file":
                print_row(
                    f"file, {minutes}", lambda: extract(song, options.threads, piped=False), options.busy, repeats
                )
            elif name == "pipe":
                print_row(
                    f"pipe, {minutes}", lambda: extract(compressed, options.threads, piped=True), options.busy, repeats
                )
            elif name == "python":
                print_row(f"Python, {PYTHON_SECONDS} s", lambda: separate(song), options.busy, repeats)
            else:
                with train(options.threads) as step:
                    print_row("training step", step, options.busy, repeats)


if __name__ == "__main__":
    main()
