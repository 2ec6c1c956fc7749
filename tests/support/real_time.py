"""Feed a program at the speed of sound through pipes, and measure how long each sample takes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence

import numpy as np

from vocalsep.shapes import Array

_BLOCK_SECONDS = 0.01


def feed(command: Sequence[str], sound: bytes, *, rate: int, stride: int, lead: int) -> tuple[Array, Array]:
    """Run a program that turns each sample into one sample.

    Args:
        command: The program.
        sound: The samples for its standard input.
        rate: Samples per second.
        stride: Bytes of a sample.
        lead: Samples to write at once. The speed of sound begins when all but the last 0.3 s have come back.

    Returns:
        For each block of 10 ms, when its last sample went in and when it came back, in seconds.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin
    assert process.stdout
    stdout, size = process.stdout, round(_BLOCK_SECONDS * rate)
    came: list[tuple[int, float]] = []  # samples so far, and when
    ready = threading.Event()

    def read() -> None:
        total = 0
        while content := stdout.read(65_536):
            total += len(content)
            came.append((total // stride, time.monotonic()))
            if total / stride >= lead - 0.3 * rate:
                ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    process.stdin.write(sound[: lead * stride])
    assert ready.wait(60), "nothing came back"
    began, ends, went_in = time.monotonic(), list(range(lead + size, len(sound) // stride + 1, size)), []
    for end in ends:
        due = began + (end - lead) / rate
        time.sleep(max(0.0, due - time.monotonic()))
        process.stdin.write(sound[(end - size) * stride : end * stride])
        went_in.append(time.monotonic())
    process.stdin.close()
    reader.join(60)
    stdout.close()
    assert process.wait(60) == 0
    totals, times = np.array(came).T
    assert totals[-1] * stride == len(sound)
    return np.array(went_in), times[np.searchsorted(totals, ends)]
