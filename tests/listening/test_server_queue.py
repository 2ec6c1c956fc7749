from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_nets
import pytest
import synthetic_songs
from song_server import HalfRunner, Server, open_server, wait_until

from vocalsep.listening.server import queue as queues
from vocalsep.listening.server.queue import OnEvent, Work


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with open_server(tmp_path / "songs") as opened:
        yield opened


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A wav file of 0.1 s."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    return synthetic_songs.write(path, fake_nets.noise(1, 4_800).T, 48_000).read_bytes()


def test_a_song_is_separated_and_its_report_tells_no_path(server: Server, song: bytes, tmp_path: Path) -> None:
    found = server.wait(server.upload(song, "my song.wav", model="large"))
    assert (found.seconds, found.done_seconds, found.error) == (0.1, 0.1, "")
    assert found.options == {"model": "large", "gate": "no"}
    assert found.report is not None
    assert found.report["input"] == "my song.wav"
    assert "outputs" not in found.report
    assert found.warnings == found.report["warnings"] == ["my song.wav: odd tags"]
    assert str(tmp_path) not in str(found)


def test_songs_are_separated_in_the_order_in_which_they_come(server: Server, song: bytes) -> None:
    server.runner.gate.clear()
    ids = [server.upload(song, f"{number}.wav") for number in range(4)]
    server.wait(ids[0], "working")
    assert [server.store.songs[each].state for each in ids[1:]] == ["waiting"] * 3
    server.runner.gate.set()
    for each in ids:
        server.wait(each)
    assert [work.recording.parent.name for work in server.runner.works] == ids


def test_a_file_that_is_no_song_fails_in_words_and_the_next_one_is_separated(server: Server, song: bytes) -> None:
    bad, good = server.upload(b"no sound", "notes.txt"), server.upload(song)
    assert server.wait(bad, "failed").error == "notes.txt: is not a recording"
    server.wait(good)
    assert server.runner.rests == 0


def test_a_song_in_progress_can_be_stopped_and_started_again(server: Server, song: bytes) -> None:
    server.runner.gate.clear()
    stopped, waiting = server.upload(song), server.upload(song)
    server.queue.stop(server.wait(stopped, "working"))
    server.wait(stopped, "stopped")
    server.wait(waiting, "working")
    server.runner.gate.set()
    server.queue.restart(server.store.songs[stopped], {"model": "large", "gate": "yes"})
    assert server.wait(stopped).options == {"model": "large", "gate": "yes"}


def test_a_waiting_song_can_be_stopped_and_is_never_begun(server: Server, song: bytes) -> None:
    server.runner.gate.clear()
    first, second = server.upload(song), server.upload(song)
    server.wait(first, "working")
    server.queue.stop(server.store.songs[second])
    assert server.store.songs[second].state == "stopped"
    server.runner.gate.set()
    server.wait(first)
    assert len(server.runner.works) == 1


def test_starting_a_song_that_waits_or_works_changes_nothing(server: Server, song: bytes) -> None:
    server.runner.gate.clear()
    first, second = server.upload(song), server.upload(song)
    for each in (server.wait(first, "working"), server.store.songs[second]):
        server.queue.restart(each, {"model": "large", "gate": "no"})
        assert each.options["model"] == "small"
    server.runner.gate.set()
    server.wait(second)
    assert len(server.runner.works) == 2


def test_a_song_that_is_removed_while_it_is_separated_leaves_nothing(
    server: Server, song: bytes, tmp_path: Path
) -> None:
    server.runner.gate.clear()
    found = server.wait(server.upload(song), "working")
    server.queue.remove(found)
    wait_until(lambda: not [path for path in (tmp_path / "songs").iterdir() if path.is_dir()])
    assert server.store.list_songs() == []


def test_a_result_that_would_exceed_the_limit_stops_the_song(tmp_path: Path, song: bytes) -> None:
    class Greedy(HalfRunner):
        def run(self, work: Work, on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
            if not self.works:
                work.accompaniment.write_bytes(bytes(100_000))
                on_event("progress", {"seconds": 1.0, "of": 2.0})
                assert should_stop()
                self.works.append(work)
                return
            super().run(work, on_event, should_stop)

    with open_server(tmp_path / "songs", limit=60_000) as server:
        server.queue.close()
        server.queue = queues.Queue(server.store, [Greedy()])
        with server.store.receive("a.wav", {"model": "small"}) as upload:
            upload.write(song)
            greedy = upload.finish()
        server.queue.add(greedy)
        wait_until(lambda: greedy.state == "failed")
        assert greedy.error.startswith("no room: all songs together may take 60 kB; remove songs")
        assert server.store.used < 20_000
        server.queue.close()


def test_a_bug_in_a_runner_fails_its_song_alone(tmp_path: Path, song: bytes, caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(HalfRunner):
        def run(self, work: Work, on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
            if self.works:
                super().run(work, on_event, should_stop)
                return
            self.works.append(work)
            raise KeyError("bug")

    with open_server(tmp_path / "songs") as server:
        server.queue.close()
        server.queue = queues.Queue(server.store, [Buggy()])
        songs = []
        for name in ("a.wav", "b.wav"):
            with server.store.receive(name, {"model": "small"}) as upload:
                upload.write(song)
                songs.append(upload.finish())
            server.queue.add(songs[-1])
        wait_until(lambda: songs[1].state == "done")
        assert (songs[0].state, songs[0].error) == ("failed", "KeyError: 'bug'")
        assert "KeyError" in caplog.text
        server.queue.close()


def test_a_closed_queue_stops_at_once_and_the_next_server_goes_on(tmp_path: Path, song: bytes) -> None:
    with open_server(tmp_path / "songs") as server:
        server.runner.gate.clear()
        first, second = server.upload(song), server.upload(song)
        server.wait(first, "working")
    with open_server(tmp_path / "songs") as server:
        server.wait(first)
        server.wait(second)
        assert [work.recording.parent.name for work in server.runner.works] == [first, second]


@pytest.mark.slow
def test_a_thousand_songs_can_wait(server: Server, song: bytes) -> None:
    server.runner.gate.clear()
    songs = []
    for number in range(1_000):
        with server.store.receive(f"{number}.wav", {"model": "small"}) as upload:
            upload.write(song[:100])
            songs.append(upload.finish())
        server.queue.add(songs[-1])
    assert len(server.store.list_songs()) == 1_000
    for each in songs:
        server.queue.remove(each)
    wait_until(lambda: not server.store.list_songs())
    server.runner.gate.set()
    server.wait(server.upload(song))


def test_a_runner_without_work_gives_its_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_IDLE_SECONDS", 0.01)
    with open_server(tmp_path / "songs") as server:
        wait_until(lambda: server.runner.rests > 0)
        assert threading.active_count() >= 2
