from __future__ import annotations

import subprocess
import sys

import fake_nets
import numpy as np
import pytest
import torch

import vocalsep
from vocalsep import extraction, weights
from vocalsep.errors import AudioError, ModelError

NAMES = {"Extractor", "__version__", "extract", "list_models", "load_model", "separate"}


def test_dir_and_all_show_every_public_name_before_it_is_loaded() -> None:
    code = "import vocalsep; print(set(vocalsep.__all__) <= set(dir(vocalsep)), *sorted(vocalsep.__all__))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", *sorted(NAMES)]


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, vocalsep; print({'torch', 'numpy', 'librosa', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_public_names_are_those_of_the_modules() -> None:
    assert vocalsep.Extractor is extraction.Extractor
    assert vocalsep.extract is extraction.extract
    assert vocalsep.separate is extraction.separate
    assert vocalsep.list_models is weights.list_models
    assert vocalsep.load_model is weights.load


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'seperate'"):
        vocalsep.seperate  # noqa: B018


def test_models_are_listed_with_the_facts_on_their_cards_and_the_default_first() -> None:
    models = vocalsep.list_models()
    assert {model.name for model in models} == set(weights.find_models())
    assert [model.is_default for model in models] == [True] + [False] * (len(models) - 1)
    assert models[0].name == weights.DEFAULT_MODEL
    for model in models:
        facts = weights.read_card(model.name).facts
        assert (model.scores, model.data, model.licence) == (facts["scores"], facts["data"], facts["licence"])
        assert model.description
        assert model.purpose
        assert "times real time" in model.speed
        assert 0 < model.size_mb < 100


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_separate_returns_what_an_extractor_of_the_model_returns(kind: type) -> None:
    model = fake_nets.random_unet()
    samples = (fake_nets.noise(2, 5_000) * (1 if kind is np.float32 else 2**14)).astype(kind)
    expected = vocalsep.Extractor(model).extract(samples, 8_000)
    for part, other in zip(vocalsep.separate(samples, 8_000, model=model), expected, strict=True):
        assert part.dtype == kind
        assert np.array_equal(part, other)
    tensors = vocalsep.separate(torch.from_numpy(samples), 8_000, model=model)
    assert all(torch.equal(part, torch.from_numpy(other)) for part, other in zip(tensors, expected, strict=True))


def test_separate_refuses_unknown_models_and_empty_arrays() -> None:
    with pytest.raises(ModelError, match="did you mean 'unet'"):
        vocalsep.separate(np.zeros(10), 8_000, model="unett")
    with pytest.raises(AudioError, match="at least one sample"):
        vocalsep.separate(np.zeros(0), 8_000, model=fake_nets.constant(1))
