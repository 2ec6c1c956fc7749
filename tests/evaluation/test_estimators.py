from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import synthetic_songs
import torch
from fake_songs import make_noise_song, save_narrow_model

from vocalsep import nets, weights
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import ConfigError, DatasetError, ModelError
from vocalsep.evaluation.estimators import Estimator, find_unmatched_files, list_estimators
from vocalsep.evaluation.scores import Scorer
from vocalsep.evaluation.songs import Song
from vocalsep.extraction import Extractor
from vocalsep.shapes import Waveform

MIXTURE = Estimator(name="mixture", kind="mixture")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file with a narrow untrained U-Net."""
    return save_narrow_model(tmp_path_factory.mktemp("model") / "narrow.safetensors")


def test_estimators_are_listed_between_lower_and_upper_bounds(model: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    found = list_estimators([model], ["phase", "griffin-lim"], [tmp_path / "other"])
    assert [estimator.name for estimator in found] == [
        "mixture",
        "narrow",
        "narrow, griffin-lim",
        "other",
        "IBM, linear",
        "IRM, grid of narrow",
        "IRM, linear",
    ]


def test_a_run_is_a_row_with_its_name_and_equal_names_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for folder in ("runs/tiny", "runs/unet"):
        run = tmp_path / folder
        run.mkdir(parents=True)
        (run / "recipe.toml").touch()
        save_narrow_model(run / "unet.safetensors", 1)
    found = list_estimators(["unet", str(tmp_path / "runs/tiny")], ["phase"], [])
    assert [estimator.name for estimator in found if estimator.kind == "model"] == ["unet", "tiny"]
    found = list_estimators(["unet", str(tmp_path / "runs/unet")], ["phase"], [])
    assert [estimator.name for estimator in found if estimator.kind == "model"] == [
        "unet",
        str(tmp_path / "runs/unet"),
    ]
    assert found[2].read_heard() == {}


def test_models_on_the_same_grid_share_its_upper_bound(model: str, tmp_path: Path) -> None:
    same, other = (
        save_narrow_model(tmp_path / "same.safetensors", 1),
        save_narrow_model(tmp_path / "other.safetensors", 0, fake_nets.PAPER),
    )
    names = [estimator.name for estimator in list_estimators([model, same, other], ["phase"], [])]
    assert [name for name in names if "grid" in name] == ["IRM, grid of narrow", "IRM, grid of other"]


def test_equal_names_unknown_models_and_missing_folders_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two rows would be called 'narrow'"):
        list_estimators([model, model], ["phase"], [])
    with pytest.raises(ModelError, match="unknown model"):
        list_estimators(["nothing"], ["phase"], [])
    with pytest.raises(DatasetError, match="no such folder of estimates"):
        list_estimators([], ["phase"], [tmp_path / "nowhere"])


def test_bounds_score_below_and_above_the_ideal_mask_on_the_grid_of_a_model(model: str) -> None:
    rate, seconds = 44_100, 2.0
    vocals = synthetic_songs.make_voice(1, seconds, rate).astype(np.float32)[None]
    other = np.float32(sum(synthetic_songs.make_backing(1, seconds, rate).values()))[None]
    song = Song(np.stack([vocals, other]), rate)
    scorer = Scorer(song)
    found = {
        estimator.kind: scorer(estimator.estimate("song", song))["vocals"]
        for estimator in list_estimators([model], ["phase"], [])
    }
    assert found["mixture"]["v4_sdr"] < found["irm-grid"]["v4_sdr"] < found["irm"]["v4_sdr"]  # type: ignore[operator]
    assert found["ibm"]["v4_sdr"] > found["irm-grid"]["v4_sdr"]  # type: ignore[operator]
    assert found["ibm"] != found["irm"]


@pytest.fixture(scope="module")
def clustering(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file with an untrained hybrid clustering net whose head agrees with its clusters.

    An embedding of one dimension is a sign, so there are two clusters. The head copies the layer that decides the sign.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.build("hdpcl", {"bands": 16, "units": 8, "layers": 1, "dimensions": 1})
    with torch.no_grad():
        for head, places in zip(net.head.parameters(), net.dense.parameters(), strict=True):
            head[:16], head[16:] = 10 * places, 0
    path = tmp_path_factory.mktemp("clustering") / "hybrid.safetensors"
    weights.save(path, net, fake_nets.SMALL, {"licence": "none"}, half=False)
    return str(path)


def list_models(*arguments: Any) -> dict[str, Estimator]:
    """List the models among the estimators by name."""
    return {estimator.name: estimator for estimator in list_estimators(*arguments) if estimator.kind == "model"}


def test_models_that_do_not_cluster_are_listed_once_for_all_mask_sources(model: str, clustering: str) -> None:
    compared = list_models([model, clustering], ["phase", "griffin-lim"], [], ["auto", "clusters", "net"])
    assert list(compared) == [
        "narrow",
        "hybrid",
        "hybrid, clusters",
        "hybrid, net",
        "narrow, griffin-lim",
        "hybrid, griffin-lim",
        "hybrid, clusters, griffin-lim",
        "hybrid, net, griffin-lim",
    ]
    for name, estimator in compared.items():
        label, *options = name.split(", ")
        assert estimator.masks_from == next((option for option in options if option in ("clusters", "net")), "auto")
        assert estimator.inversion == ("griffin-lim" if "griffin-lim" in options else "phase")
        assert Path(estimator.model).stem == label
    assert list_estimators([model], ["phase"], [], ["clusters"]) == list_estimators([model], ["phase"], [])


def test_a_mean_has_the_bounds_of_its_nets(model: str, clustering: str) -> None:
    def list_bounds(*models: str) -> list[str]:
        return [one.name for one in list_estimators(models, ["phase"], []) if one.kind == "irm-grid"]

    assert list_bounds(f"{model}+{clustering}") == list_bounds(model)  # both have the same grid


def test_the_default_mask_source_is_auto(model: str, clustering: str) -> None:
    assert list_estimators([model, clustering], ["phase"], []) == list_estimators(
        [model, clustering], ["phase"], [], ["auto"]
    )


EMPTY_TRACK = Track(name="song", group="nobody")  # without files


def test_fingerprints_differ_by_mask_source(clustering: str) -> None:
    chosen = list_models([clustering], ["phase", "griffin-lim"], [], ["auto", "clusters", "net"])
    prints = {estimator.compute_fingerprint(EMPTY_TRACK) for estimator in chosen.values()}
    assert len(prints) == len(chosen) == 6


def test_fingerprints_change_with_the_files_of_a_track(tmp_path: Path) -> None:
    path = tmp_path / "vocals.wav"
    found = set()
    for content, weight in ((b"one", 1.0), (b"three", 1.0), (b"three", -1.0)):
        path.write_bytes(content)
        os.utime(path, (1, 1))
        found.add(
            MIXTURE.compute_fingerprint(Track(name="song", group="nobody", vocals=(Source(path, weight=weight),)))
        )
    os.utime(path, (2, 2))
    found.add(MIXTURE.compute_fingerprint(Track(name="song", group="nobody", vocals=(Source(path, weight=-1.0),))))
    assert len(found) == 4


def test_gated_models_are_listed_separately_and_estimate_gated_vocals(model: str, clustering: str) -> None:
    compared = list_models([model, clustering], ["phase"], [], ["net"], [False, True])
    assert list(compared) == ["narrow", "narrow, gate", "hybrid, net", "hybrid, net, gate"]
    assert [estimator.gate for estimator in compared.values()] == [False, True, False, True]
    assert len({estimator.compute_fingerprint(EMPTY_TRACK) for estimator in compared.values()}) == 4
    song = make_noise_song(samples=20_000)
    extractor = Extractor(weights.load(model), device="cpu", gate=True)
    np.testing.assert_array_equal(
        compared["narrow, gate"].estimate("song", song).vocals, extractor(song.mixture, song.rate).vocals
    )
    assert list_estimators([model], ["phase"], []) == list_estimators([model], ["phase"], [], ["auto"], [False])


def test_an_estimator_takes_its_masks_from_its_mask_source(model: str, clustering: str) -> None:
    song = make_noise_song(samples=8_000)
    found = list_models([clustering], ["phase"], [], ["auto", "clusters", "net"])
    vocals = {name: estimator.estimate("song", song).vocals for name, estimator in found.items()}
    np.testing.assert_array_equal(vocals["hybrid"], vocals["hybrid, net"])  # what "auto" means for this net
    for source in ("net", "clusters"):
        extractor = Extractor(weights.load(clustering), device="cpu", masks_from=source)
        np.testing.assert_array_equal(vocals[f"hybrid, {source}"], extractor(song.mixture, song.rate).vocals)
    assert fake_nets.snr_db(vocals["hybrid, net"], vocals["hybrid, clusters"]) < 30
    with pytest.raises(ConfigError, match="does not cluster"):
        Estimator(name="x", kind="model", model=model, masks_from="clusters").estimate("song", song)


PLACES = ["{}/vocals.wav", "{}.vocals.wav", "{}.wav", "{}/vocals.flac"]


@pytest.mark.parametrize("place", PLACES)
def test_estimates_are_found_by_the_name_of_the_track(tmp_path: Path, place: str) -> None:
    song = Song(fake_nets.quantise(make_noise_song().references, 16), 8_000)
    synthetic_songs.write(tmp_path / place.format("A - B.c"), song.vocals.T, 8_000)
    estimator = Estimator(name="other", kind="estimates", folder=tmp_path)
    parts = estimator.estimate("A - B.c", song)
    np.testing.assert_array_equal(parts.vocals, song.vocals)
    np.testing.assert_array_equal(parts.accompaniment, song.mixture - song.vocals)
    assert find_unmatched_files(tmp_path, ["A - B.c"]) == []


def test_an_accompaniment_file_replaces_the_mixture_minus_the_vocals(tmp_path: Path) -> None:
    song = Song(fake_nets.quantise(make_noise_song().references, 16), 8_000)
    for stem, samples in (("vocals", song.vocals), ("accompaniment", song.references[1] / 2)):
        synthetic_songs.write(tmp_path / f"song.{stem}.wav", samples.T, 8_000, "FLOAT")
    estimator = Estimator(name="other", kind="estimates", folder=tmp_path)
    np.testing.assert_array_equal(estimator.estimate("song", song).accompaniment, song.references[1] / 2)
    assert find_unmatched_files(tmp_path, ["song"]) == []


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (fake_nets.noise(1, 19_999), 8_000, "19999 samples; expected 20000"),
        (fake_nets.noise(2, 20_000), 8_000, "2 channels; expected 1"),
        (fake_nets.noise(1, 20_000), 16_000, "16000 Hz; expected 8000"),
        (np.full((1, 20_000), np.nan), 8_000, "NaN or infinite"),
        (None, 8_000, "no estimate in"),
    ],
)
def test_estimates_that_do_not_fit_are_named(tmp_path: Path, samples: Waveform | None, rate: int, message: str) -> None:
    if samples is not None:
        synthetic_songs.write(tmp_path / "song" / "vocals.wav", samples.T, rate, "FLOAT")
    with pytest.raises(DatasetError, match=message):
        Estimator(name="other", kind="estimates", folder=tmp_path).estimate("song", make_noise_song())


def test_estimates_with_other_names_are_named(tmp_path: Path) -> None:
    synthetic_songs.write(tmp_path / "a" / "vox.wav", np.zeros(800), 8_000)
    estimator = Estimator(name="other", kind="estimates", folder=tmp_path)
    with pytest.raises(DatasetError, match=r"expected a/vocals\.wav or a\.vocals\.wav; found vox\.wav in a$"):
        estimator.estimate("a", make_noise_song())


def test_an_estimate_that_is_not_an_audio_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("nothing", encoding="utf-8")
    with pytest.raises(DatasetError, match="not an audio file"):
        Estimator(name="other", kind="estimates", folder=tmp_path).estimate("song", make_noise_song())


def test_a_model_runs_in_the_thread_of_its_job(tmp_path: Path) -> None:
    """Jobs are as many as cores, so further threads would only wait for each other."""
    model = save_narrow_model(tmp_path / "threads.safetensors")
    (estimator,) = (each for each in list_estimators([model], ["phase"], []) if each.name == "threads")
    before = threading.active_count()
    parts = estimator.estimate("song", make_noise_song())
    assert np.ptp(parts.vocals) > 0
    assert threading.active_count() == before


def test_estimates_that_belong_to_no_track_are_found(tmp_path: Path) -> None:
    for path in ("one/vocals.wav", "two.wav", "deep/er/vocals.wav", ".hidden.wav", "notes.txt"):
        synthetic_songs.write(tmp_path / "made.wav", np.zeros(4), 8_000)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "made.wav", tmp_path / path)
    assert find_unmatched_files(tmp_path, ["one", "deep/er"]) == ["two.wav"]
    assert find_unmatched_files(tmp_path, []) == ["deep", "one", "two.wav"]
