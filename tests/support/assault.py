"""Runs vocalsep as users do, in a process of its own, and checks that it ends as it should whatever happens to it."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from command_line import make_environment

MEMORY_MB = 2_500  # that any command here may take; torch alone takes a few hundred


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, what it printed, and the memory that it took."""

    status: int
    stdout: str
    stderr: str
    peak_mb: float
    seconds: float

    @property
    def lines(self) -> list[str]:
        return self.stderr.splitlines()


def run(
    *arguments: str | Path,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | None = None,
    close: tuple[int, ...] = (),
    file_size: int | None = None,
    memory: int | None = None,
    after: Callable[[subprocess.Popen[bytes]], Any] = lambda _: None,
    seconds: float = 600,
    **environment: str,
) -> Ended:
    """Run ``vocalsep`` in a process of its own.

    Args:
        arguments: Its arguments.
        stdin: Its standard input.
        stdout: Its standard output; by default it is returned.
        close: File descriptors that are closed before it starts.
        file_size: Limit on the size of files, bytes: a disk that is full.
        memory: Limit on its address space, bytes.
        after: Called when it has started.
        seconds: Time after which it is killed.
        environment: Further environment variables.
    """

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a shell, even if the tests ignore it
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        for number in close:
            os.close(number)

    command = [sys.executable, "-m", "vocalsep", *map(str, arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=stdin, stdout=stdout or out, stderr=err, env=make_environment(**environment),
            preexec_fn=prepare, process_group=0,
        )  # fmt: skip
        after(process)
        usage = _wait(process, started + seconds)
        taken = time.monotonic() - started
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "surrogateescape"))
    return Ended(process.returncode, texts[0], texts[1], usage.ru_maxrss / 1024, taken)


def _wait(process: subprocess.Popen[bytes], until: float) -> resource.struct_rusage:
    """Wait for a process, kill it if it takes too long, and return what it used."""
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > until:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.01)


def check_ended(ended: Ended, status: int, lines: int | None = 1) -> str:
    """Check that a command ended as it should. Return its last line on stderr.

    Args:
        ended: The command.
        status: Its expected exit status.
        lines: The expected number of lines on stderr; None for any.
    """
    assert ended.status == status, (ended.status, ended.stdout, ended.stderr)
    check_clean(ended.stdout + ended.stderr)
    assert lines in (None, len(ended.lines)), ended.stderr
    assert ended.peak_mb < MEMORY_MB
    return ended.lines[-1] if ended.lines else ""


def check_clean(printed: str) -> None:
    """Check that a text holds no traceback and nothing that a terminal would obey."""
    assert "Traceback" not in printed, printed
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", printed), printed
    assert not re.search("None\\)|System error|\\[Errno", printed), printed


def is_pythons_own(printed: str) -> bool:
    """Return whether a text is Python's own report of a Ctrl-C, which it makes until `__main__` begins."""
    ours = set(re.findall(r'File "[^"]*/vocalsep/([^"]+)"', printed)) - {"__init__.py", "__main__.py", "release.py"}
    return not ours and printed.rstrip().endswith("KeyboardInterrupt")


def count_processes(leader: int) -> int:
    """Return the number of processes that are alive in a process group."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            found += int(group) == leader and state != "Z"
    return found


def wait_for_group(leader: int, seconds: float = 5) -> None:
    """Wait until no process of a process group is alive, or fail after some seconds."""
    ends = time.monotonic() + seconds
    while count_processes(leader):
        assert time.monotonic() < ends, "processes are left"
        time.sleep(0.05)


def list_unfinished(folder: Path) -> list[Path]:
    """List temporary files that a command has left."""
    return sorted(folder.rglob("*.part"))


def make_seed() -> random.Random:
    """Make a random generator, and print its seed; VOCALSEP_ASSAULT_SEED chooses it."""
    seed = int(os.environ.get("VOCALSEP_ASSAULT_SEED", random.randrange(10**6)))
    print(f"VOCALSEP_ASSAULT_SEED={seed}")
    return random.Random(seed)
