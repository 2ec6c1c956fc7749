from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_nets
import foreign_graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command_line import list_files, read_error, run

from vocalsep import interchange, stft, weights
from vocalsep.errors import ModelError
from vocalsep.extraction import Extractor
from vocalsep.features import Linear
from vocalsep.interchange import export
from vocalsep.shapes import Array
from vocalsep.weights import Model

FRONT_END = Linear(n_fft=2048, hop=1024, freqs=64, frames=16)


@pytest.fixture(scope="module")
def hd() -> Model:
    """An untrained net in the format of UVR's programs, whose masks differ from row to row."""
    return replace(fake_nets.random_uhnet(FRONT_END), name="hd", metadata={"licence": "CC0"})


def run_graph(path: Path, source: str, values: Array) -> Array:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {source: values})
    return np.asarray(answer)


def run_net(model: Model, features: Array) -> Array:
    with torch.no_grad():
        return np.asarray(model.net(torch.from_numpy(features)))


def make_features(model: Model, spectrum: Array) -> Array:
    return np.asarray(model.front_end.normalise(model.front_end.analyse(spectrum)), np.float32)


def make_spectrum(batch: int = 3) -> Array:
    """Return chunks of the spectrum of noise, ``(batch, 2, freq, frame)``."""
    song = np.stack([fake_nets.noise(2, 15 * FRONT_END.hop, seed) for seed in range(batch)])
    return np.asarray(stft.forward(song, FRONT_END.grid))


def test_onnx_is_the_net_with_its_weights_and_says_what_surrounds_it(hd: Model, tmp_path: Path) -> None:
    path, about = export.write(hd, tmp_path / "out", "onnx")
    features = make_features(hd, make_spectrum())
    answer = run_graph(path, "features", features)
    assert fake_nets.snr_db(run_net(hd, features), answer) > 90
    described = json.loads(about.read_text(encoding="utf-8"))
    assert described["input"] == {"name": "features", "shape": ["batch", 2, 64, 16]}
    assert described["front_end"]["n_fft"] == 2048
    assert described["overlap"] == hd.run.overlap
    assert (len(described["rows_hz"]), described["licence"]) == (64, "CC0")


@pytest.mark.parametrize("changes", [{}, {"above": "zero"}, {"side": True}], ids=str)
def test_mdx_masks_spectra_as_the_engine_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = fake_nets.random_uhnet(replace(FRONT_END, **changes))
    path, beside = export.write(model, tmp_path, "mdx")
    assert not model.net.training
    spectrum = make_spectrum()
    parts = np.stack([spectrum.real, spectrum.imag], axis=2)[..., :1024, :].reshape(3, 4, 1024, 16).astype(np.float32)
    answer = run_graph(path, "input", parts).reshape(3, 2, 2, 1024, 16)
    mask = run_net(model, make_features(model, spectrum))
    expected = (np.asarray(model.front_end.spread(mask)) * spectrum)[..., :1024, :]
    assert fake_nets.snr_db(expected, answer[:, :, 0] + 1j * answer[:, :, 1]) > 90
    entry = json.loads(beside.read_text())[hashlib.md5(path.read_bytes()[-10_000 * 1024 :]).hexdigest()]
    assert entry == {
        "compensate": 1.0,
        "mdx_dim_f_set": 1024,
        "mdx_dim_t_set": 4,
        "mdx_n_fft_scale_set": 2048,
        "primary_stem": "Vocals",
    }


def test_an_exported_model_gives_the_vocals_of_the_model_itself(hd: Model, tmp_path: Path) -> None:
    """But for chunk borders, and the rows below 33 Hz, which UVR's programs leave out."""
    path, _ = export.write(hd, tmp_path, "mdx")
    loaded = weights.load(path)
    assert isinstance(loaded, interchange.ForeignModel)
    song = fake_nets.noise(2, 60_000, seed=5)
    ours, theirs = (Extractor(model, workers=0)(song, 44_100).vocals for model in (hd, loaded))
    assert fake_nets.snr_db(ours, theirs) > 12
    assert fake_nets.snr_db(song, theirs) < 6


def test_entries_of_other_models_stay_in_the_json(hd: Model, tmp_path: Path) -> None:
    (tmp_path / "mdx_model_data.json").write_text('{"0123": {"primary_stem": "Vocals"}}')
    export.write(hd, tmp_path, "mdx")
    assert len(json.loads((tmp_path / "mdx_model_data.json").read_text())) == 2


def test_sherpa_onnx_finds_its_metadata(hd: Model, tmp_path: Path) -> None:
    (path,) = export.write(hd, tmp_path, "sherpa-onnx")
    properties = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert properties == {
        "model_type": "UVR",
        "stems": "2",
        "primary_stem": "Vocals",
        "sample_rate": "44100",
        "n_fft": "2048",
        "center": "1",
        "window_type": "hann",
        "win_length": "2048",
        "hop_length": "1024",
        "dim_t": "16",
        "dim_f": "1024",
        "dim_c": "4",
    }
    assert interchange.load(path).settings == interchange.load(export.write(hd, tmp_path / "mdx", "mdx")[0]).settings


@pytest.mark.parametrize(
    "changes", [{"rate": 16_000}, {"hop": 512}, {"window": "hamming"}, {"frames": 24}, {"channels": 1}], ids=str
)
def test_nets_that_work_otherwise_are_refused(hd: Model, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = replace(hd, front_end=replace(FRONT_END, **changes))
    for kind in ("mdx", "sherpa-onnx"):
        with pytest.raises(ModelError, match=r"model hd: cannot be exported in this format.*--for onnx"):
            export.write(model, tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


def test_the_command_names_its_files_and_replaces_none(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("export", model, "-o", out)
    assert (result.exit_code, result.stdout.split()) == (0, [str(out / "narrow.onnx"), str(out / "narrow.json")])
    before = (out / "narrow.onnx").read_bytes()
    assert "exists already; add --overwrite" in read_error(run("export", model, "-o", out))
    assert run("export", model, "-o", out, "--overwrite").exit_code == 0
    assert (out / "narrow.onnx").read_bytes() == before
    assert list_files(out) == ["narrow.json", "narrow.onnx"]
    line = read_error(run("export", model, "-o", tmp_path / "mdx", "--for", "mdx"))
    assert "cannot be exported in this format" in line
    assert "is a mean of several (unet, uhnet); export these one by one" in read_error(
        run("export", "unet+uhnet", "-o", out)
    )
    foreign = foreign_graphs.write_waveform(tmp_path / "net.onnx")
    assert "only models of vocalsep's own nets" in read_error(run("export", foreign, "-o", out))
    assert "did you mean 'unet'" in read_error(run("export", "unte"))
