from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import synthetic_songs

from vocalsep import audio
from vocalsep.errors import ConfigError
from vocalsep.evaluation import songs
from vocalsep.evaluation.songs import set_up


def test_dsd100_is_scored_on_its_test_songs_in_stereo_at_44100_hz(dsd100_root: Path) -> None:
    setup = set_up("dsd100", dsd100_root)
    tracks = setup.list_tracks().tracks
    assert [track.name for track in tracks] == ["001 - Artist 1 - Song 1", "002 - Artist 2 - Song 2"]
    song = songs.load(tracks[0], setup)
    assert (song.rate, song.references.shape) == (44_100, (2, 2, 132_300))
    assert song.seconds == 3
    np.testing.assert_array_equal(song.mixture, song.references[0] + song.references[1])
    released, _ = audio.read(dsd100_root / "Mixtures" / "Test" / tracks[0].name / "mixture.wav")
    np.testing.assert_array_equal(song.mixture, released)


def test_mir1k_is_scored_in_mono_at_16000_hz_on_singers_outside_its_training_split(mir1k_root: Path) -> None:
    setup = set_up("mir1k", mir1k_root)
    tracks = setup.list_tracks().tracks
    assert {track.group for track in tracks} == {"bobon", "davidson"}
    song = songs.load(tracks[0], setup)
    assert (song.rate, song.references.shape) == (16_000, (2, 1, 48_000))


@pytest.mark.parametrize("level", [None, 0.0, -5.0, 5.0])
def test_mir1k_is_mixed_at_the_given_level(mir1k_root: Path, level: float | None) -> None:
    setup = set_up("mir1k", mir1k_root, snr_db=level)
    track = setup.list_tracks().tracks[0]
    vocals, accompaniment = songs.load(track, setup).references
    levels = [np.linalg.norm(stem.astype(np.float64)) for stem in (vocals, accompaniment)]
    ratio = 20 * math.log10(levels[0] / levels[1])
    assert ratio == pytest.approx(level or 0, abs=1e-5)
    np.testing.assert_array_equal(vocals, track.load(16_000, 1)["vocals"])


def test_mir1k_can_be_split_as_in_the_recurrent_networks_paper(tmp_path: Path) -> None:
    for song in range(20):
        synthetic_songs.write(tmp_path / "Wavfile" / f"singer{song % 3}_{song}_01.wav", np.zeros((80, 2)), 16_000)
    found = set_up("mir1k", tmp_path, "drnn").list_tracks()
    assert found.shares_singers
    assert len(found.tracks) == 2


def test_your_own_songs_keep_their_rate_and_channels(tmp_path: Path) -> None:
    for name, rate, shape in (("a", 22_050, (1_000, 2)), ("b", 8_000, (1_000,))):
        for seed, stem in enumerate(("vocals", "accompaniment")):
            synthetic_songs.write(
                tmp_path / name / f"{stem}.wav",
                fake_nets.noise(1, 2_000, seed).reshape(-1)[: math.prod(shape)].reshape(shape),
                rate,
            )
    setup = set_up("stems", tmp_path)
    loaded = [songs.load(track, setup) for track in setup.list_tracks().tracks]
    assert [(song.rate, song.references.shape[1]) for song in loaded] == [(22_050, 2), (8_000, 1)]


def test_stems_are_rounded_to_16_bits(tmp_path: Path) -> None:
    fine = 1.5 * fake_nets.noise(1, 900).T
    for stem in ("vocals", "accompaniment"):
        synthetic_songs.write(tmp_path / "a" / f"{stem}.wav", fine, 8_000, "FLOAT")
    setup = set_up("stems", tmp_path)
    vocals = songs.load(setup.list_tracks().tracks[0], setup).vocals
    steps = vocals * 2**15
    np.testing.assert_array_equal(steps, steps.round())
    np.testing.assert_allclose(vocals, fine.T, rtol=0, atol=2**-16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dsd10", Path()), "unknown data set 'dsd10'; did you mean 'dsd100'?"),
        (("dsd100", Path(), "train"), "dsd100: no split 'train' to score on; expected test or dev"),
        (("stems", Path(), "", 5.0), "stems: takes no --snr"),
    ],
)
def test_impossible_setups_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        set_up(*arguments)
