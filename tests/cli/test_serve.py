"""The command ``vocalsep serve``, in a process of its own, as people use it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_nets
import httpx
import numpy as np
import pytest
import synthetic_songs
from command_line import make_environment, read_error, read_misuse, receiving_ctrl_c, run
from song_server import CHANGE, wait_until

from vocalsep.cli import serve
from vocalsep.release import DEFAULT_MODEL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux lists them"),
]


@dataclass
class Running:
    """A server in its process, and a client that is signed in."""

    process: subprocess.Popen[str]
    address: str
    client: httpx.Client

    def upload(self, path: Path) -> str:
        answer = self.client.post("/api/songs", params={"name": path.name}, content=path.read_bytes(), headers=CHANGE)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def wait(self, song_id: str, state: str) -> list[dict[str, Any]]:
        """Listen until a song is in a state. Return what was told about it."""
        told: list[dict[str, Any]] = []
        with self.client.stream("GET", "/api/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    songs = json.loads(line.removeprefix("data: "))["songs"]
                    told += [song for song in songs if song["id"] == song_id]
                    if told and told[-1]["state"] == state:
                        return told
        raise AssertionError(told)


@contextlib.contextmanager
def start(folder: Path, model: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-W", "error", "-m", "vocalsep", "serve", "--port", "0", "--no-browser"]
    command += ["--folder", str(folder), "-m", str(model), "--threads", "1", *options]
    with receiving_ctrl_c():
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=make_environment(),
            start_new_session=True,
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        address, _, _ = line.partition("/?token=")
        with httpx.Client(base_url=address, follow_redirects=True, timeout=60) as client:
            assert client.get(line.strip()).status_code == 200
            yield Running(process, address, client)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def list_processes(session: int) -> list[int]:
    """List the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, _, rest = path.read_text(encoding="ascii", errors="replace").rpartition(")")
            state, _, _, number, *_ = rest.split()
            found += [int(path.parent.name)] if int(number) == session and state != "Z" else []
    return found


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return synthetic_songs.write(tmp_path / "song.wav", np.clip(fake_nets.noise(2, 16_000), -0.99, 0.99).T, 8_000)


@pytest.fixture
def long_song(tmp_path: Path) -> Path:
    """A song that takes minutes."""
    return synthetic_songs.write(tmp_path / "long.wav", np.clip(fake_nets.noise(1, 12_000_000), -0.9, 0.9).T, 8_000)


def test_a_song_gets_the_same_bytes_as_from_extract(tmp_path: Path, model: Path, song: Path) -> None:
    with start(tmp_path / "songs", model) as running:
        song_id = running.upload(song)
        told = running.wait(song_id, "done")
        assert told[-1]["seconds"] == 2.0
        result = run("extract", song, "-m", model, "-o", tmp_path / "v.wav", "--accompaniment", tmp_path / "a.flac")
        assert result.exit_code == 0
        for name, path in (("vocals.wav", "v.wav"), ("accompaniment.flac", "a.flac")):
            got = running.client.get(f"/api/songs/{song_id}/files/{name}").content
            assert got == (tmp_path / path).read_bytes()
        about = running.client.get(f"/api/songs/{song_id}/bundle/song.json").json()
        assert about["command"] == f"vocalsep extract song.wav --stem both -m {model}"
        report = running.client.get(f"/api/songs/{song_id}/files/report.json").json()
        assert report["model"] == "narrow"


def test_it_listens_on_this_machine_only_and_prints_one_line(tmp_path: Path, model: Path) -> None:
    with start(tmp_path / "songs", model) as running:
        assert running.address.startswith("http://127.0.0.1:")
        port = int(running.address.rpartition(":")[2])
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
        ]
        assert listening == [f"0100007F:{port:04X}"]
        running.process.send_signal(signal.SIGINT)
        out, err = running.process.communicate()
        assert (out, err) == ("", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_server_and_workers_and_the_next_server_goes_on(
    tmp_path: Path, model: Path, song: Path, long_song: Path, number: signal.Signals, status: int
) -> None:
    with start(tmp_path / "songs", model) as running:
        finished = running.upload(song)
        running.wait(finished, "done")
        unfinished = running.upload(long_song)
        running.wait(unfinished, "working")
        with running.client.stream("GET", "/api/events") as stream:  # a page that is open does not delay the end
            next(stream.iter_lines())
            running.process.send_signal(number)
            assert running.process.wait() == status
        wait_until(lambda: not list_processes(running.process.pid))
    left = {path.name for path in (tmp_path / "songs" / unfinished).iterdir()}
    assert left <= {"song.json", "song.wav", "bundle.zip"}
    with start(tmp_path / "songs", model) as running:
        assert running.wait(finished, "done")
        running.wait(unfinished, "working")
        running.client.post(f"/api/songs/{unfinished}/stop", headers=CHANGE)
        running.wait(unfinished, "stopped")
        assert running.client.get(f"/api/songs/{finished}/files/vocals.mp3").status_code == 200


def test_a_song_in_progress_can_be_stopped_and_the_next_one_is_separated(
    tmp_path: Path, model: Path, song: Path, long_song: Path
) -> None:
    with start(tmp_path / "songs", model) as running:
        unwanted, wanted = running.upload(long_song), running.upload(song)
        told = running.wait(unwanted, "working")
        assert told[-1]["name"] == "long.wav"
        assert running.client.request("DELETE", f"/api/songs/{unwanted}", headers=CHANGE).status_code == 200
        running.wait(wanted, "done")
        assert not (tmp_path / "songs" / unwanted).exists()


def test_a_worker_that_dies_fails_its_song_alone(tmp_path: Path, model: Path, song: Path, long_song: Path) -> None:
    with start(tmp_path / "songs", model) as running:
        unlucky = running.upload(long_song)
        running.wait(unlucky, "working")
        children = Path(f"/proc/{running.process.pid}/task").glob("*/children")
        workers = [int(number) for path in children for number in path.read_text(encoding="ascii").split()]
        for worker in workers:
            if b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
        told = running.wait(unlucky, "failed")
        assert told[-1]["error"].startswith("long.wav: its worker process ended with status -9")
        running.wait(running.upload(song), "done")


def test_a_tab_that_closes_during_an_upload_leaves_nothing(tmp_path: Path, model: Path, song: Path) -> None:
    with start(tmp_path / "songs", model) as running:
        host, _, port = running.address.removeprefix("http://").partition(":")
        cookie = "; ".join(f"{name}={value}" for name, value in running.client.cookies.items())
        head = f"POST /api/songs?name=a.wav HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n"
        head += "X-Vocalsep: 1\r\nContent-Length: 1000000\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + bytes(1_000))
            wait_until(lambda: count_folders(tmp_path / "songs") == 1)
        wait_until(lambda: count_folders(tmp_path / "songs") == 0)
        running.wait(running.upload(song), "done")


def count_folders(folder: Path) -> int:
    return sum(path.is_dir() for path in folder.iterdir())


def test_a_model_that_cannot_be_loaded_is_an_error_at_the_song(tmp_path: Path, broken_model: Path, song: Path) -> None:
    with start(tmp_path / "songs", broken_model) as running:
        told = running.wait(running.upload(song), "failed")
        assert "broken.safetensors" in told[-1]["error"]


def test_options_choose_the_model_and_its_settings(tmp_path: Path, model: Path, song: Path) -> None:
    with start(tmp_path / "songs", model) as running:
        params = {"name": "a.wav", "gate": "yes", "inversion": "griffin-lim-phase"}
        answer = running.client.post("/api/songs", params=params, content=song.read_bytes(), headers=CHANGE)
        told = running.wait(answer.json()["id"], "done")
        assert told[-1]["options"] == {"model": str(model), "masks": "auto"} | {
            name: value for name, value in params.items() if name != "name"
        }
        about = running.client.get(f"/api/songs/{answer.json()['id']}/bundle/song.json").json()
        assert about["command"].endswith("--gate --inversion griffin-lim-phase")


def test_another_address_warns(tmp_path: Path, model: Path) -> None:
    with start(tmp_path / "songs", model, "--host", "0.0.0.0") as running:
        running.process.send_signal(signal.SIGTERM)
        error = running.process.communicate()[1]
    assert "0.0.0.0: other people on your network can reach this address" in error


def test_a_port_in_use_is_an_error_in_words(tmp_path: Path, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--no-browser", "--port", port, "--folder", tmp_path / "songs", "-m", model)
    assert read_error(result).startswith(f"cannot listen on 127.0.0.1, port {port} (Address already in use); --port 0")


def test_a_folder_in_use_is_an_error_in_words(tmp_path: Path, model: Path) -> None:
    with start(tmp_path / "songs", model):
        result = run("serve", "--no-browser", "--port", 0, "--folder", tmp_path / "songs", "-m", model)
    assert "in use; another vocalsep serve keeps its songs there" in read_error(result)


def test_an_unknown_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    error = read_misuse(run("serve", "--no-browser", "--folder", tmp_path / "songs", "-m", "nothing"))
    assert "unknown model 'nothing'" in error
    assert not (tmp_path / "songs").exists()


def test_songs_are_kept_in_the_users_data_folder(tmp_path: Path) -> None:
    assert serve.find_folder() == tmp_path / "home" / "vocalsep" / "songs"


def test_the_command_names_what_differs_from_the_defaults() -> None:
    models = {DEFAULT_MODEL: (DEFAULT_MODEL,), "unet + uhnet": ("unet", "uhnet")}
    plain = {"model": DEFAULT_MODEL, "gate": "no", "masks": "auto", "inversion": "phase"}
    assert serve.describe_command("my song.mp3", plain, models) == "vocalsep extract 'my song.mp3' --stem both"
    mean = plain | {"model": "unet + uhnet", "masks": "net"}
    assert serve.describe_command("a.mp3", mean, models) == (
        "vocalsep extract a.mp3 --stem both -m unet -m uhnet --masks net"
    )
