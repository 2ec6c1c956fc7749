from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.datasets import layouts, splits
from vocalsep.datasets.layouts import dsd100, mir1k
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import DatasetError


def song(name: str, group: str, title: str = "", path: str = "") -> Track:
    return Track(name=name, group=group, song=title, vocals=(Source(Path(path)),) if path else ())


def test_tracks_with_nothing_in_common_pass() -> None:
    splits.refuse_leaks([song("1", "Ada", "Ada - One")], [song("2", "Brahe", "Brahe - Two")])
    splits.refuse_leaks([], [song("2", "Brahe")])


@pytest.mark.parametrize("shares_singers", [False, True])
@pytest.mark.parametrize(
    "held",
    [
        song("other", "x", "ADA - one!"),
        song("other", "x", "Nothing alike", path="/music/one/../one/vocals.wav"),
    ],
)
def test_a_song_that_is_trained_on_is_refused_by_name(held: Track, shares_singers: bool) -> None:
    trained = song("001 - Ada - One", "Ada", "Ada - One", path="/music/one/vocals.wav")
    with pytest.raises(DatasetError, match=r"songs .* also trained on: other"):
        splits.refuse_leaks([trained], [held], shares_singers=shares_singers)


def test_a_singer_who_is_trained_on_is_refused_unless_the_split_shares_singers() -> None:
    trained, held = [song("amy_1_01", "amy", "amy_1")], [song("amy_2_01", "Amy", "amy_2")]
    with pytest.raises(DatasetError, match=r"singers .* also trained on: amy_2_01 \(Amy\)"):
        splits.refuse_leaks(trained, held)
    splits.refuse_leaks(trained, held, shares_singers=True)


def test_names_without_letters_identify_nothing() -> None:
    splits.refuse_leaks([song("01", "01")], [song("01", "01")])


def test_songs_and_singers_trained_on_are_recognised_however_they_are_spelled() -> None:
    known = splits.collect_heard([song("1", "Ada", "Ada - One"), song("2", "", "01"), song("3", "Ada", "Ada - Two")])
    assert known == {"songs": ["adaone", "adatwo"], "singers": ["ada"]}
    assert splits.has_heard_song(known, song("x", "y", "ADA: one"))
    assert splits.has_heard_singer(known, song("x", "ada.", "Ada - Three"))
    assert not splits.has_heard_song(known, song("x", "Ada", "Ada - Three"))
    assert not splits.has_heard_song(known, song("01", "01"))
    assert not splits.has_heard_singer(known, song("01", "01"))
    assert not splits.has_heard_song({}, song("1", "Ada", "Ada - One"))


def heard_names() -> st.SearchStrategy[splits.Heard]:
    """What weights may name as trained on; old weights may lack either kind."""
    some = st.lists(st.sampled_from(["ada", "brahe", "curie", "dirac"]), unique=True).map(sorted)
    return st.fixed_dictionaries({}, optional={"songs": some, "singers": some})


@given(one=heard_names(), other=heard_names(), third=heard_names())
def test_merging_what_two_nets_were_trained_on_gives_the_sorted_union(
    one: splits.Heard, other: splits.Heard, third: splits.Heard
) -> None:
    found = splits.merge_heard(one, other)
    for kind in ("songs", "singers"):
        assert found[kind] == sorted(set(one.get(kind, ())) | set(other.get(kind, ())))
    assert found == splits.merge_heard(other, one) == splits.merge_heard(found, one) == splits.merge_heard(found, {})
    assert splits.merge_heard(found, third) == splits.merge_heard(one, splits.merge_heard(other, third))
    tracks = [song("1", "Ada", "Curie"), song("2", "Euler", "Noether")]
    assert splits.collect_heard(tracks, one) == splits.merge_heard(splits.collect_heard(tracks), one)


def test_only_the_first_ten_are_named() -> None:
    tracks = [song(f"song {n}", "x") for n in range(23)]
    with pytest.raises(DatasetError, match=r"song 9 and 13 more$"):
        splits.refuse_leaks(tracks, tracks)


def test_the_official_splits_do_not_share_songs(dsd100_root: Path, mir1k_root: Path) -> None:
    for find, parts in ((dsd100.find, ("Dev", "Test")), (mir1k.find, ("train", "test"))):
        training, test = (find(dsd100_root if find is dsd100.find else mir1k_root, part) for part in parts)
        splits.refuse_leaks(training.tracks, test.tracks, shares_singers=test.shares_singers)


def test_the_standard_split_holds_out_singers_and_drnn_is_marked_as_sharing_them(mir1k_root: Path) -> None:
    standard = splits.split_dataset("mir1k", mir1k_root, every=2)
    assert (standard.split, standard.shares_singers) == ("standard", False)
    assert {track.group for track in standard.training} == {"abjones"}
    assert {track.group for track in standard.validation} == {"amy"}
    songs = splits.split_dataset("mir1k", mir1k_root, every=3)  # more than there are singers, and more than songs
    assert {track.song for track in songs.validation} == {"amy_2"}
    drnn = splits.split_dataset("mir1k", mir1k_root, split="drnn")
    assert (drnn.split, drnn.shares_singers, drnn.validation) == ("drnn", True, ())


def test_the_root_comes_from_the_user_or_else_from_the_environment(
    dsd100_root: Path, mir1k_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOCALSEP_DSD100", raising=False)
    with pytest.raises(DatasetError, match="--root DIR, or set VOCALSEP_DSD100"):
        layouts.find_root("dsd100")
    monkeypatch.setenv("VOCALSEP_DSD100", str(dsd100_root))
    assert layouts.find_root("dsd100") == dsd100_root
    assert layouts.find_root("dsd100", mir1k_root) == mir1k_root
    monkeypatch.setenv("VOCALSEP_DSD100", str(tmp_path / "gone"))
    with pytest.raises(DatasetError, match=r"gone \(named by VOCALSEP_DSD100\)"):
        layouts.find_root("dsd100")


# holding out


def make_tracks(groups: list[str]) -> list[Track]:
    return [Track(name=str(number), group=group) for number, group in enumerate(groups)]


@settings(deadline=None, max_examples=60)
@given(groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), every=st.integers(1, 9))
def test_hold_out_never_splits_a_group_and_loses_nothing(groups: list[str], every: int) -> None:
    found = make_tracks(groups)
    training, validation, shares = splits.hold_out(found, every)
    assert sorted(track.name for track in training + validation) == sorted(track.name for track in found)
    if len(set(groups)) >= every:
        assert not shares
        assert {track.group for track in training}.isdisjoint(track.group for track in validation)
        assert len({track.group for track in validation}) == len(set(groups)) // every
    else:  # every track is a song of its own
        assert shares == (not {t.group for t in training}.isdisjoint(t.group for t in validation))
        assert len(validation) == max(len(found) // every, min(1, len(found) - 1))


@settings(deadline=None, max_examples=30)
@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30),
    every=st.integers(1, 9),
    data=st.data(),
)
def test_hold_out_depends_on_the_names_alone(groups: list[str], every: int, data: st.DataObject) -> None:
    found = make_tracks(groups)
    shuffled = data.draw(st.permutations(found))
    _, validation, _ = splits.hold_out(found, every)
    _, again, _ = splits.hold_out(iter(shuffled), every)
    assert {track.name for track in validation} == {track.name for track in again}


def test_with_too_few_singers_whole_songs_are_held_out() -> None:
    clips = [
        Track(name=f"amy_{song}_{clip}", group="amy", song=f"amy_{song}") for song in range(6) for clip in range(3)
    ]
    training, validation, shares = splits.hold_out(clips, 3)
    assert shares
    assert {track.song for track in validation} == {"amy_2", "amy_5"}
    assert len(validation) == 6
    assert {track.song for track in training}.isdisjoint(track.song for track in validation)


def test_hold_out_ignores_how_an_artist_is_spelled() -> None:
    found = [Track(name=str(n), group=group) for n, group in enumerate(["Ada", "ADA!", "Brahe", "Curie", "ada"])]
    _, validation, shares = splits.hold_out(found, 3)
    assert ([track.group for track in validation], shares) == (["Curie"], False)
    _, validation, _ = splits.hold_out([*found, Track(name="5", group="AAA")], 2)
    assert {track.name for track in validation} == {"0", "1", "3", "4"}


def test_hold_out_keeps_the_songs_of_an_artist_together(dsd100_root: Path) -> None:
    training, validation, _ = splits.hold_out(dsd100.find(dsd100_root, "Dev").tracks, 5)
    assert [track.group for track in validation] == ["Euler"]
    assert [track.group for track in training] == ["Ada", "Ada", "Brahe", "Curie", "Dirac"]
