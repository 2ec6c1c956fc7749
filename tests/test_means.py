from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import fake_nets
import foreign_graphs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import means, weights
from vocalsep.errors import ConfigError, ModelError
from vocalsep.extraction import Extractor, masking
from vocalsep.extraction.averaging import Follower
from vocalsep.features import LogMel
from vocalsep.means import Mean, Settings

RATE = 44_100


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two models from waveform to waveform: their vocals are 0.2 and 0.6 times the mixture."""
    return tuple(str(foreign_graphs.write_waveform(tmp_path / f"{g}.onnx", gain=g)) for g in (0.2, 0.6))  # type: ignore[return-value]


@pytest.mark.parametrize(("shares", "gain"), [((), 0.4), ((1, 3), 0.5), ((0.5, 0.5), 0.4), ((3.0, 1.0), 0.3)])
def test_vocals_are_the_weighted_mean(pair: tuple[str, str], shares: tuple[float, ...], gain: float) -> None:
    mixture = fake_nets.noise(2, 20_000)
    parts = Extractor([weights.load(path) for path in pair], shares=shares)(mixture, RATE)
    assert fake_nets.snr_db(gain * mixture, parts.vocals) > 100


def test_models_of_all_kinds_are_averaged(tmp_path: Path) -> None:
    models = [
        fake_nets.constant(0.3, fake_nets.SMALL),
        weights.load(str(foreign_graphs.write_mdx(tmp_path / "m.onnx", gain=0.6))),
        weights.load(str(foreign_graphs.write_waveform(tmp_path / "w.onnx", gain=0.9))),
    ]
    mixture = fake_nets.tone(1_000, 16_000, 2.0, 2)
    parts = Extractor(models)(mixture, 16_000)
    assert fake_nets.snr_db(0.6 * mixture, parts.vocals) > 40


def test_a_joined_name_may_end_in_the_file_of_a_mean(pair: tuple[str, str], tmp_path: Path) -> None:
    means.write(tmp_path / "inner.toml", Settings(models=pair))
    joined = f"{pair[0]}+{tmp_path / 'inner.toml'}"
    assert means.split(joined) == joined.split("+")
    mixture = fake_nets.noise(2, 20_000)
    assert fake_nets.snr_db(0.3 * mixture, Extractor(weights.load(joined))(mixture, RATE).vocals) > 100


@pytest.mark.parametrize("workers", [0, 2])
def test_blocks_of_any_size_give_the_same_bits(tmp_path: Path, workers: int) -> None:
    models = [fake_nets.random_unet(), weights.load(str(foreign_graphs.write_waveform(tmp_path / "w.onnx")))]
    mixture = fake_nets.quantise(fake_nets.noise(1, 30_077), 16)
    whole = Extractor(models, gate=True)(mixture, 22_050)
    extractor = Extractor(models, workers=workers, gate=True)
    cut = fake_nets.separate_in_blocks(extractor.start(22_050, 1, low_delay=True), mixture, [700, 0, 5_000])
    assert np.array_equal(cut.vocals, whole.vocals)
    assert np.array_equal(whole.vocals + whole.accompaniment, mixture)


@pytest.mark.parametrize("rate", [8_000, 22_050])
def test_nets_that_cut_songs_alike_share_the_spectrum(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [fake_nets.random_unet(seed=seed) for seed in (1, 2)]
    other = fake_nets.random_unet(replace(fake_nets.SMALL, frames=16), seed=2)
    mixture = fake_nets.noise(2, 30_077, level=0.3)
    one, two = (Extractor(model, workers=0)(mixture, rate).vocals for model in models)
    inversions, invert = [], masking.INVERSIONS["phase"]
    monkeypatch.setitem(masking.INVERSIONS, "phase", lambda grid: inversions.append(grid) or invert(grid))
    shared = Extractor(Mean.of(models, (1, 3)), workers=0)(mixture, rate).vocals
    assert len(inversions) == 1
    assert fake_nets.snr_db((one + 3 * two) / 4, shared) > 100
    Extractor(Mean.of([models[0], other]), workers=0)(mixture, rate)
    assert len(inversions) == 3  # chunks of other lengths


def test_gains_of_frames_and_of_samples_are_alike() -> None:
    mixture = fake_nets.noise(2, 48_000)
    mixture[:, 16_000:32_000] *= 0.1
    models = [fake_nets.constant(0.05, fake_nets.SMALL), fake_nets.constant(0.5, fake_nets.SMALL)]
    frames = Extractor(Mean.of(models, led_by_first=True), workers=0)(mixture, 8_000).vocals
    first, other = (Extractor(model, workers=0)(mixture, 8_000).vocals for model in models)
    samples = (first + Follower(8_000).push(first, other)) / 2
    assert fake_nets.snr_db(samples[:, 800:], frames[:, 800:]) > 30


@pytest.mark.parametrize("other", [fake_nets.SMALL, replace(fake_nets.SMALL, frames=16)])
def test_the_first_of_a_led_mean_says_where_somebody_sings(other: LogMel) -> None:
    mixture = fake_nets.noise(2, 32_000)
    models = [fake_nets.constant(0.1, fake_nets.SMALL), fake_nets.constant(0.9, other)]
    found = []
    for led in (False, True):
        separator = Extractor(Mean.of(models, led_by_first=led), workers=0).start(8_000, 2)
        separator.push(mixture)
        separator.finish()
        found.append(separator.voice)
    assert found == [[(0.0, pytest.approx(4.0))], []]


# means that are led by their first model


def lead(gain: float, other: float = 0.5) -> Extractor:
    """Return an extractor whose nets give `gain` and `other` times the mixture."""
    models = [fake_nets.constant(g, fake_nets.SMALL) for g in (gain, other)]
    return Extractor(Mean.of(models, led_by_first=True), workers=0)


def test_others_fade_out_where_the_first_finds_far_less() -> None:
    """Up to 10 dB less counts as agreement; each dB beyond that turns the others down by two."""
    mixture = fake_nets.noise(2, 32_000)
    for gain_db, expected_db in ((0, 0), (-9, 0), (-11, -2), (-12, -4), (-20, -20), (-30, -40)):
        gain = 0.5 * 10 ** (gain_db / 20)
        expected = (gain + 0.5 * 10 ** (expected_db / 20)) / 2 * mixture
        assert fake_nets.snr_db(expected[:, 8_000:], lead(gain)(mixture, 8_000).vocals[:, 8_000:]) > 40, gain_db


def test_others_are_silent_where_the_first_is_and_come_back_at_once() -> None:
    rate, vocals = 8_000, fake_nets.noise(2, 48_000)
    leader = vocals.copy()
    leader[:, 16_000:32_000] = 0
    led = Follower(rate).push(leader, vocals)
    assert np.array_equal(led[:, :16_000], vocals[:, :16_000])
    assert not led[:, 20_400:32_000].any()  # after half a second
    assert np.array_equal(led[:, 32_600:], vocals[:, 32_600:])  # after 75 ms


def test_a_led_mean_of_equal_nets_changes_nothing() -> None:
    mixture = fake_nets.noise(2, 20_001)
    assert fake_nets.snr_db(mixture, lead(1.0, 1.0)(mixture, 11_025).vocals) > 100
    assert not lead(1.0, 1.0)(0 * mixture, 11_025).vocals.any()


@pytest.mark.parametrize("latency", [None, 0.3])
@settings(deadline=None, max_examples=10)
@given(sizes=st.lists(st.integers(0, 5_000), min_size=1, max_size=5).filter(lambda sizes: max(sizes) > 50))
def test_a_led_mean_does_not_depend_on_blocks(latency: float | None, sizes: list[int]) -> None:
    mean = Mean.of([fake_nets.constant(0.1, fake_nets.SMALL), fake_nets.random_unet()], led_by_first=True)
    mixture = fake_nets.quantise(fake_nets.noise(2, 30_077, level=0.3), 16)
    extractor = Extractor(mean, workers=0, latency=latency)
    whole = extractor(mixture, 22_050)
    cut = fake_nets.separate_in_blocks(extractor.start(22_050, 2, low_delay=True), mixture, sizes)
    assert np.array_equal(cut.vocals, whole.vocals)
    assert np.array_equal(whole.vocals + whole.accompaniment, mixture)


@pytest.mark.parametrize("rate", [1_000, 8_000, 44_100])
@settings(deadline=None, max_examples=10)
@given(
    channels=st.integers(1, 8),
    samples=st.sampled_from([1, 9, 440, 441, 442, 100_003]),
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=4).filter(lambda sizes: max(sizes) > 0),
)
def test_gains_of_blocks_of_any_size_are_the_same(rate: int, channels: int, samples: int, sizes: list[int]) -> None:
    level = 0.1 + np.abs(np.sin(np.arange(samples, dtype=np.float32) * 7 / rate))
    leader, vocals = fake_nets.noise(channels, samples, 1) * level**4, fake_nets.noise(channels, samples, 2)
    whole, cut, parts, at = Follower(rate).push(leader, vocals), Follower(rate), [], 0
    for size in itertools.cycle(sizes):
        parts.append(cut.push(leader[:, at : at + size], vocals[:, at : at + size]))
        at += size
        if at >= samples:
            break
    assert np.array_equal(np.concatenate(parts, axis=-1), whole)
    gains = np.abs(whole[0]) / np.maximum(np.abs(vocals[0]), 1e-9)
    assert samples < rate or (gains.min() < 0.5 and gains.max() > 0.99)


def test_a_led_mean_is_written_and_read(tmp_path: Path, pair: tuple[str, str]) -> None:
    for led in (False, True):
        means.write(tmp_path / "m.toml", Settings(models=pair, led_by_first=led))
        mean = weights.load(str(tmp_path / "m.toml"))
        assert isinstance(mean, Mean)
        assert (mean.led_by_first, means.read(tmp_path / "m.toml").led_by_first) == (led, led)


def test_means_that_sound_different_have_different_digests(tmp_path: Path, pair: tuple[str, str]) -> None:
    third = str(foreign_graphs.write_waveform(tmp_path / "third.onnx", gain=0.1))
    means.write(tmp_path / "inner.toml", Settings(models=(pair[1], third)))
    cases = [
        Settings(models=(pair[0], "inner.toml")),
        Settings(models=(pair[0], "inner.toml"), led_by_first=True),
        Settings(models=(pair[0], pair[1], third), weights=(2, 1, 1), led_by_first=True),
        Settings(models=(pair[1], pair[0], third), weights=(1, 2, 1), led_by_first=True),
    ]
    digests = []
    for case in cases:
        means.write(tmp_path / "m.toml", case)
        digests.append(means.hash_models([str(tmp_path / "m.toml")]))
    assert len(set(digests)) == len(cases)
    lines = [
        f"{share} {weights.hash_file(Path(path))}\n"
        for share, path in zip((0.5, 0.25, 0.25), (*pair, third), strict=True)
    ]
    assert digests[0] == hashlib.sha256("".join(lines).encode()).hexdigest()  # manifests keep it


def test_the_files_of_a_mean_are_found_or_it_is_an_error(tmp_path: Path, pair: tuple[str, str]) -> None:
    means.write(tmp_path / "inner.toml", Settings(models=pair))
    means.write(tmp_path / "outer.toml", Settings(models=("inner.toml", pair[0])))
    assert means.list_files(str(tmp_path / "outer.toml")) == [Path(path) for path in (*pair, pair[0])]
    means.write(tmp_path / "self.toml", Settings(models=("self.toml", pair[0])))
    with pytest.raises(ModelError, match="is a mean of itself"):
        means.list_files(str(tmp_path / "self.toml"))
    with pytest.raises(ModelError, match="named twice"):
        means.list_files("unet+unet")


def test_nan_from_one_model_is_an_error(tmp_path: Path, pair: tuple[str, str]) -> None:
    broken = weights.load(str(foreign_graphs.write_waveform(tmp_path / "broken.onnx", gain=float("nan"))))
    with pytest.raises(ModelError, match="NaN or infinity"):
        Extractor([weights.load(pair[0]), broken]).extract(fake_nets.noise(2, 20_000), RATE)


def test_names_joined_by_plus_are_a_mean(pair: tuple[str, str]) -> None:
    mean = weights.load("+".join(pair))
    assert isinstance(mean, Mean)
    assert (mean.name, mean.weights) == ("0.2+0.6", (0.5, 0.5))


def test_a_file_with_a_plus_in_its_name_is_one_model(tmp_path: Path) -> None:
    path = foreign_graphs.write_waveform(tmp_path / "a+b.onnx")
    assert weights.load(str(path)).name == "a+b"


def test_a_mean_is_written_and_read(tmp_path: Path, pair: tuple[str, str]) -> None:
    path = tmp_path / "best.toml"
    means.write(path, Settings(models=("uhnet-hd", Path(pair[0]).name), weights=(1, 3)))
    mean = weights.load(str(path))
    assert isinstance(mean, Mean)
    assert mean.name == "best"
    assert [model.name for model in mean.models] == ["uhnet-hd", "0.2"]  # the second lies beside the TOML file
    assert mean.weights == (0.25, 0.75)
    means.write(path, Settings(models=("uhnet-hd", "unet")))
    assert means.read(path) == Settings(models=("uhnet-hd", "unet"))


def test_a_mean_may_be_of_means(tmp_path: Path, pair: tuple[str, str]) -> None:
    means.write(tmp_path / "inner.toml", Settings(models=pair))
    means.write(tmp_path / "outer.toml", Settings(models=("inner.toml", pair[1])))
    mixture = fake_nets.noise(2, 20_000)
    vocals = Extractor(weights.load(str(tmp_path / "outer.toml")))(mixture, RATE).vocals
    assert fake_nets.snr_db(0.5 * mixture, vocals) > 100


def test_a_mean_of_itself_is_an_error(tmp_path: Path, pair: tuple[str, str]) -> None:
    path = tmp_path / "self.toml"
    means.write(path, Settings(models=("self.toml", pair[0])))
    with pytest.raises(ModelError, match="mean of itself"):
        weights.load(str(path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "models is missing"),
        ('models = ["unet"]', "1 models; a mean is of 2"),
        ('models = ["unet", "unet"]', "named twice"),
        ('models = ["unet", "uhnet"]\nweights = [1.0]', "1 weights for 2 models"),
        ('models = ["unet", "uhnet"]\nweights = [1.0, 0.0]', "expected numbers above 0"),
        ('models = ["unet", "uhnet"]\nweights = [1.0, nan]', "finite"),
        ('models = ["unet", "uhnet"]\nwheights = [1.0, 1.0]', "did you mean 'weights'"),
        ("models = [", "not a valid TOML file"),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ModelError, match=reason):
        weights.load(str(tmp_path / "m.toml"))


def test_a_missing_file_or_member_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        weights.load(str(tmp_path / "m.toml"))
    with pytest.raises(ModelError, match="unknown model 'unett'"):
        weights.load("uhnet+unett")


@pytest.mark.parametrize("shares", [(1.0,), (1.0, -1.0), (1.0, float("inf"))])
def test_wrong_weights_are_an_error(pair: tuple[str, str], shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="weight"):
        Extractor([weights.load(path) for path in pair], shares=shares)


def test_a_mean_was_trained_on_all_that_its_models_were_trained_on() -> None:
    models = [weights.load(name) for name in ("unet", "uhnet-hd")]
    heard = Mean.of(models).metadata["heard"]
    for model in models:
        for what, names in model.metadata.get("heard", {}).items():
            assert set(names) <= set(heard[what])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("unet", "unet"), ("x/unet.safetensors", "unet"), ("a/kim.onnx+uhnet", "kim+uhnet"), ("b/best.toml", "best")],
)
def test_labels_name_files_without_folder_and_extension(name: str, expected: str) -> None:
    assert means.label(name) == expected
