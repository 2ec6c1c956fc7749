from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import list_files, make_environment

from vocalsep import claims

CLAIM_AND_SLEEP = """
import sys, time
from pathlib import Path
from vocalsep import claims
with claims.claim([Path(name) for name in sys.argv[1:]]) as held:
    print(bool(held), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed ``a`` and ``b``."""
    command = [sys.executable, "-c", CLAIM_AND_SLEEP, str(tmp_path / "a"), str(tmp_path / "b")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=make_environment()) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "True\n"
        yield running
        running.kill()


def find_claims(folder: Path) -> list[Path]:
    return sorted(folder.glob(".vocalsep-*.claim"))


def pretend_other_machine(folder: Path, age: float) -> None:
    """Rewrite all claims as if a process of another machine had renewed them this many seconds ago."""
    for path in find_claims(folder):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": "another"}))
        now = claims._read_clock(folder)
        os.utime(path, (now - age, now - age))


def test_a_claim_keeps_others_out_until_it_ends(tmp_path: Path) -> None:
    with claims.claim([tmp_path / "a", tmp_path / "b"]) as first:
        assert first
        assert len(find_claims(tmp_path)) == 2
        with claims.claim([tmp_path / "b", tmp_path / "c"]) as second:
            assert second is None
        assert len(find_claims(tmp_path)) == 2
        with claims.claim([tmp_path / "c"]) as third:
            assert third
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_claim_ends_with_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), claims.claim([tmp_path / "a"]):
        raise error
    assert list_files(tmp_path) == []


def test_the_claim_of_another_process_counts_until_it_is_killed(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    with claims.claim([tmp_path / "b"]) as held:
        assert held is None
    claims.remove_dead([tmp_path / "a", tmp_path / "b"])
    assert len(find_claims(tmp_path)) == 2
    owner.kill()
    owner.wait()
    assert len(find_claims(tmp_path)) == 2
    with claims.claim([tmp_path / "b"]) as held:
        assert held
    claims.remove_dead([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert list_files(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say when a process started")
def test_a_process_that_reuses_the_number_is_not_the_owner(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    for path in find_claims(tmp_path):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": "1"}))
    with claims.claim([tmp_path / "a", tmp_path / "b"]) as held:
        assert held
    owner.kill()


@pytest.mark.parametrize(
    ("age", "counts"), [(0, True), (claims.EXPIRY_SECONDS - 60, True), (claims.EXPIRY_SECONDS + 60, False)]
)
def test_the_claim_of_another_machine_expires(tmp_path: Path, age: float, counts: bool) -> None:
    with claims.claim([tmp_path / "a"]):
        pretend_other_machine(tmp_path, age)
        with claims.claim([tmp_path / "a"]) as held:
            assert (held is None) == counts


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"machine": 1}', '{"machine": "x", "pid": "y", "started": null}', "[" * 10**5),
        '{"machine": "x", "pid": Infinity, "started": null}',
    ],
)
def test_a_claim_that_says_nothing_counts_until_it_expires(tmp_path: Path, content: str) -> None:
    with claims.claim([tmp_path / "a"]):
        (path,) = find_claims(tmp_path)
        path.write_text(content)
        with claims.claim([tmp_path / "a"]) as held:
            assert held is None
        os.utime(path, (1, 1))
        with claims.claim([tmp_path / "a"]) as held:
            assert held


def test_an_owner_that_lost_its_claim_does_not_delete_that_of_the_next(tmp_path: Path) -> None:
    first = claims.claim([tmp_path / "a"])
    assert first.__enter__()
    pretend_other_machine(tmp_path, claims.EXPIRY_SECONDS + 1)
    with claims.claim([tmp_path / "a"]) as second:
        assert second
        first.__exit__(None, None, None)
        assert len(find_claims(tmp_path)) == 1
    assert list_files(tmp_path) == []


def test_renewal_makes_a_claim_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claims.claim([tmp_path / "a"]) as held:
        assert held
        (path,) = find_claims(tmp_path)
        os.utime(path, (1, 1))
        held.renew()
        assert path.stat().st_mtime == 1  # not every time
        monkeypatch.setattr(claims, "RENEWAL_SECONDS", 0)
        held.renew()
        assert path.stat().st_mtime > 1


def test_of_many_that_find_a_dead_claim_one_gets_it(tmp_path: Path) -> None:
    for attempt in range(20):
        with claims.claim([tmp_path / "a"]):
            pretend_other_machine(tmp_path, claims.EXPIRY_SECONDS + 1)
            content = find_claims(tmp_path)[0].read_bytes()
        path = claims._name_claim(tmp_path / "a")
        path.write_bytes(content)
        os.utime(path, (1, 1))
        winners, barrier, end = [], threading.Barrier(4), threading.Barrier(4)

        def compete(
            winners: list[int] = winners, barrier: threading.Barrier = barrier, end: threading.Barrier = end
        ) -> None:
            barrier.wait(10)
            with claims.claim([tmp_path / "a"]) as held:
                if held:
                    winners.append(1)
                end.wait(10)

        threads = [threading.Thread(target=compete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1, attempt
        assert list_files(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), claims.claim([tmp_path / "none" / "a"]):
        pass
