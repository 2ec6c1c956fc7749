"""Kills commands at random moments, and checks what they leave behind and what the next call makes of it.

    python tests/bench/kills.py --kills 500
    python tests/bench/kills.py --kills 20 --only train --seed 7

Three in five commands are killed with SIGKILL, the others get SIGTERM or SIGINT. After each, every file under a final
name must be whole. Later calls, some of which are killed too, must end in the same bytes (extract, batch), losses
(train) or scores (eval), and leave nothing else behind. The exit status is 1 if something did not.

Most of a short command is the import of libraries. So most commands run in a fork of this process, which has them. One
in FRESH starts Python anew, as users do. Ctrl-C ends the script, which then prints what it has done.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
os.environ["OMP_NUM_THREADS"] = "1"

import fake_nets
import numpy as np
import synthetic_songs
import torch
from assault import check_clean, is_pythons_own, list_unfinished, wait_for_group
from command_line import make_environment
from tiny_recipes import make_recipe

from vocalsep import cli, config, manifests, weights
from vocalsep.training.record import read_log

SHARES = {"extract": 40, "batch": 36, "train": 12, "eval": 12}  # of 100 kills
FRESH = 8
STOP_SECONDS = 2.0  # in which a signal must end a command, on a machine that does nothing else
LONGEST_SECONDS = 600
AGAIN = 0.35  # of the calls that follow a kill are not killed


@dataclass
class Ended:
    """How a call ended: its exit status, what it printed on stderr, and how long it took after the signal."""

    status: int
    stderr: str
    stopped_seconds: float = 0.0


def call(arguments: Sequence[str], after: float | None, number: signal.Signals, *, fresh: bool) -> Ended:
    """Run a command, and send it a signal after some seconds unless it has ended."""
    with tempfile.TemporaryFile() as errors:
        child = start_python(arguments, errors.fileno()) if fresh else fork(arguments, errors.fileno())
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        status, sent, started = None, 0.0, time.monotonic()
        while status is None:
            found, code = os.waitpid(child, os.WNOHANG)
            now = time.monotonic()
            if found:
                status = os.waitstatus_to_exitcode(code)
            elif after is not None and not sent and now - started >= after:
                os.kill(child, number)
                sent = now
            elif now - (sent or started) > LONGEST_SECONDS:
                os.killpg(child, signal.SIGKILL)
            else:
                time.sleep(0.002)
        stopped = time.monotonic() - sent if sent else 0.0
        wait_for_group(child, LONGEST_SECONDS)
        errors.seek(0)
        return Ended(status, errors.read().decode("utf-8", "replace"), stopped)


def start_python(arguments: Sequence[str], errors: int) -> int:
    """Start a command as users do. Return its process."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, "-m", "vocalsep", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=errors, env=make_environment(), preexec_fn=prepare, process_group=0,
    ).pid  # fmt: skip


def fork(arguments: Sequence[str], errors: int, modules: Path | None = None) -> int:
    """Start a command in a fork of this process, with the libraries that are loaded. Return its process.

    If `modules` is given, the names of all modules that the command has loaded are written there.
    """
    child = os.fork()
    if child:
        return child
    status: object = 99
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `__main__` does
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, target in ((0, nothing), (1, nothing), (2, errors)):
            os.dup2(target, number)
        sys.argv = ["vocalsep", *arguments]
        cli.main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        if modules:
            modules.write_text("\n".join(sys.modules))
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)
    raise AssertionError


@dataclass
class Target:
    """A command to kill.

    Attributes:
        name: Its name in the table.
        arguments: Returns its arguments, for a folder to write to, which may hold what earlier calls left.
        check: Checks what is in a folder. Takes the folder and whether a call has completed.
        expected: What a call that is left alone makes: the names in its folder.
        seconds: What such a call takes in a fork, and in a new process.
        also: Other statuses of a stopped call.
        slowness: How much of a second of the clock a second of the processor takes: more than 1 if others use it too.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    check: Callable[[Path, bool], None]
    expected: set[str] = field(default_factory=set)
    seconds: dict[bool, float] = field(default_factory=dict)
    also: tuple[int, ...] = ()
    slowness: float = 2.0

    def measure(self, folder: Path) -> None:
        """Find out what a call makes, and how long it takes."""
        load_modules(self.arguments(folder), folder.with_suffix(".modules"))
        for fresh in (False, True):
            shutil.rmtree(folder, ignore_errors=True)
            before = os.times()
            ended = call(self.arguments(folder), None, signal.SIGKILL, fresh=fresh)
            assert (ended.status, ended.stderr) == (0, ""), ended
            after = os.times()
            self.seconds[fresh] = after.elapsed - before.elapsed
            used = after.children_user + after.children_system - before.children_user - before.children_system
            self.slowness = max(self.slowness, self.seconds[fresh] / used)
            self.check(folder, True)
            self.expected = list_names(folder)

    def attack(self, rng: random.Random, folder: Path, counts: dict[str, int], kills: int) -> None:
        """Kill calls until one completes, or the number of kills is reached. Then let one complete, and check."""
        shutil.rmtree(folder, ignore_errors=True)
        if rng.random() < 0.3:  # outputs of an earlier call, to be replaced or kept
            call(self.arguments(folder), None, signal.SIGKILL, fresh=False)
        done = False
        while not done:
            number = rng.choice([signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT])
            fresh = rng.random() < 1 / FRESH
            spared = counts["kills"] >= kills or (counts["last"] and rng.random() < AGAIN)
            after = None if spared else rng.uniform(0, 1.1 * self.seconds[fresh])
            before = set(list_unfinished(folder))  # of a call that was killed; the next one removes them in its time
            ended = call(self.arguments(folder), after, number, fresh=fresh)
            what = f"{number.name} after {after}, fresh {fresh}: {ended}"
            done = ended.status == 0
            if number == signal.SIGKILL and not done:
                assert ended.status == -signal.SIGKILL, what
            elif not done and not (fresh and is_pythons_own(ended.stderr)):
                assert ended.status in (128 + number, -number, *self.also), what
                assert ended.stopped_seconds < STOP_SECONDS * self.slowness, what
                left = set(list_unfinished(folder)) - before
                assert not left, (what, left)
            assert not (spared and not done), what
            if done or not (fresh and is_pythons_own(ended.stderr)):
                check_clean(ended.stderr.replace("\x1b[?25h", ""))
            self.check(folder, done)
            counts["last"] = int(not done)
            if not done:
                counts["kills"] += 1
                counts[number.name] += 1
        counts["completed"] += 1
        assert list_names(folder) == self.expected, list_names(folder) ^ self.expected


def load_modules(arguments: Sequence[str], modules: Path) -> None:
    """Import what a command imports, so that its forks need not."""
    os.waitpid(fork(arguments, 2, modules), 0)
    for name in modules.read_text().splitlines():
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def list_names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def make_targets(root: Path) -> dict[str, Target]:
    """Make songs, a narrow net and a tiny recipe, and describe the commands."""
    model, made = root / "narrow.safetensors", fake_nets.random_unet()
    weights.save(model, made.net, made.front_end, {"licence": "none"})
    for number in range(4):
        samples = np.random.default_rng(number).normal(0, 0.1, 20_000)
        synthetic_songs.write(root / "music" / f"{number}.wav", samples, 8_000)
    stems = synthetic_songs.write_stems(root / "stems", songs=2, seconds=1.0)
    recipe = root / "recipe.toml"
    dsd100 = synthetic_songs.write_dsd100(root / "dsd100")
    recipe.write_text(config.dump_toml(config.to_dict(make_recipe(dsd100, steps=8))))
    wholes: dict[str, dict[str, bytes]] = {}

    def compare(folder: Path, done: bool) -> None:
        """Check that each file under a final name is what the first call made, and after a whole call that all are."""
        found = {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.suffix != ".jsonl"}
        whole = wholes.setdefault(folder.name, found)
        for name, content in found.items():
            assert content == whole[name], name
        assert not done or found.keys() == whole.keys(), found.keys() ^ whole.keys()
        if (folder / "m.jsonl").exists():
            records = manifests.read(folder / "m.jsonl")
            assert not done or {record.status for record in records.values()} <= {"done", "skipped"}, records
            assert not done or len(records) == 4, records

    def check_losses(folder: Path, done: bool) -> None:
        if (folder / "log.jsonl").exists():
            losses = [repr(entry["loss"]).encode() for entry in read_log(folder / "log.jsonl")]
            whole = wholes.setdefault(folder.name, {"": b" ".join(losses)})
            assert not done or b" ".join(losses) == whole[""], losses
        assert not done or (folder / "log.jsonl").exists()

    def check_scores(folder: Path, done: bool) -> None:
        scores = folder / "scores.csv"
        if scores.exists():
            assert scores.read_bytes() == wholes.setdefault(folder.name, {"": scores.read_bytes()})[""]
        assert not done or scores.exists()

    def extract(folder: Path) -> list[str]:
        outputs = [f"{folder}/a.wav", "--accompaniment", f"{folder}/b.flac"]
        return ["extract", f"{root}/music/0.wav", "-o", *outputs, "-m", f"{model}", "-q", "--overwrite"]

    def batch(folder: Path) -> list[str]:
        chosen = ["-o", f"{folder}", "-m", f"{model}", "-q", "--manifest", f"{folder}/m.jsonl", "--accompaniment"]
        return ["extract", f"{root}/music", *chosen, "--jobs", "1"]

    def train(folder: Path) -> list[str]:
        resumed = ["--resume", f"{folder}"] if (folder / "checkpoint.pt").exists() else None
        return ["train", *(resumed or [f"{recipe}", "--out", f"{folder}"]), "-q"]

    def evaluate(folder: Path) -> list[str]:
        data = ["--dataset", "stems", "--root", f"{stems}", "-m", f"{model}"]
        return ["eval", *data, "-q", "--jobs", "1", "--out", f"{folder}"]

    return {
        "extract": Target("extract", extract, compare),
        "batch": Target("batch", batch, compare),
        "train": Target("train", train, check_losses, also=(130,)),
        "eval": Target("eval", evaluate, check_scores),
    }


def kill_one(target: Target, rng: random.Random, folder: Path, kills: int) -> int:
    """Kill a command a number of times, and print how often it was. Return the number of failures."""
    counts = dict.fromkeys(("kills", "SIGKILL", "SIGTERM", "SIGINT", "completed", "last"), 0)
    failures, started = 0, time.monotonic()
    try:
        target.measure(folder)
        while counts["kills"] < kills:
            try:
                target.attack(rng, folder, counts, kills)
            except AssertionError:
                failures += 1
                print(f"{target.name}, kill {counts['kills']}: {traceback.format_exc()}", flush=True)
                counts["last"], counts["kills"] = 0, counts["kills"] + 1
    finally:
        signals = ", ".join(f"{counts[each]} {each}" for each in ("SIGKILL", "SIGTERM", "SIGINT"))
        rest = f"{counts['completed']} completed, {failures} failures, {time.monotonic() - started:.0f} s"
        print(f"{target.name:8} {counts['kills']:4} kills ({signals}), {rest}", flush=True)
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", choices=SHARES, action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {given.seed}", flush=True)
    failures, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        os.environ["VOCALSEP_CACHE"] = f"{name}/cache"
        targets = make_targets(Path(name))
        names = given.only or list(SHARES)
        total = sum(SHARES[each] for each in names)
        with contextlib.suppress(KeyboardInterrupt):
            for kind in names:
                kills = -(-given.kills * SHARES[kind] // total)
                failures += kill_one(targets[kind], random.Random(f"{given.seed} {kind}"), Path(name) / kind, kills)
    print(f"{failures} failures in {time.monotonic() - started:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
