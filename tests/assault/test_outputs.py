"""Outputs: links are followed, pipes and devices are written into, inputs are refused, and short songs are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs
from assault import check_clean, check_ended
from assault import run as run_process
from command_line import read_error, read_misuse, read_objects, run

from vocalsep import audio, extraction, files
from vocalsep.errors import AudioError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes")


@pytest.fixture
def song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A song of one second in the current folder."""
    monkeypatch.chdir(tmp_path)
    return synthetic_songs.write(Path("song.wav"), np.random.default_rng(0).normal(0, 0.1, 8_000), 8_000)


def test_a_dangling_link_is_not_replaced_without_overwrite(song: Path, model: Path) -> None:
    Path("link.wav").symlink_to("elsewhere.wav")
    assert "already exists" in read_error(run("extract", song, "-o", "link.wav", "-m", model))
    assert Path("link.wav").is_symlink()
    assert run("extract", song, "-o", "link.wav", "-m", model, "--overwrite").exit_code == 0
    assert Path("link.wav").is_symlink()
    assert soundfile.info("elsewhere.wav").frames == 8_000


def test_a_link_to_a_file_stays_and_its_file_is_replaced(song: Path, model: Path) -> None:
    Path("real").mkdir()
    Path("real/old.wav").write_bytes(b"old")
    Path("link.wav").symlink_to("real/old.wav")
    assert run("extract", song, "-o", "link.wav", "-m", model, "--overwrite").exit_code == 0
    assert Path("link.wav").is_symlink()
    assert soundfile.info("real/old.wav").frames == 8_000
    assert sorted(path.name for path in Path("real").iterdir()) == ["old.wav"]


def test_links_in_a_circle_are_told(song: Path, model: Path) -> None:
    Path("a.wav").symlink_to("b.wav")
    Path("b.wav").symlink_to("a.wav")
    check_clean(read_error(run("extract", song, "-o", "a.wav", "-m", model, "--overwrite")))
    assert Path("a.wav").is_symlink()


@pytest.mark.parametrize("extension", ["wav", "flac"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_named_pipe_gets_the_vocals(extension: str, more: list[str], song: Path, model: Path) -> None:
    pipe = Path(f"pipe.{extension}")
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    result = run("extract", song, "-o", pipe, "-m", model, *more)
    reader.join()
    assert result.exit_code == 0, result.output
    assert pipe.is_fifo()
    plain = Path(f"plain.{extension}")
    assert run("extract", song, "-o", plain, "-m", model).exit_code == 0
    assert received == [plain.read_bytes()]


def test_a_device_gets_the_vocals_and_stays(song: Path, model: Path) -> None:
    Path("null.wav").symlink_to(os.devnull)
    assert run("extract", song, "-o", "null.wav", "-m", model, "--overwrite").exit_code == 0
    assert Path(os.devnull).is_char_device()
    assert Path("null.wav").is_symlink()


def test_a_pipe_whose_reader_has_gone_fails_the_song_alone(song: Path, model: Path) -> None:
    shutil.copy(song, "other.wav")
    os.mkfifo("song.vocals.wav")
    reader = threading.Thread(target=lambda: os.close(os.open("song.vocals.wav", os.O_RDONLY)))
    reader.start()
    result = run("extract", song, "other.wav", "-m", model)
    reader.join()
    assert result.exit_code in (0, 1)  # a small file may fit into the pipe
    check_clean(result.output)
    assert soundfile.info("other.vocals.wav").frames == 8_000


def test_a_song_from_standard_input_is_not_replaced_by_its_vocals(song: Path, model: Path) -> None:
    before = song.read_bytes()
    for path in (song, Path("link.wav")):
        if not path.exists():
            path.symlink_to(song)
        with song.open("rb") as stdin:
            ended = run_process("extract", "-", "-o", path, "--overwrite", "-m", model, stdin=stdin)
        assert "one of the input songs" in check_ended(ended, 1)
    assert song.read_bytes() == before


def test_sound_does_not_go_into_the_song_that_it_comes_from(song: Path, model: Path) -> None:
    before = song.read_bytes()
    with song.open("ab") as stdout:
        ended = run_process("extract", song, "-o", "-", "-m", model, stdout=stdout)
    assert "standard output goes into this song" in check_ended(ended, 1)
    assert song.read_bytes() == before


def test_python_refuses_to_replace_the_song_too(song: Path, model: Path) -> None:
    before = song.read_bytes()
    Path("link.wav").symlink_to(song)
    for output in ("song.wav", "link.wav"):
        with pytest.raises(AudioError, match="is the song itself"):
            extraction.extract("song.wav", output, model=model)
    with song.open("rb") as opened, pytest.raises(AudioError, match="is the song itself"):
        extraction.extract(opened, song, model=model)
    assert song.read_bytes() == before


def test_a_wav_that_is_cut_off_is_told_and_fails_if_strict(song: Path, model: Path) -> None:
    long = synthetic_songs.write(Path("long.wav"), np.random.default_rng(0).normal(0, 0.1, 40_000), 8_000)
    content = long.read_bytes()
    Path("cut.wav").write_bytes(content[:30_000])
    result = run("extract", "cut.wav", "-m", model, "--json")
    assert result.exit_code == 0
    (report,) = read_objects(result.stdout)
    assert report["shorter_than_stated"] is True
    assert report["warnings"] == ["cut.wav: breaks off after 1.9 of 5.0 seconds"]
    (whole,) = read_objects(run("extract", long, "-m", model, "--json").stdout)
    assert whole["shorter_than_stated"] is False
    strict = run("extract", "cut.wav", "-m", model, "--strict", "--overwrite", "-o", "strict.wav")
    assert read_error(strict) == "cut.wav: breaks off after 1.9 of 5.0 seconds"
    assert not Path("strict.wav").exists()
    assert run("extract", long, "-m", model, "--strict", "--overwrite").exit_code == 0


def test_a_wav_that_shrinks_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = synthetic_songs.write_constant(tmp_path / "long.wav", 0.1, 30.0)
    with audio.Reader(path) as reader:
        blocks = iter(reader)
        next(blocks)
        os.truncate(path, path.stat().st_size // 3)
        seconds = 4.0 + sum(block.shape[-1] for block in blocks) / reader.rate
    assert seconds < 11
    assert "of 30.0 seconds" in reader.warning


def test_an_mp3_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
    with audio.Reader(path) as reader:
        list(reader)
        assert reader.warning == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with audio.Reader(path) as reader:
        list(reader)
        assert "of 3.0 seconds" in reader.warning


@pytest.mark.parametrize("option", ["-o", "--accompaniment", "--labels", "--picture", "--page"])
def test_a_name_of_300_letters_is_told_in_words(option: str, song: Path, model: Path) -> None:
    extension = {"--labels": "txt", "--picture": "png", "--page": "html"}.get(option, "wav")
    message = read_error_or_misuse(run("extract", song, "-m", model, option, f"{'a' * 300}.{extension}"))
    assert "File name too long" in message
    assert not files.is_folder("a" * 300)


def read_error_or_misuse(result: object) -> str:
    if result.exit_code == 2:
        return read_misuse(result)
    check_clean(result.output)
    assert result.exit_code == 1
    return result.stderr.splitlines()[-1]


def test_a_pattern_ends_in_folders_that_link_to_themselves(song: Path) -> None:
    Path("lp/side").mkdir(parents=True)
    shutil.copy(song, "lp/side/a.wav")
    shutil.copy(song, "lp/b.wav")
    for link in ("one", "two", "side/three"):
        Path("lp", link).symlink_to(Path("lp").resolve())
    for pattern in ("lp/**/*.wav", "lp/**", "**/[ab].wav", "l?/**/*.w*", "lp/**/**/*.wav", f"{Path.cwd()}/lp/**/*.wav"):
        result = run("extract", pattern, "--dry-run", "--json")
        found = [Path(each["input"]).name for each in read_objects(result.stdout)]
        assert sorted(found) == ["a.wav", "b.wav"], pattern
    (only,) = read_objects(run("extract", "lp/**/side/*.wav", "--dry-run", "--json").stdout)
    assert only["input"] == "lp/side/a.wav"


def test_a_forked_child_can_go_on_after_use_with_workers(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "fork.py"
    script.write_text(
        f"""
import os, sys
import numpy as np
from vocalsep import extraction
from vocalsep.errors import ConfigError
extractor = extraction.Extractor({str(model)!r}, workers=2, device="cpu")
sound = np.random.default_rng(0).normal(0, 0.1, (1, 40_000)).astype(np.float32)
before, _ = extractor.separate(sound, 8_000)
begun = extractor.start(8_000, 1)
begun.push(sound)
child = os.fork()
after, _ = extractor.separate(sound, 8_000)
if not child:
    try:
        begun.finish()
    except ConfigError as error:
        assert "began before os.fork" in str(error), error
    else:
        os._exit(3)
    os._exit(0 if (before == after).all() else 2)
begun.finish()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (before == after).all()
print("both")
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr
