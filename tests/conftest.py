from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import fake_nets
import pytest
import synthetic_songs
import tiny_recipes
import torch
from hypothesis import settings

from vocalsep import library, plots, weights
from vocalsep.training import trainer
from vocalsep.training.material import Material, open_material

# Nets are tiny here: threads would only wait for each other, and busily, if the machine has other work.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start

settings.register_profile("ci", derandomize=True)  # new examples are for those who can act on them
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """Spare the garbage collector everything that has been imported: a hundred modules, and thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that outlive a test, too, keep away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOCALSEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of decoded tracks, empty at the start of each test."""
    folder = tmp_path / "vocalsep-cache"
    monkeypatch.setenv("VOCALSEP_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own models, which does not exist at the start of each test."""
    for variable in ("XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.delenv("VOCALSEP_MODELS", raising=False)
    return library.find_own_folder()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pictures of losses and scores empty. Drawing them takes longer than a tiny run or its evaluation."""
    for name in ("draw_loss_curves", "draw_score_boxes"):
        monkeypatch.setattr(plots, name, lambda _, path, **_options: Path(path).touch())
    monkeypatch.setattr(plots, "draw_scores_by_song", lambda _, _scores, path, **_options: Path(path).touch())


@pytest.fixture(scope="module")
def few_norm_batches() -> Iterator[None]:
    """Measure batch norms on fewer batches, for tests that compare runs and look at no scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "NORM_BATCHES", 2)
        yield


@pytest.fixture(scope="session")
def dsd100_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six Dev songs (two of one artist) and two Test songs; shared by all tests, not to be changed."""
    return synthetic_songs.write_dsd100(tmp_path_factory.mktemp("dsd100"))


@pytest.fixture(scope="session")
def mir1k_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of four singers, two of them training singers; shared, not to be changed."""
    return synthetic_songs.write_mir1k(tmp_path_factory.mktemp("mir1k"))


@pytest.fixture(scope="session")
def stems_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs, the second with single stems in place of an accompaniment; shared, not to be changed."""
    return synthetic_songs.write_stems(tmp_path_factory.mktemp("stems"))


@pytest.fixture(scope="session")
def material(dsd100_root: Path) -> Material:
    """The small DSD100 tree as `tiny_recipes.make_recipe` opens it; shared, not to be changed."""
    return open_material(tiny_recipes.make_recipe(dsd100_root))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file with a narrow untrained U-Net."""
    path = tmp_path_factory.mktemp("model") / "narrow.safetensors"
    made = fake_nets.random_unet()
    weights.save(path, made.net, made.front_end, {"licence": "none"})
    return path
