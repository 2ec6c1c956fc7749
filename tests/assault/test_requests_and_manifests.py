"""Hostile requests to the server and hostile manifests: the fuzzer's cases, and cases that must be found out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import hostile_manifests
import hostile_requests
import pytest
from assault import make_seed
from cases import Case, check_message
from hostile_requests import Answer, Request, check_answer

from vocalsep.manifests import Call

CASES = 150


@pytest.mark.slow
@pytest.mark.parametrize("set_up", [hostile_requests.set_up, hostile_manifests.set_up])
def test_hostile_cases_end_cleanly(set_up: Callable[[Path], Case], tmp_path: Path) -> None:
    case, seed = set_up(tmp_path), make_seed().randrange(10**6)
    for number in range(CASES):
        case(random.Random(f"{seed} {number}"), tmp_path)


def test_requests_and_manifests_depend_on_the_seed_alone() -> None:
    call = Call(model="m", model_sha256="ab" * 32)
    songs = {"a.wav": b"RIFF"}

    def make(seed: int) -> tuple[object, ...]:
        rng = random.Random(seed)
        request = hostile_requests.make_request(rng, ["0" * 16], "a=b", songs)
        return request, hostile_manifests.make_lines(rng, call).replace(b"2", b"").split(b'"time"')[0]

    found = [make(seed) for seed in range(40)]
    assert found == [make(seed) for seed in range(40)]
    assert len({request.target for request, _ in found}) > 20


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, b"", {}),
        (200, b"and " + hostile_requests.SECRET, {}),
        (404, b"no /root/songs/x", {}),
        (200, b"", {"x-evil": "1"}),
        (200, b"", {"x": "a\r\nb"}),
        (200, b"abc", {"content-length": "2"}),
        (400, b'{"error": ""}', {"content-type": "application/json"}),
        (400, b'{"error": "\\u001b"}', {"content-type": "application/json"}),
    ],
)
def test_bad_answers_are_found_out(status: int, body: bytes, headers: dict[str, str]) -> None:
    usual = {"content-security-policy": "default-src 'none'; x", "x-content-type-options": "nosniff"}
    request = Request("GET", "/", [])

    def check(status: int, body: bytes, headers: dict[str, str]) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in (usual | headers).items()]
        check_answer(request, Answer(status, pairs, body), Path("/root/songs"), 10**9)

    check(200, b"", {})
    with pytest.raises(AssertionError):
        check(status, body, headers)
    request.refused = 403
    with pytest.raises(AssertionError):
        check(200, b"", {})


@pytest.mark.parametrize("message", ["", "x" * 3_000])
def test_bad_messages_are_found_out(message: str) -> None:
    with pytest.raises(AssertionError):
        check_message(message)
