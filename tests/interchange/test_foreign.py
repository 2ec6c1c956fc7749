from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import foreign_graphs
import pytest
from onnx import helper

from vocalsep import interchange
from vocalsep.errors import ModelError
from vocalsep.interchange import mdx, waveform

ENTRY = {
    "compensate": 1.035,
    "mdx_dim_f_set": foreign_graphs.ROWS,
    "mdx_dim_t_set": 4,
    "mdx_n_fft_scale_set": 6144,
    "primary_stem": "Vocals",
}
EXPECTED = mdx.Settings(n_fft=6_144, dim_f=foreign_graphs.ROWS, dim_t=16, primary_stem="vocals", compensate=1.035)


@pytest.fixture(autouse=True)
def no_other_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look for no other program on this machine."""
    for name in ("AUDIO_SEPARATOR_MODEL_DIR", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An MDX-Net model that nothing is known about."""
    path = foreign_graphs.write_mdx(tmp_path / "model.onnx")
    (tmp_path / "mdx_model_data.json").unlink()
    return path


def test_the_md5_is_that_of_the_last_10000_kib(tmp_path: Path) -> None:
    tail = bytes(range(256)) * 40_000
    for before in (b"", b"some"):
        (tmp_path / "m").write_bytes(before + tail)
        assert mdx.compute_md5(tmp_path / "m") == hashlib.md5(tail).hexdigest()
    (tmp_path / "m").write_bytes(b"short")
    assert mdx.compute_md5(tmp_path / "m") == hashlib.md5(b"short").hexdigest()


@pytest.mark.parametrize("place", ["mdx_model_data.json", "model_data.json", "model_data/model_data.json"])
def test_uvrs_json_is_found_beside_the_model(path: Path, place: str) -> None:
    known = path.parent / place
    known.parent.mkdir(exist_ok=True)
    known.write_text(json.dumps({"another": {}, mdx.compute_md5(path): ENTRY}))
    assert interchange.load(path).settings == EXPECTED


def test_a_json_of_the_model_alone_is_found(path: Path) -> None:
    (path.parent / "model_data").mkdir()
    (path.parent / "model_data" / f"{mdx.compute_md5(path)}.json").write_text(json.dumps(ENTRY))
    assert interchange.load(path).settings == EXPECTED


def test_the_folder_of_audio_separator_is_searched(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "separator"
    folder.mkdir()
    (folder / "mdx_model_data.json").write_text(json.dumps({mdx.compute_md5(path): ENTRY}))
    monkeypatch.setenv("AUDIO_SEPARATOR_MODEL_DIR", str(folder))
    assert interchange.load(path).settings == EXPECTED


@pytest.mark.parametrize("keyed", [False, True])
def test_the_caller_can_name_the_json(path: Path, tmp_path: Path, keyed: bool) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps({mdx.compute_md5(path): ENTRY} if keyed else ENTRY))
    assert interchange.load(path, str(data)).settings == EXPECTED


def test_a_toml_beside_the_model_is_read(path: Path) -> None:
    path.with_suffix(".toml").write_text('n_fft = 6144\nprimary_stem = "vocals"\ncompensate = 1.035\n')
    assert interchange.load(path).settings == EXPECTED


def test_the_caller_can_give_values_which_win(path: Path) -> None:
    path.with_suffix(".toml").write_text('n_fft = 4096\nprimary_stem = "instrumental"\n')
    found = interchange.load(path, "n_fft=6144, primary_stem=Vocals, compensate=1.035")
    assert found.settings == EXPECTED
    assert found.name == "model"


def test_metadata_for_sherpa_onnx_is_enough_with_a_stem(tmp_path: Path) -> None:
    shape = ["batch", 4, foreign_graphs.ROWS, 16]
    about = {"model_type": "UVR", "n_fft": "6144", "dim_f": str(foreign_graphs.ROWS), "dim_t": "16"}
    node = helper.make_node("Identity", ["input"], ["output"])
    path = foreign_graphs.write_model(tmp_path / "m.onnx", [node], (shape, shape), properties=about)
    with pytest.raises(ModelError, match="primary_stem is not known"):
        interchange.load(path)
    about["primary_stem"] = "Vocals"
    foreign_graphs.write_model(path, [node], (shape, shape), properties=about)
    settings = interchange.load(path).settings
    assert isinstance(settings, mdx.Settings)
    assert (settings.n_fft, settings.primary_stem) == (6_144, "vocals")


def test_open_axes_need_sizes(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["input"], ["output"])
    shape = ["batch", 4, "rows", "frames"]
    path = foreign_graphs.write_model(tmp_path / "m.onnx", [node], (shape, shape))
    with pytest.raises(ModelError, match="dim_f and dim_t are not known"):
        interchange.load(path, "n_fft=6144,primary_stem=vocals")
    settings = interchange.load(path, "n_fft=6144,primary_stem=vocals,dim_f=2048,dim_t=256").settings
    assert isinstance(settings, mdx.Settings)
    assert (settings.dim_f, settings.dim_t) == (2_048, 256)


@pytest.mark.parametrize(
    ("shapes", "data"),
    [
        ((["batch", 4, "rows", "frames"],) * 2, "n_fft=16384,primary_stem=vocals,dim_f=8192,dim_t=8192"),
        (([1, 2, "n"], [1, 4, 2, "n"]), "samples=4000000"),
    ],
)
def test_sizes_of_open_axes_have_limits(tmp_path: Path, shapes: Any, data: str) -> None:
    node = helper.make_node("Identity", ["input"], ["output"])
    path = foreign_graphs.write_model(tmp_path / "m.onnx", [node], shapes)
    with pytest.raises(ModelError, match="than any known model"):
        interchange.load(path, data)


def test_what_is_missing_is_named_with_the_md5_and_a_way_out(path: Path) -> None:
    with pytest.raises(ModelError) as error:
        interchange.load(path)
    for part in ("n_fft and primary_stem are not known", mdx.compute_md5(path), "--model-data", "mdx_model_data.json"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"primary_stem": "Bass"}, "separates neither vocals nor instrumental"),
        ({"primary_stem": 3}, "not as in UVR's"),
        ({"mdx_n_fft_scale_set": "big"}, "not as in UVR's"),
        ({"mdx_n_fft_scale_set": 2**40}, "n_fft = 1099511627776"),
        ({"mdx_n_fft_scale_set": 6_143}, "an even number"),
        ({"mdx_n_fft_scale_set": 20_480}, "more frames than one window has"),
        ({"mdx_dim_t_set": 40}, "exponent"),
        ({"mdx_dim_t_set": 8}, "dim_t is 256 in its parameters, but 16 in the file"),
        ({"mdx_dim_t_set": 10**3_000}, r"mdx_dim_t_set = .{1,90}: expected the exponent"),
        ({"mdx_dim_f_set": 10**3_000}, r": dim_f is .{1,90} in its parameters, but 1024 in the file"),
        ({"compensate": 10**400}, "expected a finite number"),
        ({"mdx_dim_f_set": 2_048}, "dim_f is 2048 in its parameters, but 1024 in the file"),
        ({"compensate": 0}, "a gain from"),
    ],
)
def test_contradictory_parameters_are_refused(path: Path, change: dict[str, Any], reason: str) -> None:
    (path.parent / "mdx_model_data.json").write_text(json.dumps({mdx.compute_md5(path): ENTRY | change}))
    with pytest.raises(ModelError, match=reason):
        interchange.load(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("missing.json", "missing.json: not a JSON file"),
        ("missing.toml", "missing.toml: cannot read"),
        ("n_fft", "n_fft: not a JSON file"),
        ("n_fft=x,primary_stem=vocals", "n_fft = 'x': expected int"),
        ("colour=3,n_fft=6144,primary_stem=vocals", "unknown setting 'colour'"),
    ],
)
def test_wrong_data_of_the_caller_is_an_error(path: Path, data: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        interchange.load(path, data)


@pytest.mark.parametrize("content", ["[1]", "{", '{"a": ' * 5_000])
def test_a_damaged_json_is_an_error(path: Path, content: str) -> None:
    (path.parent / "mdx_model_data.json").write_text(content)
    with pytest.raises(ModelError, match="not a JSON file of MDX parameters"):
        interchange.load(path)


def test_four_stems_are_those_of_demucs(tmp_path: Path) -> None:
    model = interchange.load(foreign_graphs.write_waveform(tmp_path / "m.onnx"))
    assert model.settings == waveform.Settings(
        samples=foreign_graphs.SAMPLES, stems=("drums", "bass", "other", "vocals")
    )


@pytest.mark.parametrize(
    ("shapes", "toml", "reason"),
    [
        (([1, 2, "n"], [1, 4, 2, "n"]), "", "samples is not known"),
        (([1, 2, 600], [1, 2, 2, 600]), "", "stems is not known"),
        (([1, 2, 600], [1, 2, 2, 600]), 'stems = ["a", "b"]', "expected one stem called vocals"),
        (([1, 2, 600], [1, 2, 2, 600]), 'stems = ["a", "b", "vocals"]', "expected"),
        (([1, 2, 600], [1, 2, 2, 600]), 'stems = ["vocals", "b"]\nrate = 5', "rate = 5"),
        (([1, 2, 600], [1, 2, 2, 600]), 'stems = ["vocals", "b"]\nsamples = 5', "samples is 5"),
        (([1, 2, 600], [1, 2, 2, 500]), 'stems = ["vocals", "b"]', "gives an output of shape"),
        (([1, 2, 600], [1, 2, 600]), 'stems = ["vocals"]', "gives an output of shape"),
        (([1, 3, 600], [1, 4, 3, 600]), "", "takes an input of shape"),
        (([1, 600], [1, 600]), "", "takes an input of shape"),
        (([], []), "", "takes an input of shape"),
    ],
)
def test_waveform_models_that_do_not_fit_are_refused(tmp_path: Path, shapes: Any, toml: str, reason: str) -> None:
    node = helper.make_node("Identity", ["input"], ["output"])
    path = foreign_graphs.write_model(tmp_path / "m.onnx", [node], shapes)
    if toml:
        path.with_suffix(".toml").write_text(toml)
    with pytest.raises(ModelError, match=reason):
        interchange.load(path)


def test_the_json_of_other_models_does_not_concern_waveform_models(tmp_path: Path) -> None:
    path = foreign_graphs.write_waveform(tmp_path / "m.onnx")
    assert isinstance(interchange.load(path, "mdx_model_data.json").settings, waveform.Settings)


def test_stems_can_be_given_as_values(tmp_path: Path) -> None:
    shapes = ([1, 2, 600], [1, 2, 2, 600])
    node = helper.make_node("Identity", ["input"], ["output"])
    path = foreign_graphs.write_model(tmp_path / "m.onnx", [node], shapes)
    settings = interchange.load(path, 'stems=["other", "vocals"],rate=22050').settings
    assert settings == waveform.Settings(samples=600, stems=("other", "vocals"), rate=22_050)


def test_the_fingerprint_depends_on_file_and_settings(path: Path) -> None:
    values = "n_fft=6144,primary_stem=vocals"
    first = interchange.load(path, values).compute_fingerprint()
    assert interchange.load(path, values).compute_fingerprint() == first
    assert interchange.load(path, f"{values},compensate=1.1").compute_fingerprint() != first
    path.write_bytes(path.read_bytes() + b"\x1a\x00")
    assert interchange.load(path, values).compute_fingerprint() != first


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        interchange.load(tmp_path / "m.onnx")
