from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_songs
import torch
from tiny_recipes import CPU, SMALL, make_recipe

from vocalsep import nets, training
from vocalsep.datasets.layouts import dsd100
from vocalsep.errors import ConfigError, DatasetError
from vocalsep.training import recipes
from vocalsep.training.excerpts.sampler import ExcerptOptions
from vocalsep.training.material import Material, open_material
from vocalsep.training.recipes import PoolOptions

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_validation_tracks_and_artists_are_not_trained_on(dsd100_root: Path, material: Material) -> None:
    training_names, validation_names = set(material.names["training"]), set(material.names["validation"])
    assert len(training_names) + len(validation_names) == 6
    assert validation_names
    assert training_names.isdisjoint(validation_names)
    groups = {f"dsd100/{track.name}": track.group for track in dsd100.find(dsd100_root).tracks}
    assert {groups[name] for name in training_names}.isdisjoint(groups[name] for name in validation_names)
    assert material.validation is not None
    for part, names in ((material.training, training_names), (material.validation, validation_names)):
        assert {f"dsd100/{track.track.name}" for pool in part.songs for track in pool.tracks} == names


def test_no_song_of_test_is_opened(material: Material) -> None:
    assert not any("Artist" in name for names in material.names.values() for name in names)


def test_validation_excerpts_are_unchanged_true_pairs(material: Material) -> None:
    assert material.validation is not None
    options = material.validation.options
    assert (options.remixes, options.voices, options.vocal_free) == (0, 0, 0)
    assert (options.gain_db, options.swap, options.polarity) == ((0.0, 0.0), 0, 0)


def test_nothing_held_out_means_no_validation(dsd100_root: Path) -> None:
    opened = open_material(make_recipe(dsd100_root, hold_out=0))
    assert opened.validation is None
    assert len(opened.names["training"]) == 6
    assert opened.names["pools"] == [{"layout": "dsd100", "split": "Dev", "shares_singers": False}]
    assert opened.names["skipped"] == []


def test_pools_of_all_layouts_open_together(
    dsd100_root: Path, mir1k_root: Path, stems_root: Path, tmp_path: Path
) -> None:
    for layout, sound in (
        ("voices", synthetic_songs.make_voice(1, 3.0, 16_000)),
        ("instrumentals", np.full(48_000, 0.1)),
    ):
        synthetic_songs.write(tmp_path / layout / "one.wav", sound, 16_000)
    roots = {
        "dsd100": dsd100_root,
        "mir1k": mir1k_root,
        "stems": stems_root,
        "voices": tmp_path / "voices",
        "instrumentals": tmp_path / "instrumentals",
    }
    pools = tuple(PoolOptions(layout=layout, root=str(root)) for layout, root in roots.items())
    reports: list[str] = []
    opened = open_material(replace(make_recipe(dsd100_root), excerpts=ExcerptOptions(), pools=pools), reports.append)
    found = opened.training
    assert [len(pool.tracks) for pool in found.songs] == [6, 4, 3]
    assert [len(pool.tracks) for pool in (*found.voices, *found.instrumentals)] == [1, 1]
    assert [report.split(":")[0] for report in reports] == list(roots)
    vocals, accompaniment, _ = found.draw_batch(0, 8)
    assert vocals.shape == accompaniment.shape == (8, 2, nets.count_excerpt_samples(SMALL))
    assert torch.isfinite(vocals).all()
    assert torch.isfinite(accompaniment).all()


def test_a_root_may_name_an_environment_variable(dsd100_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = (PoolOptions(layout="dsd100", root="$VOCALSEP_TEST_ROOT", hold_out=3),)
    found = replace(make_recipe(dsd100_root), pools=pools)
    monkeypatch.delenv("VOCALSEP_TEST_ROOT", raising=False)
    with pytest.raises(DatasetError, match=r"\$VOCALSEP_TEST_ROOT"):
        open_material(found)
    monkeypatch.setenv("VOCALSEP_TEST_ROOT", str(dsd100_root))
    assert len(open_material(found).names["training"]) > 0


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        open_material(make_recipe(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in str(error.value)


def test_holding_out_everything_is_refused(dsd100_root: Path) -> None:
    with pytest.raises((ConfigError, DatasetError)):
        open_material(make_recipe(dsd100_root, hold_out=1))


def copy_with_bad_songs(dsd100_root: Path, root: Path) -> Path:
    """Copy the tree and spoil four songs of Dev: a missing stem, one without sound, silent vocals, a short one."""
    shutil.copytree(dsd100_root / "Sources", root / "Sources")
    songs = sorted((root / "Sources" / "Dev").iterdir())
    (songs[0] / "drums.wav").unlink()
    (songs[1] / "bass.wav").write_text("words", encoding="utf-8")
    synthetic_songs.write(songs[2] / "vocals.wav", np.zeros((3 * 44_100, 2)), 44_100)
    synthetic_songs.write(songs[3] / "other.wav", np.full((44_100, 2), 0.1), 44_100)
    return root


def test_all_bad_songs_are_named_before_the_first_step(dsd100_root: Path, tmp_path: Path) -> None:
    root = copy_with_bad_songs(dsd100_root, tmp_path / "copy")
    with pytest.raises(DatasetError) as error:
        training.fit(make_recipe(root, hold_out=0), tmp_path / "run", device=CPU)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("4 bad tracks: ")
    assert "--skip-bad" in message
    for song, what in (
        ("003", "missing stems: drums"),
        ("004", "bass.wav"),
        ("005", "silent vocals"),
        ("006", "3.00 s"),
    ):
        assert what in next(part for part in message.split("; dsd100/") if f"{song} - " in part)
    assert not (tmp_path / "run").exists()


def test_skip_bad_trains_on_the_rest_and_reports_it(dsd100_root: Path, tmp_path: Path) -> None:
    root = copy_with_bad_songs(dsd100_root, tmp_path / "copy")
    reports: list[str] = []
    skipping = make_recipe(root, hold_out=5, steps=1, skip_bad=True)
    training.fit(skipping, tmp_path / "run", device=CPU, report=reports.append)
    record = json.loads((tmp_path / "run" / "tracks.json").read_text(encoding="utf-8"))
    assert [name.split(" - ")[0] for name in record["training"]] == ["dsd100/007"]
    assert [name.split(" - ")[0] for name in record["validation"]] == ["dsd100/008"]
    assert [entry["track"][:10] for entry in record["skipped"]] == [f"dsd100/00{n}" for n in (3, 4, 5, 6)]
    assert all(entry["problem"] for entry in record["skipped"])
    assert reports[0].startswith("skipped 4 bad tracks: ")
    assert recipes.read_recipe(str(tmp_path / "run" / "recipe.toml")) == skipping  # a resumed run skips as well


def test_a_pool_with_nothing_but_bad_songs_is_refused_even_with_skip_bad(dsd100_root: Path, tmp_path: Path) -> None:
    root = copy_with_bad_songs(dsd100_root, tmp_path / "copy")
    for song in sorted((root / "Sources" / "Dev").iterdir())[4:]:
        (song / "bass.wav").unlink()
    with pytest.raises(DatasetError, match="no tracks left to train on"):
        open_material(make_recipe(root, skip_bad=True))


def write_mir1k(root: Path) -> Path:
    """Write two singers, one of them a training singer, with five songs of two clips each."""
    for singer in ("amy", "bobon"):
        for song in range(1, 6):
            for clip in (1, 2):
                left, right = (
                    synthetic_songs.make_backing(song, 1.0, 16_000)["other"],
                    synthetic_songs.make_voice(10 * song + clip, 1.0, 16_000),
                )
                path = root / "Wavfile" / f"{singer}_{song}_{clip:02d}.wav"
                synthetic_songs.write(path, synthetic_songs.to_pcm(np.stack([left, right], 1)), 16_000)
    return root


def test_the_drnn_split_validates_on_its_own_clips_and_is_marked(dsd100_root: Path, tmp_path: Path) -> None:
    pools = (PoolOptions(layout="mir1k", root=str(write_mir1k(tmp_path)), hold_out=6, split="drnn"),)
    reports: list[str] = []
    opened = open_material(replace(make_recipe(dsd100_root), pools=pools), reports.append)
    assert (len(opened.names["training"]), len(opened.names["validation"])) == (14, 4)
    assert opened.names["pools"] == [{"layout": "mir1k", "split": "drnn", "shares_singers": True}]
    assert "shares singers" in reports[0]


def test_validation_on_what_another_pool_trains_on_is_refused_by_name(dsd100_root: Path, tmp_path: Path) -> None:
    held = dsd100.find(dsd100_root).tracks[-1]
    folder = tmp_path / "songs" / held.song.upper()
    synthetic_songs.write(folder / "vocals.wav", np.full(8_000, 0.1), 8_000)
    synthetic_songs.write(folder / "accompaniment.wav", np.full(8_000, 0.1), 8_000)
    found = make_recipe(dsd100_root, hold_out=5)
    pools = (*found.pools, PoolOptions(layout="stems", root=str(tmp_path / "songs")))
    with pytest.raises(DatasetError, match=held.name):
        open_material(replace(found, pools=pools))


def test_a_split_without_training_songs_is_refused(dsd100_root: Path) -> None:
    pools = (PoolOptions(layout="dsd100", root=str(dsd100_root), split="Test"),)
    with pytest.raises(DatasetError, match="no split 'Test' to train on"):
        open_material(replace(make_recipe(dsd100_root), pools=pools))


@pytest.mark.parametrize(("weight", "hold_out"), [(-1.0, 0), (0.0, 0), (1.0, -2)])
def test_pool_options_out_of_range_are_refused(dsd100_root: Path, weight: float, hold_out: int) -> None:
    def use() -> None:
        pool = PoolOptions(layout="dsd100", root=str(dsd100_root), weight=weight, hold_out=hold_out)
        open_material(replace(make_recipe(dsd100_root), pools=(pool,)))

    with pytest.raises((ConfigError, DatasetError)):
        use()


@pytest.mark.parametrize("layout", ["voices", "instrumentals"])
def test_lone_stems_cannot_be_held_out(layout: Any) -> None:
    with pytest.raises(ConfigError, match=f"pool {layout}: hold_out must be 0"):
        PoolOptions(layout=layout, root="anywhere", hold_out=2)
