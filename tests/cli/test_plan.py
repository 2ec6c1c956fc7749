from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from vocalsep.audio import CLIPPING
from vocalsep.audio.formats import FORMATS, SUBTYPES
from vocalsep.cli.batch import plan
from vocalsep.cli.batch.inputs import Song
from vocalsep.cli.batch.plan import FIELDS, Naming
from vocalsep.cli.extract import Clip, OutputFormat, Subtype

NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8) | st.sampled_from(
    ["..", ".", "...", "...wav", "..wav", "{song}", "{", "a.b.wav", "~", "-x", "C:"]
)
TEMPLATES = (
    st.lists(
        st.sampled_from(["{stem}", "{song}", "{folder}", "{model}", "{ext}", ".", "-", "a", "/", "{{", "}}"]),
        max_size=8,
    )
    .map("".join)
    .filter(lambda template: ".." not in template.split("/")[:-1])  # which is where the user wants to go
)


def named(place: str | None, accompaniment: str | None = None, **options: Any) -> Naming:
    places = {"vocals": place} | ({} if accompaniment is None else {"accompaniment": accompaniment})
    return Naming(places=places, model="unet", **options)


def outputs(naming: Naming, song: str, folder: str = "") -> list[str]:
    job = naming.plan_job(Song(path=Path(song), folder=folder))
    assert not job.refusal
    return [path.as_posix() for path in job.outputs.values()]


def found(*paths: Path) -> list[Song]:
    return [Song(path=path, named=False) for path in paths]


def test_every_field_is_filled() -> None:
    naming = named("out/{model}/{folder}/{song} ({stem}).{ext}", "", extension="flac")
    expected = [f"out/unet/cd 1/a/So.ng ({stem}).flac" for stem in ("vocals", "accompaniment")]
    assert outputs(naming, "music/cd 1/a/So.ng.mp3", "cd 1/a") == expected
    assert outputs(named("{{{song}}}.wav"), "x.wav") == ["{x}.wav"]


def test_an_empty_folder_field_leaves_no_trace() -> None:
    assert outputs(named("{folder}/{song}.{stem}.wav"), "a/x.wav") == ["x.vocals.wav"]
    assert outputs(named("/o/{folder}/{song}.wav"), "a/x.wav") == ["/o/x.wav"]


@pytest.mark.parametrize(
    ("place", "accompaniment", "expected"),
    [
        ("o/{song}.{stem}.flac", "", "o/x.accompaniment.flac"),  # the same template
        ("o/{song}.flac", "", "o/x.accompaniment.wav"),  # beside the vocals
        ("o/{song}.flac", "k/{song}-{stem}.mp3", "k/x-accompaniment.mp3"),
        (None, "k/{song}.mp3", "k/x.mp3"),
        ("o/v.wav", "", "o/x.accompaniment.wav"),
        (None, "", "a/x.accompaniment.wav"),
    ],
)
def test_the_accompaniment_has_a_name_of_its_own(place: str | None, accompaniment: str, expected: str) -> None:
    assert outputs(named(place, accompaniment), "a/x.wav")[1] == expected


@given(TEMPLATES, NAMES, st.lists(NAMES.filter(lambda name: name not in (".", "..")), max_size=3))
def test_no_name_leads_out_of_the_folder_in_the_template(template: str, name: str, folder: list[str]) -> None:
    song = Song(path=Path("music", *folder, name), folder="/".join(folder))
    job = named(f"out/sub/{template}{{song}}.wav").plan_job(song)
    if job.refusal:
        assert str(song.path) in job.refusal
        return
    (path,) = job.outputs.values()
    assert os.path.normpath(path) == str(path)
    assert path.parts[:2] == ("out", "sub")
    for relative in named(f"{{folder}}/{template}{{song}}").plan_job(song).outputs.values():
        assert not relative.is_absolute()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{sogn}.wav", "unknown field 'sogn'; did you mean 'song'?"),
        ("{}.wav", "unknown field ''"),
        ("{0}.wav", "unknown field '0'"),
        ("{song.__class__}.wav", "unknown field"),
        ("{song[0]}.wav", "unknown field"),
        ("{song!r}.wav", "write a field as its name alone, as in {song}"),
        ("{song:>99}.wav", "write a field as its name alone"),
        ("{song.wav", "write {{ and }} for literal braces"),
        ("song}.wav", "write {{ and }} for literal braces"),
    ],
)
def test_a_template_that_cannot_be_filled_is_misuse(template: str, expected: str) -> None:
    for places in ({"vocals": template}, {"vocals": None, "accompaniment": template}):
        with pytest.raises(typer.BadParameter) as caught:
            Naming(places=dict(places))
        assert expected in str(caught.value)
        assert template in str(caught.value)


def test_outputs_that_collide_are_misuse(tmp_path: Path) -> None:
    songs = [Song(path=tmp_path / name) for name in ("a/x.wav", "b/x.wav", "b/x.mp3")]
    for template in ("o/{stem}.wav", "o/{song}.wav", "{song}/../{song}.wav"):
        with pytest.raises(typer.BadParameter, match="would be written twice"):
            plan.make(songs, named(str(tmp_path / template), many=True))
    with pytest.raises(typer.BadParameter, match="would be written twice"):
        plan.make(songs[:1], named(str(tmp_path / "{song}.wav"), str(tmp_path / "{song}.wav")))


def test_songs_found_in_a_folder_that_the_call_would_write_are_left_out(tmp_path: Path) -> None:
    names = ("x.wav", "x.vocals.wav", "x.accompaniment.wav", "x.vocals.flac", "out/x.vocals.wav")
    paths = [tmp_path / name for name in names]

    def kept(naming: Naming, songs: list[Song]) -> list[str]:
        jobs = plan.make(songs, naming, existing="overwrite")
        return [str(job.song.relative_to(tmp_path)) for job in jobs]

    assert kept(named(None), found(*paths)) == ["x.wav", "x.vocals.flac", "out/x.vocals.wav"]
    assert kept(named(None, extension="flac"), found(*paths[:4])) == ["x.wav", "x.vocals.wav", "x.accompaniment.wav"]
    assert kept(named(str(tmp_path / "out"), many=True), found(*paths[::4])) == ["x.wav"]
    assert kept(named(None), [Song(path=path) for path in paths[:2]]) == ["x.wav", "x.vocals.wav"]
    own = named(str(tmp_path / "{song}.wav"))  # each is its own output: refused, not left out
    (job,) = plan.make(found(paths[0]), own, existing="overwrite")
    assert "is one of the input songs" in job.refusal


def test_existing_outputs_are_refused_skipped_or_overwritten(tmp_path: Path) -> None:
    song = Song(path=tmp_path / "x.wav")
    both = named(None, "")

    def decide(existing: str) -> tuple[str, bool]:
        (job,) = plan.make([song], both, existing=existing)
        assert job.is_pending == (not job.refusal and not job.skipped)
        return job.refusal.partition(": ")[2], job.skipped

    assert [decide(existing) for existing in ("refuse", "skip", "overwrite")] == [("", False)] * 3
    (tmp_path / "x.vocals.wav").touch()
    refused = ("exists already; choose another output, or add --overwrite or --skip-existing", False)
    assert [decide(existing) for existing in ("refuse", "skip", "overwrite")] == [refused, ("", False), ("", False)]
    (tmp_path / "x.accompaniment.wav").touch()
    assert [decide(existing) for existing in ("refuse", "skip", "overwrite")] == [refused, ("", True), ("", False)]


def test_a_name_that_is_too_long_is_a_refusal(tmp_path: Path) -> None:
    (job,) = plan.make([Song(path=tmp_path / ("é" * 125 + ".wav"))], named(None))
    assert job.refusal.endswith("cannot be written (File name too long)")


def test_a_format_and_a_name_must_agree(tmp_path: Path) -> None:
    for naming in (
        named(None, extension="flac"),
        named(f"{tmp_path}", extension="flac"),
        named("v.FLAC", "", extension="flac"),
        named("new", extension="flac", many=True),
        named("{song}.{ext}", extension="flac"),
    ):
        plan.check_format(naming)
    with pytest.raises(typer.BadParameter, match=r"-o v\.wav and --format flac are two formats"):
        plan.check_format(named("v.wav", extension="flac"))
    plan.check_format(named("v.aif", extension="aiff"))  # two endings of one format
    with pytest.raises(typer.BadParameter, match=r"--accompaniment \{song\}\.flac has no \{ext\}"):
        plan.check_format(named("{song}.{ext}", "{song}.flac", extension="flac"))


def test_the_choices_of_extract_are_those_of_the_library() -> None:
    assert set(get_args(OutputFormat)) == FORMATS.keys() - {"aif", "oga", "raw", "pcm"}
    assert get_args(Subtype) == tuple(SUBTYPES)
    assert set(get_args(Clip)) == set(CLIPPING)
    assert set(FIELDS) == {"stem", "song", "folder", "model", "ext"}
