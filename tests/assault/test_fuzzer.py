"""The fuzzer finds nothing in a short run, and does find what is planted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from assault import make_seed
from command_line import make_environment

FUZZ = Path(__file__).parents[1] / "bench" / "fuzz.py"


@pytest.mark.slow
def test_a_short_run_finds_nothing() -> None:
    seed = make_seed().randrange(10**6)
    command = [sys.executable, str(FUZZ), "--cases", "40", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=make_environment(), check=False)
    assert re.search(r"^400 cases, 0 failures$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_it_reports_bugs_hangs_and_crashes(tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text(
        f"""
import os, sys, time
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz

fuzz.CASE_SECONDS = 1

def case(rng, folder):
    seen.append(1)
    {{2: lambda: 1 / 0, 4: lambda: time.sleep(9), 5: os.abort}}.get(start + len(seen) - 1, lambda: None)()

start, failures = 0, []
while start < 8:
    seen = []
    start, found = fuzz.run_cases("planted", case, 0, start, 8 - start, None)
    failures += found
for each in failures:
    print(each.splitlines()[0], each.splitlines()[-1])
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=make_environment(), check=False)
    assert done.stdout.splitlines() == [
        "planted 2: Traceback (most recent call last): ZeroDivisionError: division by zero",
        "planted 4: it took more than 1 s planted 4: it took more than 1 s",
        "planted 5: the process ended with -6 planted 5: the process ended with -6",
    ], done.stdout + done.stderr
