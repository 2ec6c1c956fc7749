from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path

import pytest
from song_server import make_report

from vocalsep.listening.server import store as stores
from vocalsep.listening.server.store import Song, Store, StoreError, clean_name, format_size


def open_store(folder: Path, limit: int = 10_000, song_limit: int = 1_000) -> contextlib.closing[Store]:
    return contextlib.closing(Store(folder, limit=limit, song_limit=song_limit))


def add(store: Store, name: str = "song.wav", size: int = 100) -> Song:
    with store.receive(name, {"model": "m"}) as upload:
        upload.write(b"x" * size)
        return upload.finish()


def list_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_a_store_finds_its_songs_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first, second = add(store, "one.mp3"), add(store, "two.wav")
        report = make_report("one.mp3", 3.0)
        store.change(first, state=stores.DONE, report=report, done_seconds=3.0)
        assert store.place_recording(first).name == "song.mp3"
    with open_store(tmp_path) as store:
        assert [song.name for song in store.list_songs()] == ["one.mp3", "two.wav"]
        found = store.songs[first.id]
        assert (found.state, found.report, found.options) == ("done", report, {"model": "m"})
        assert store.songs[second.id].state == "waiting"
        assert store.used == first.used + second.used > 400


def test_what_was_in_progress_starts_again_from_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        song = add(store)
        store.change(song, state=stores.WORKING, done_seconds=5.0)
        store.place(song, "bundle.zip").write_bytes(b"half")
        store.place(song, ".accompaniment.abcdefgh.part").write_bytes(b"half")
    with open_store(tmp_path) as store:
        found = store.songs[song.id]
        assert (found.state, found.done_seconds) == ("waiting", 0.0)
        assert sorted(path.name for path in store.place(found).iterdir()) == ["song.json", "song.wav"]


@pytest.mark.parametrize("state", [stores.FAILED, stores.STOPPED])
def test_what_failed_or_was_stopped_stays_so(tmp_path: Path, state: str) -> None:
    with open_store(tmp_path) as store:
        store.change(add(store), state=state, error="why")
    with open_store(tmp_path) as store:
        assert [(song.state, song.error) for song in store.list_songs()] == [(state, "why")]


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.receive("song.wav", {}) as upload:
            upload.write(b"x" * 500)
            assert store.used == 500
        assert (store.used, store.list_songs(), list_folders(tmp_path)) == (0, [], [])


def test_an_upload_of_a_killed_server_is_deleted(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        kept = add(store)
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "0123456789abcdef" / "song.mp3").write_bytes(b"half")
    with open_store(tmp_path):
        assert list_folders(tmp_path) == [kept.id]


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "mine.mp3").write_bytes(b"mine")
    broken = tmp_path / "fedcba9876543210"
    broken.mkdir()
    (broken / "song.json").write_text("[]", encoding="utf-8")
    moved = tmp_path / "0000000000000000"
    moved.mkdir()
    (moved / "song.json").write_text(json.dumps({"id": "../../etc", "name": "x"}), encoding="utf-8")
    with open_store(tmp_path) as store:
        assert store.list_songs() == []
        assert len(list_folders(tmp_path)) == 3


@pytest.mark.parametrize(
    "change",
    [
        *({"added": value} for value in ("now", None, float("nan"), 10**400)),
        *({"name": 3}, {"suffix": []}, {"warnings": "text"}, {"options": {"model": []}}, {"report": []}, {"used": "x"}),
    ],
)
def test_a_song_with_fields_of_other_types_is_left_alone(tmp_path: Path, change: dict[str, object]) -> None:
    with open_store(tmp_path) as store:
        kept, other = add(store), add(store)
    path = tmp_path / other.id / "song.json"
    for text in (json.dumps(json.loads(path.read_text()) | change), "[" * 10**5):
        path.write_text(text)
        with open_store(tmp_path) as store:
            assert list(store.songs) == [kept.id]
            assert path.read_text() == text


@pytest.mark.parametrize("change", [{}, {"audio_seconds": "1"}, {"times_real_time": None}, {"model": 3}, {"voice": 1}])
def test_a_done_song_whose_report_says_too_little_is_separated_again(tmp_path: Path, change: dict[str, object]) -> None:
    report = make_report("song.wav", 1.0) | change if change else {}
    with open_store(tmp_path) as store:
        store.change(add(store, "a\x1b.wav"), state=stores.DONE, report=report)
    with open_store(tmp_path) as store:
        assert [song.state for song in store.list_songs()] == ["waiting"]


def test_a_file_beyond_the_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, store.receive("song.wav", {}) as upload:
        upload.write(b"x" * 900)
        with pytest.raises(StoreError, match="larger than 1 kB") as refused:
            upload.write(b"x" * 200)
    assert refused.value.status == 413
    assert list_folders(tmp_path) == []


def test_announced_sizes_are_refused_before_the_first_byte(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, store.receive("song.wav", {}) as upload:
        with pytest.raises(StoreError, match="larger than 1 kB"):
            upload.expect(10 * 10**9)
        upload.expect(1_000)


def test_all_songs_together_stay_below_the_limit(tmp_path: Path) -> None:
    with open_store(tmp_path, limit=2_500) as store:
        first = add(store, size=1_000)
        with store.receive("two.wav", {}) as two, store.receive("three.wav", {}) as three:
            two.write(b"x" * 800)
            with pytest.raises(StoreError, match=r"no room: all songs together may take 2\.5 kB") as refused:
                three.write(b"x" * 800)
        assert refused.value.status == 507
        assert store.used == first.used <= 2_500
        add(store, size=1_000)


def test_downloads_that_can_be_made_again_go_when_room_is_needed(tmp_path: Path) -> None:
    with open_store(tmp_path, limit=3_000) as store:
        song = add(store, size=500)
        store.place(song, stores.DOWNLOADS).mkdir()
        store.place(song, stores.DOWNLOADS, "vocals.wav").write_bytes(b"x" * 1_800)
        store.change(song)
        add(store, size=900)
        assert not store.place(song, stores.DOWNLOADS).exists()
        assert len(store.list_songs()) == 2


def test_a_full_disk_is_an_error_in_words_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            return None

    with open_store(tmp_path) as store:
        kept = add(store)
        monkeypatch.setattr(Path, "open", lambda *_: Full())
        with pytest.raises(StoreError, match=r"cannot be stored \(No space left on device\)") as refused:
            add(store)
        assert refused.value.status == 507
        assert list_folders(tmp_path) == [kept.id]


def test_a_state_that_cannot_be_written_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path) as store:
        song = add(store)

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("vocalsep.files.write_text", fail)
        store.change(song, state=stores.FAILED, error="x")
        assert store.songs[song.id].state == "failed"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(StoreError, match="empty"), store.receive("a.wav", {}) as upload:
        upload.finish()


def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    with open_store(tmp_path), pytest.raises(StoreError, match="another vocalsep serve keeps its songs there"):
        Store(tmp_path, limit=1, song_limit=1)
    Store(tmp_path, limit=1, song_limit=1).close()


def test_removed_songs_are_gone(tmp_path: Path) -> None:
    heard: list[str] = []
    with open_store(tmp_path) as store:
        song = add(store)
        store.listen(heard.append)
        store.remove(song)
        store.change(song, state=stores.DONE)  # too late
        assert heard == [song.id]
        assert (store.list_songs(), list_folders(tmp_path), store.used) == ([], [], 0)


@pytest.mark.parametrize(
    ("name", "expected", "suffix"),
    [
        ("../../etc/passwd", "passwd", ""),
        ("C:\\music\\a.MP3", "a.MP3", ".mp3"),
        ("a.exe", "a.exe", ""),
        ("a\nb\x1b[31m.wav", "a\ufffdb\ufffd[31m.wav", ".wav"),
        ("<b>x</b>.ogg", "b>.ogg", ".ogg"),
        ("", "song", ""),
        ("..", "..", ""),
        ("caf\u00e9 \u202e.flac", "caf\u00e9 \ufffd.flac", ".flac"),
    ],
)
def test_names_never_become_paths(tmp_path: Path, name: str, expected: str, suffix: str) -> None:
    with open_store(tmp_path) as store:
        song = add(store, name)
        assert (song.name, song.suffix) == (expected, suffix)
        assert store.place_recording(song) == tmp_path / song.id / f"song{suffix}"


def test_long_names_keep_their_extension() -> None:
    assert clean_name("x" * 5_000 + ".flac") == "x" * 195 + ".flac"


def test_sizes_are_written_as_people_write_them() -> None:
    assert [format_size(size) for size in (0, 999, 1_500, 20 * 10**9)] == ["0 bytes", "999 bytes", "1.5 kB", "20 GB"]
