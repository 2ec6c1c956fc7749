from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep.errors import AudioError
from vocalsep.extraction import Extractor
from vocalsep.shapes import Waveform

FLOATS = ("float16", "float32", "float64", ">f4", "longdouble")
FIXED = ("int16", "int32", ">i2")
DOCS = Path(__file__).parents[2] / "docs"


def pcm(samples: Waveform, kind: str) -> Any:
    """Return samples as an array of a numpy type."""
    if np.dtype(kind).kind == "f":
        return samples.astype(kind)
    full = 2.0 ** (8 * np.dtype(kind).itemsize - 1)
    return np.clip(np.round(samples.astype(np.float64) * full), -full, full - 1).astype(kind)


@pytest.mark.parametrize("kind", [*FLOATS, *FIXED])
@pytest.mark.parametrize("channels", [0, 1, 2, 6])
def test_arrays_come_back_in_their_own_shape_and_type(kind: str, channels: int) -> None:
    noise = np.clip(fake_nets.noise(max(1, channels), 4_000), -1, 1)
    samples = pcm(noise if channels else noise[0], kind)
    before = samples.copy()
    samples.flags.writeable = False
    vocals, accompaniment = Extractor(fake_nets.constant(0.25, fake_nets.SMALL)).extract(samples, 8_000)
    for part, share in ((vocals, 0.25), (accompaniment, 0.75)):
        assert (type(part), part.shape, part.dtype) == (np.ndarray, samples.shape, samples.dtype)
        step = 1 if samples.dtype.kind == "i" else 2.0**-10
        assert np.abs(part.astype(float) - share * samples.astype(float)).max() <= step * (
            2**9 if kind == "int32" else 1
        )
    assert np.array_equal(samples, before)
    assert np.array_equal(vocals + accompaniment, samples)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "int16", "int32"])
def test_tensors_come_back_as_tensors(kind: str) -> None:
    of = getattr(torch, kind)
    full = torch.iinfo(of).max if not of.is_floating_point else 1
    samples = (torch.from_numpy(fake_nets.noise(2, 3_000)).clamp(-1, 1).double() * full).to(of)
    samples.requires_grad_(of.is_floating_point)
    before = samples.detach().clone()
    parts = Extractor(fake_nets.constant(0.5, fake_nets.SMALL)).extract(samples, 11_025)
    for part in parts:
        assert (type(part), part.shape, part.dtype, part.requires_grad) == (Tensor, samples.shape, of, False)
        torch.testing.assert_close(part.double(), before.double() / 2, rtol=0, atol=full * 2.0**-9)
    assert torch.equal(samples.detach(), before)
    assert torch.equal(parts[0] + parts[1], before)


def test_floats_and_pcm_give_the_vocals_of_the_song_itself() -> None:
    extractor, song = Extractor(fake_nets.random_unet()), fake_nets.quantise(fake_nets.noise(2, 9_000), 16)
    expected = extractor(song, 8_000)
    floats = extractor.extract(song, 8_000)
    for part, whole in zip(floats, expected, strict=True):
        np.testing.assert_allclose(part, whole, rtol=0, atol=2**-24)
    steps = extractor.extract(pcm(song, "int16"), 8_000)[0]
    assert np.array_equal(steps, np.round(expected.vocals.astype(float) * 2**15))


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(FIXED),
    # Masks beyond [0, 1] would exceed full scale. Those of 1 return the song, which is an error.
    value=st.floats(-2, 3, width=32).filter(lambda value: abs(value - 1) > 0.01),
    level=st.floats(1e-4, 3),
    samples=st.integers(1, 2_000),
)
def test_fixed_point_parts_always_add_up(kind: str, value: float, level: float, samples: int) -> None:
    song = pcm(fake_nets.noise(2, samples, level=level), kind)
    vocals, accompaniment = Extractor(fake_nets.constant(value, fake_nets.SMALL)).extract(song, 8_000)
    assert np.array_equal(vocals.astype(np.int64) + accompaniment.astype(np.int64), song.astype(np.int64))


@pytest.mark.parametrize("kind", FLOATS)
def test_extreme_values_give_finite_parts(kind: str) -> None:
    largest = np.finfo(kind).max
    song = np.array([[0, largest, -largest, np.nan, np.inf, largest, 1, 0] * 200], dtype=kind)
    for value in (-1.0, 0.5, 2.0):
        for part in Extractor(fake_nets.constant(value, fake_nets.SMALL)).extract(song, 8_000):
            assert np.isfinite(part).all()


def test_views_give_the_same_parts_as_copies() -> None:
    extractor, song = Extractor(fake_nets.random_unet()), fake_nets.noise(2, 5_000)
    expected = extractor.extract(song, 8_000)[0]
    assert np.array_equal(extractor.extract(np.asfortranarray(song), 8_000)[0], expected)
    assert np.array_equal(extractor.extract(song[:, ::-1].copy()[:, ::-1], 8_000)[0], expected)


@pytest.mark.parametrize(
    ("samples", "rate", "expected"),
    [
        (np.zeros(0), 8_000, "samples of shape (0,); expected (time,) or (channel, time), at least one sample"),
        (np.zeros((1, 2, 10)), 8_000, "samples of shape (1, 2, 10); expected"),
        (torch.tensor(0.5), 8_000, "samples of shape (); expected"),
        (np.zeros((5_000, 2)), 8_000, "samples of 5000 channels; expected (channel, time): transpose the array"),
        (np.zeros(9, np.uint8), 8_000, "samples of type uint8; expected float, int16 or int32"),
        (np.zeros(9, np.int64), 8_000, "samples of type int64; expected float, int16 or int32"),
        (torch.zeros(9, dtype=torch.complex64), 8_000, "samples of type complex64; expected float"),
        (np.array(["a"]), 8_000, "samples of type str32; expected float"),
        (np.zeros(9), 0, "sample rate 0 Hz; expected 1000 to 4000000 Hz"),
        (np.zeros(9), 44_100.5, "sample rate 44100.5 Hz; expected"),
    ],
    ids=str,
)
def test_other_shapes_types_and_rates_are_refused(samples: Any, rate: int, expected: str) -> None:
    with pytest.raises(AudioError, match=re.escape(expected)):
        Extractor(fake_nets.constant(1)).extract(samples, rate)


def test_the_example_in_the_guide_returns_int16_parts_that_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, rate = soundfile.read(DOCS / "demo" / "orphanage.ogg", frames=2 * 44_100)
    soundfile.write(tmp_path / "orphanage.ogg", samples, rate)
    monkeypatch.chdir(tmp_path)
    section = (DOCS / "python.md").read_text(encoding="utf-8").split("### The parts add up to the song\n")[1]
    example = section.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(example, "python.md", "exec"), names)
    assert names["vocals"].dtype == names["song"].dtype == np.int16
    assert names["vocals"].shape == names["song"].shape
    assert np.array_equal(names["vocals"] + names["accompaniment"], names["song"])
    assert names["vocals"].any()
