from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from vocalsep.audio import CLIPPING
from vocalsep.audio.formats import FORMATS, SUBTYPES
from vocalsep.cli.batch import options, plan
from vocalsep.cli.batch.inputs import Song
from vocalsep.cli.batch.naming import FIELDS, PRESETS, Naming
from vocalsep.cli.parameters import Clip, OutputFormat, Preset, Subtype
from vocalsep.errors import AudioError

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
    return [Path(path).as_posix() for path in naming.name_outputs(Song(path=Path(song), folder=folder)).values()]


def found(*paths: Path) -> list[Song]:
    return [Song(path=path, named=False) for path in paths]


def test_every_field_is_filled() -> None:
    naming = named("out/{model}/{folder}/{song} ({stem}).{ext}", "", extension="flac")
    expected = [f"out/unet/cd 1/a/So.ng ({stem}).flac" for stem in ("vocals", "accompaniment")]
    assert outputs(naming, "music/cd 1/a/So.ng.mp3", "cd 1/a") == expected
    assert outputs(named("{{{song}}}.wav"), "x.wav") == ["{x}.wav"]
    assert outputs(named("{source}/{song}.{ext}"), "a/x.MP3") == ["MP3/x.wav"]


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
    try:
        (path,) = named(f"out/sub/{template}{{song}}.wav").name_outputs(song).values()
        relative = named(f"{{folder}}/{template}{{song}}").name_outputs(song)["vocals"]
    except AudioError as error:
        refusal = str(error)
        assert str(song.path) in refusal
        return
    assert isinstance(path, Path)
    assert os.path.normpath(path) == str(path)
    assert path.parts[:2] == ("out", "sub")
    assert not Path(relative).is_absolute()


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


def test_outputs_that_cannot_be_told_apart_are_misuse(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"-o o/\{stem\}\.wav: gives all songs the same name; add \{song\}"):
        named("o/{stem}.wav", many=True)
    same = named(str(tmp_path / "{song}.wav"), str(tmp_path / "{song}.wav"))
    with pytest.raises(typer.BadParameter, match="would be written twice"):
        plan.make([Song(path=tmp_path / "x.wav")], same)


def decide(songs: list[Song], naming: Naming, **options: Any) -> list[str]:
    """Return the name of each song's vocals, or why it is refused."""
    return [job.refusal or Path(job.outputs["vocals"]).name for job in plan.make(songs, naming, **options)]


def test_only_songs_that_get_the_same_output_are_refused_with_a_hint_that_helps() -> None:
    songs = [Song(path=Path(name), folder=name[0], named=False) for name in ("a/x.wav", "b/x.wav", "b/y.wav")]
    refused = decide(songs, named("o", many=True))
    assert refused[0].startswith("a/x.wav: o/x.vocals.wav would also hold the outputs of b/x.wav; ")
    assert [text.rpartition("; ")[2] for text in refused[:2]] == [
        "use -o 'o/{folder}/{song}.{stem}.{ext}', or add --number"
    ] * 2
    assert refused[2] == "y.vocals.wav"
    assert decide(songs, named("o/{folder}/{song}.{stem}.{ext}", many=True)) == ["x.vocals.wav"] * 2 + ["y.vocals.wav"]
    named_ones = [Song(path=song.path) for song in songs]  # {folder} does not help here
    assert decide(named_ones, named("o", many=True))[0].endswith("; leave out -o, or add --number")
    assert decide(named_ones, named(None, many=True)) == ["x.vocals.wav"] * 2 + ["y.vocals.wav"]
    assert decide(songs, named("o", many=True), number=True) == ["x.vocals.wav", "x-2.vocals.wav", "y.vocals.wav"]


def test_songs_that_differ_in_their_extension_keep_it() -> None:
    songs = [Song(path=Path(name)) for name in ("a/x.wav", "a/x.flac", "a/y.wav", "b/x.wav")]
    assert decide(songs, named(None, many=True)) == [
        "x.wav.vocals.wav",
        "x.flac.vocals.wav",
        "y.vocals.wav",
        "x.vocals.wav",
    ]
    into_one = decide(songs, named("o", many=True))
    assert into_one[1:3] == ["x.flac.vocals.wav", "y.vocals.wav"]
    assert all("would also hold" in into_one[index] for index in (0, 3))
    assert decide(songs, named("o", many=True), number=True) == [
        "x.vocals.wav",
        "x.flac.vocals.wav",
        "y.vocals.wav",
        "x-2.vocals.wav",
    ]
    taken = [Song(path=Path(name)) for name in ("a/x.wav", "b/x.wav", "x-2.wav")]
    assert decide(taken, named("o", many=True), number=True) == ["x.vocals.wav", "x-3.vocals.wav", "x-2.vocals.wav"]


@given(st.lists(st.sampled_from(["a/x.wav", "b/x.wav", "a/x.flac", "c/x.flac", "x-2.wav", "x.wav.wav"]), unique=True))
def test_no_two_songs_ever_get_one_output(names: list[str]) -> None:
    songs = [Song(path=Path(name)) for name in names]
    for number in (False, True):
        jobs = plan.make(songs, named("o", "", many=True), number=number)
        written = [path for job in jobs if not job.refusal for path in job.outputs.values()]
        assert len(written) == len(set(written))
        assert not number or not any(job.refusal for job in jobs)


def test_a_preset_gives_names_and_format() -> None:
    assert set(get_args(Preset)) == PRESETS.keys()
    preset = PRESETS["ultrastar"]
    naming = named(None, "", extension=preset.extension, names=preset.names)
    assert outputs(naming, "a/A - T.m4a") == ["a/A - T [VOC].mp3", "a/A - T [INSTR].mp3"]
    assert outputs(dataclasses.replace(naming, extension="ogg"), "{x}.m4a")[0] == "{x} [VOC].ogg"


def test_songs_found_in_a_folder_that_the_call_would_write_are_left_out(tmp_path: Path) -> None:
    names = ("x.wav", "x.vocals.wav", "x.accompaniment.wav", "x.vocals.flac", "out/x.vocals.wav")
    paths = [tmp_path / name for name in names]

    def kept(naming: Naming, songs: list[Song]) -> list[str]:
        jobs = plan.make(songs, naming, existing="overwrite")
        return [str(job.song.relative_to(tmp_path)) for job in jobs]

    assert kept(named(None), found(*paths)) == ["x.wav", "x.vocals.flac", "out/x.vocals.wav"]
    assert kept(named(str(tmp_path / "out"), many=True), found(*paths[::4])) == ["x.wav"]
    assert kept(named(None), [Song(path=path) for path in paths[:2]]) == ["x.wav", "x.vocals.wav"]
    own = named(str(tmp_path / "{song}.wav"))  # each is its own output: refused, not left out
    (job,) = plan.make(found(paths[0]), own, existing="overwrite")
    assert "is one of the input songs" in job.refusal


def test_existing_outputs_are_refused_skipped_or_overwritten(tmp_path: Path) -> None:
    song = Song(path=tmp_path / "x.wav")
    both = named(None, "")

    def check(existing: str) -> tuple[str, bool]:
        (job,) = plan.make([song], both, existing=existing)
        assert job.is_pending == (not job.refusal and not job.skipped)
        return job.refusal.partition(": ")[2], bool(job.skipped)

    assert [check(existing) for existing in ("refuse", "skip", "overwrite")] == [("", False)] * 3
    (tmp_path / "x.vocals.wav").touch()
    refused = ("already exists; choose another output, or add --overwrite or --skip-existing", False)
    assert [check(existing) for existing in ("refuse", "skip", "overwrite")] == [refused, ("", False), ("", False)]
    (tmp_path / "x.accompaniment.wav").touch()
    assert [check(existing) for existing in ("refuse", "skip", "overwrite")] == [refused, ("", True), ("", False)]


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
        options.check_format(naming)
    with pytest.raises(typer.BadParameter, match=r"-o v\.wav and --format flac are different formats"):
        options.check_format(named("v.wav", extension="flac"))
    options.check_format(named("v.aif", extension="aiff"))  # two endings of one format
    with pytest.raises(typer.BadParameter, match=r"--accompaniment \{song\}\.flac has no \{ext\}"):
        options.check_format(named("{song}.{ext}", "{song}.flac", extension="flac"))


def test_the_choices_of_extract_are_those_of_the_library() -> None:
    assert set(get_args(OutputFormat)) == FORMATS.keys() - {"aif", "oga", "raw", "pcm"}
    assert get_args(Subtype) == tuple(SUBTYPES)
    assert set(get_args(Clip)) == set(CLIPPING)
    assert set(FIELDS) == {"stem", "song", "folder", "model", "ext", "source"}
