from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocalsep.datasets import layouts, splits
from vocalsep.datasets.layouts import dsd100, mir1k
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import DatasetError


def song(name: str, group: str, title: str = "", path: str = "") -> Track:
    return Track(name=name, group=group, song=title, vocals=(Source(Path(path)),) if path else ())


def test_what_has_nothing_in_common_passes() -> None:
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
    with pytest.raises(DatasetError, match=r"songs .* trained on, too: other"):
        splits.refuse_leaks([trained], [held], shares_singers=shares_singers)


def test_a_singer_who_is_trained_on_is_refused_unless_the_split_shares_singers() -> None:
    trained, held = [song("amy_1_01", "amy", "amy_1")], [song("amy_2_01", "Amy", "amy_2")]
    with pytest.raises(DatasetError, match=r"singers .* trained on, too: amy_2_01 \(Amy\)"):
        splits.refuse_leaks(trained, held)
    splits.refuse_leaks(trained, held, shares_singers=True)


def test_names_without_letters_tell_nothing() -> None:
    splits.refuse_leaks([song("01", "01")], [song("01", "01")])


def test_what_was_heard_is_known_again_however_it_is_spelled() -> None:
    known = splits.heard([song("1", "Ada", "Ada - One"), song("2", "", "01"), song("3", "Ada", "Ada - Two")])
    assert known == {"songs": ["adaone", "adatwo"], "singers": ["ada"]}
    assert splits.knows_song(known, song("x", "y", "ADA: one"))
    assert splits.knows_singer(known, song("x", "ada.", "Ada - Three"))
    assert not splits.knows_song(known, song("x", "Ada", "Ada - Three"))
    assert not splits.knows_song(known, song("01", "01"))
    assert not splits.knows_singer(known, song("01", "01"))
    assert not splits.knows_song({}, song("1", "Ada", "Ada - One"))


def known() -> st.SearchStrategy[splits.Heard]:
    """What a net may say it has heard; weights of former times need not have both kinds."""
    some = st.lists(st.sampled_from(["ada", "brahe", "curie", "dirac"]), unique=True).map(sorted)
    return st.fixed_dictionaries({}, optional={"songs": some, "singers": some})


@given(one=known(), other=known(), third=known())
def test_what_two_nets_have_heard_is_the_union_in_order(
    one: splits.Heard, other: splits.Heard, third: splits.Heard
) -> None:
    found = splits.both(one, other)
    for kind in ("songs", "singers"):
        assert found[kind] == sorted(set(one.get(kind, ())) | set(other.get(kind, ())))
    assert found == splits.both(other, one) == splits.both(found, one) == splits.both(found, {})
    assert splits.both(found, third) == splits.both(one, splits.both(other, third))
    tracks = [song("1", "Ada", "Curie"), song("2", "Euler", "Noether")]
    assert splits.heard(tracks, one) == splits.both(splits.heard(tracks), one)


def test_only_the_first_ten_are_named() -> None:
    tracks = [song(f"song {n}", "x") for n in range(23)]
    with pytest.raises(DatasetError, match=r"song 9 and 13 more$"):
        splits.refuse_leaks(tracks, tracks)


def test_the_official_splits_do_not_share_songs(dsd100_root: Path, mir1k_root: Path) -> None:
    for find, parts in ((dsd100.find, ("Dev", "Test")), (mir1k.find, ("train", "test"))):
        training, test = (find(dsd100_root if find is dsd100.find else mir1k_root, part) for part in parts)
        splits.refuse_leaks(training.tracks, test.tracks, shares_singers=test.shares_singers)


def test_the_standard_split_holds_out_singers_and_the_other_is_marked(mir1k_root: Path) -> None:
    standard = splits.part("mir1k", mir1k_root, held=2)
    assert (standard.split, standard.shares_singers) == ("standard", False)
    assert {track.group for track in standard.training} == {"abjones"}
    assert {track.group for track in standard.validation} == {"amy"}
    songs = splits.part("mir1k", mir1k_root, held=3)  # more than there are singers, and songs
    assert {track.song for track in songs.validation} == {"amy_2"}
    drnn = splits.part("mir1k", mir1k_root, split="drnn")
    assert (drnn.split, drnn.shares_singers, drnn.validation) == ("drnn", True, ())


def test_the_root_comes_from_the_user_or_else_from_the_environment(
    dsd100_root: Path, mir1k_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOCALSEP_DSD100", raising=False)
    with pytest.raises(DatasetError, match="--root DIR, or set VOCALSEP_DSD100"):
        layouts.root_of("dsd100")
    monkeypatch.setenv("VOCALSEP_DSD100", str(dsd100_root))
    assert layouts.root_of("dsd100") == dsd100_root
    assert layouts.root_of("dsd100", mir1k_root) == mir1k_root
    monkeypatch.setenv("VOCALSEP_DSD100", str(tmp_path / "gone"))
    with pytest.raises(DatasetError, match="gone, which VOCALSEP_DSD100 names"):
        layouts.root_of("dsd100")
