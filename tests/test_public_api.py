from __future__ import annotations

import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import torch

import vocalsep
from vocalsep import extraction, metrics, weights
from vocalsep.errors import AudioError, ConfigError, ModelError

GUIDE = Path(__file__).parents[1] / "docs" / "python.md"


def test_dir_shows_the_public_names_alone_before_they_are_loaded() -> None:
    code = "import vocalsep; print(*(name for name in dir(vocalsep) if not name.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == sorted(set(vocalsep.__all__) - {"__version__"})


def test_onnx_runtime_reports_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    code = "import vocalsep, onnxruntime"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_the_guide_lists_the_public_names() -> None:
    table = GUIDE.read_text(encoding="utf-8").split("## Names\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`vocalsep\.(\w+)", table))
    assert named == set(vocalsep.__all__)


def test_help_shows_every_public_name() -> None:
    text = pydoc.plain(pydoc.render_doc(vocalsep))
    for name in ("class Extractor", "class Model", "class Report", "extract(", "list_models(", "musdb_method("):
        assert name in text
    assert "separate(samples: 'Samples', sample_rate: 'float', *, model:" in text
    assert "Return the signal-to-distortion ratio" in pydoc.plain(pydoc.render_doc(vocalsep.metrics))


def test_every_public_name_is_there_and_documented() -> None:
    for name in set(vocalsep.__all__) - {"__version__"}:
        assert getattr(vocalsep, name).__doc__, name
    assert vocalsep.metrics is metrics


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
    sizes = {model.name: model.size_mb for model in models}
    assert sizes["duo"] == pytest.approx(sizes["uhnet-hd"] + sizes["unet-hd"], abs=0.2)


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


def test_separate_takes_the_options_of_an_extractor() -> None:
    model, song = fake_nets.random_unet(), fake_nets.noise(1, 20_000)
    options: dict[str, Any] = {"gate": True, "inversion": "griffin-lim-phase", "masks_from": "net", "workers": 0}
    expected = vocalsep.Extractor(model, device="cpu", **options).extract(song, 8_000)
    found = vocalsep.separate(song, 8_000, model=model, device="cpu", **options)
    assert all(np.array_equal(part, other) for part, other in zip(found, expected, strict=True))
    with pytest.raises(ConfigError, match="unknown inversion"):
        vocalsep.separate(song, 8_000, model=model, inversion="magic")


def test_lists_are_separated_as_numpy_arrays(model: Path) -> None:
    song = fake_nets.noise(2, 4_000).astype(float)
    extractor = vocalsep.Extractor(model)
    expected = extractor.extract(song, 8_000)
    for samples in (song.tolist(), list(song), tuple(map(tuple, song.tolist()))):
        for part, other in zip(extractor.extract(samples, 8_000), expected, strict=True):
            assert isinstance(part, np.ndarray)
            assert np.array_equal(part, other)
    assert extractor.extract(song[0].tolist(), 8_000.0)[0].shape == (4_000,)
    assert np.array_equal(extractor(song.tolist(), 8_000).vocals, extractor(song.astype(np.float32), 8_000).vocals)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (
            "song.mp3",
            8_000,
            "samples must be an array or a list of numbers, not str; to read a file, use vocalsep.extract",
        ),
        (Path("song.mp3"), 8_000, "not PosixPath; to read a file"),
        (None, 8_000, "not NoneType"),
        ({"vocals": 1}, 8_000, "not dict"),
        (["a", "b"], 8_000, "not list"),
        ([0.0, 0.5], "8000", "a sample rate must be a number in Hz, not str"),
        ([0.0, 0.5], None, "a sample rate must be a number in Hz, not NoneType"),
    ],
    ids=str,
)
def test_other_types_are_type_errors_before_a_model_is_loaded(samples: Any, rate: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        vocalsep.separate(samples, rate, model="no such model")


def test_swapped_arguments_and_axes_are_named(model: Path) -> None:
    with pytest.raises(TypeError, match="a sample rate must be a number in Hz, not ndarray"):
        vocalsep.separate(8_000, np.zeros(9), model=model)
    with pytest.raises(AudioError, match="5000 channels; expected \\(channel, time\\): transpose the array"):
        vocalsep.Extractor(model)(np.zeros((5_000, 2)), 8_000)


def test_an_extractor_separates_under_both_names(model: Path) -> None:
    extractor, song = vocalsep.Extractor(model), fake_nets.noise(1, 3_000)
    for part, other in zip(extractor.separate(song, 8_000), extractor.extract(song, 8_000), strict=True):
        assert np.array_equal(part, other)


def test_lists_of_different_lengths_are_refused(model: Path) -> None:
    with pytest.raises(AudioError, match="lists of different lengths"):
        vocalsep.separate([[0.0, 1.0], [0.0]], 8_000, model=model)


def test_models_are_names_paths_or_models(model: Path) -> None:
    loaded = vocalsep.load_model(model)
    for given in (model, str(model), loaded):
        assert vocalsep.Extractor(given).model.name == "narrow"
    for wrong in (5, None, [5]):
        with pytest.raises(TypeError, match="a model must be a name or a path"):
            vocalsep.Extractor(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="workers must be a whole number or None, not str"):
        vocalsep.Extractor(loaded, workers="2")  # type: ignore[arg-type]


def test_models_and_extractors_have_a_short_repr(model: Path) -> None:
    loaded = vocalsep.load_model(model)
    assert repr(loaded) == "Model('narrow')"
    assert repr(vocalsep.Extractor(loaded, device="cpu")) == "Extractor('narrow', device='cpu')"
    assert repr(vocalsep.list_models()[0]) == f"ModelInfo('{weights.DEFAULT_MODEL}', default)"


def test_separate_refuses_unknown_models_and_empty_arrays() -> None:
    with pytest.raises(ModelError, match="did you mean 'unet'"):
        vocalsep.separate(np.zeros(10), 8_000, model="unett")
    with pytest.raises(AudioError, match="at least one sample"):
        vocalsep.separate(np.zeros(0), 8_000, model=fake_nets.constant(1))
