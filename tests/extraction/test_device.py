"""On CUDA, everything between the song and its vocals is computed there. Shown without CUDA: see `meta_device`."""

from __future__ import annotations

from collections.abc import Callable

import fake_nets
import meta_device
import numpy as np
import pytest

from vocalsep import nets
from vocalsep.extraction import Extractor
from vocalsep.features import MFCC, Linear
from vocalsep.weights import Model

SAMPLES = 4_000
CONSTANTS = 20_000  # numbers in windows and matrices, which go to the device as well


def separate(model: Model, rate: int, channels: int, masks_from: str, inversion: str) -> tuple[int, int, int]:
    """Separate noise on the device. Return how many values went there, came back as arrays, and came back alone."""
    mixture = fake_nets.noise(channels, SAMPLES)
    with meta_device.use_meta_device() as traffic:
        extractor = Extractor(model, inversion=inversion, masks_from=masks_from)
        loaded = traffic.sent
        parts = extractor(mixture, rate)
    assert parts.vocals.shape == mixture.shape
    assert np.ptp(parts.vocals) > 0
    return traffic.sent - loaded, traffic.received, traffic.asked


CASES = [("phase", 8_000, 1), ("griffin-lim", 8_000, 3), ("griffin-lim-phase", 11_025, 2)]


@pytest.mark.parametrize(("inversion", "rate", "channels"), CASES)
@pytest.mark.parametrize("make_model", [fake_nets.random_unet, fake_nets.random_uhnet])
def test_only_the_song_goes_to_the_device_and_only_its_vocals_come_back(
    make_model: Callable[[], Model], rate: int, channels: int, inversion: str
) -> None:
    model = make_model()
    samples, frames = channels * SAMPLES, model.front_end.grid.at_rate(rate).count_frames(SAMPLES)
    sent, received, asked = separate(model, rate, channels, "net", inversion)
    assert received == samples + 2 * frames  # and the power of each frame in both, to find where somebody sings
    assert asked <= frames / (model.front_end.frames * (1 - model.run.overlap)) + 2  # once per chunk
    if inversion != "griffin-lim":  # which also sends its first phases
        resampled = 0 if rate == model.front_end.rate else samples * model.front_end.rate / rate
        assert samples <= sent <= 1.1 * (samples + resampled) + CONSTANTS


def test_clusters_are_found_and_applied_on_the_device() -> None:
    bands = fake_nets.SMALL.bands
    net = nets.build("hdpcl", {"bands": bands, "units": 6, "layers": 1})
    model = fake_nets.make_model(net, fake_nets.SMALL)
    rate = model.front_end.rate
    sent, received, _ = separate(model, rate, 2, "clusters", "phase")
    frames = model.front_end.grid.count_frames(SAMPLES) + model.front_end.frames
    sampled = frames * bands * (net.options.dimensions + 2)  # embedding, mask and power of each bin
    assert received <= 2 * SAMPLES + 2 * frames + sampled
    assert 4 * SAMPLES <= sent <= 4.4 * SAMPLES + CONSTANTS  # the song goes there twice


@pytest.mark.parametrize(
    "front_end",
    [
        MFCC(rate=8_000, n_fft=256, hop=64, bands=16, frames=32),
        Linear(rate=8_000, n_fft=256, hop=64, freqs=129, frames=32, channels=1, compression=0.0),
    ],
)
def test_recurrent_nets_run_on_the_device(front_end: MFCC | Linear) -> None:
    answer = "cepstrum" if isinstance(front_end, MFCC) else "share"
    net = nets.build("drnn", {"freqs": len(front_end.band_hz), "units": 6, "layers": 2, "answer": answer})
    _, received, _ = separate(fake_nets.make_model(net, front_end), 12_000, 2, "net", "phase")
    assert received >= 2 * SAMPLES
