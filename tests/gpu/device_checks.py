"""Checks of extraction on a device: torch there against ONNX Runtime on the CPU. `run.py` and pytest run them.

On the device "cpu" they compare torch on the CPU instead, which rehearses them where there is no CUDA.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import shipped
import synthetic_songs
import tiny_recipes
import torch

from vocalsep import audio, extraction, training, weights
from vocalsep.backends import Backend, open_backend, to_numpy
from vocalsep.extraction.chunks import ChunkStream
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.masking import prepare_inputs
from vocalsep.release import DEFAULT_MODEL
from vocalsep.shapes import Waveform

RATE = 44_100
AGREEMENT_DB = 80.0  # the law; see docs/design.md
GRIFFIN_LIM_DB = 40.0  # 32 rounds with momentum amplify rounding errors
CLUSTERS_DB = 40.0  # a bin between two clusters may fall to either


@dataclasses.dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What is compared.
        limit: The least result that passes, or with `at_most` the largest.
        unit: Unit of the result.
        measure: Returns the result.
        at_most: Whether the result must not be above the limit.
    """

    name: str
    limit: float
    unit: str
    measure: Callable[[], float]
    at_most: bool = False

    def passes(self, result: float) -> bool:
        """Return whether a result is good enough. NaN never is."""
        return result <= self.limit if self.at_most else result >= self.limit

    def __str__(self) -> str:
        return self.name


def list_checks(device: str, seconds: float = 8.0) -> Iterator[Check]:
    """Yield all checks.

    Args:
        device: "cuda", or "cpu" for a rehearsal.
        seconds: Length of the songs.
    """
    models = shipped.NAMES

    def snr(name: str, limit: float, function: Callable[..., float], *arguments: Any, **options: Any) -> Check:
        return Check(name, limit, "dB", functools.partial(function, device, *arguments, **options))

    def differ(name: str, function: Callable[..., int], *arguments: Any) -> Check:
        return Check(name, 0, "bytes differ", functools.partial(function, device, seconds, *arguments), at_most=True)

    for name in models:
        yield snr(f"{name}: masks", AGREEMENT_DB, compare_answers, seconds, name)
        yield snr(f"{name}: vocals", AGREEMENT_DB, compare_vocals, seconds, name, masks_from="net")
    for name in [name for name in models if weights.load(name).run.embeds]:
        yield snr(f"{name}: embeddings", AGREEMENT_DB, compare_answers, seconds, name, embed=True)
        yield snr(f"{name}: vocals from clusters", CLUSTERS_DB, compare_vocals, seconds, name, masks_from="clusters")
    for inversion in INVERSIONS:
        limit = AGREEMENT_DB if inversion == "phase" else GRIFFIN_LIM_DB
        for name in (DEFAULT_MODEL, "unet"):
            yield snr(f"{name}: {inversion}", limit, compare_vocals, seconds, name, inversion=inversion)
    for rate, channels in ((8_000, 1), (48_000, 6), (96_000, 2)):
        label = f"{DEFAULT_MODEL}: {rate / 1_000:g} kHz, {channels} channels"
        yield snr(label, AGREEMENT_DB, compare_vocals, seconds / 2, DEFAULT_MODEL, rate=rate, channels=channels)
    yield snr(f"{DEFAULT_MODEL}: gate", AGREEMENT_DB, compare_vocals, seconds, DEFAULT_MODEL, gate=True)
    for kind in ("float32", "float64", "int16"):
        yield differ(f"Python API, tensor of {kind} on the device", compare_kinds, kind)
    for name in (DEFAULT_MODEL, "unet", "dpcl"):
        limit = math.inf if device == "cpu" else AGREEMENT_DB  # sums on CUDA may depend on the blocks of the song
        yield snr(f"{name}: file against pipe", limit, compare_file_and_pipe, seconds, name)
    yield differ("the same song twice", compare_twice)
    yield Check("silence in, loudest sample out", 0, "", functools.partial(separate_silence, device), at_most=True)
    for precision in ("fp32", "bf16", "fp16"):
        label = f"a model trained on the device in {precision}"
        yield snr(label, AGREEMENT_DB, train_and_compare, precision)
    if device == "cuda":
        yield Check("memory of a song three times as long", 1.05, "times", measure_memory_growth, at_most=True)


@functools.lru_cache(maxsize=4)
def make_song(seconds: float, rate: int = RATE, channels: int = 2) -> Waveform:
    """Make a voice over a band, ``(channel, time)``, a little different in each channel."""
    voice = synthetic_songs.make_voice(1, seconds, rate)
    backing = sum(synthetic_songs.make_backing(1, seconds, rate).values())
    parts = [voice + (1 - 0.1 * channel) * np.roll(backing, 17 * channel) for channel in range(channels)]
    song = fake_nets.quantise(np.stack(parts), 16)
    song.setflags(write=False)
    return song


def load_model(name: str, device: str) -> weights.Model:
    """Load a model that runs in torch on the device."""
    model = weights.load(name)
    return dataclasses.replace(model, graphs={}) if device == "cpu" else model


def make_extractor(name: str, device: str, **options: Any) -> extraction.Extractor:
    """Make an extractor that uses torch on the device."""
    made = extraction.Extractor(load_model(name, device), device=device, **options)
    assert made.device == device
    return made


@functools.lru_cache(maxsize=1)  # checks that compare the same song follow each other
def make_reference(name: str, **options: Any) -> extraction.Extractor:
    """Make an extractor that uses ONNX Runtime on the CPU."""
    return extraction.Extractor(weights.load(name), device="cpu", **options)


def compare_answers(device: str, seconds: float, name: str, *, embed: bool = False) -> float:
    """Return the SNR in dB of the net's mask, or of its embeddings, for all chunks of a song."""
    model = load_model(name, device)
    backends = open_backend(weights.load(name), "cpu", "onnx"), open_backend(model, device, "torch")
    expected, found = (_answer(backend, model, seconds, embed=embed) for backend in backends)
    return fake_nets.snr_db(expected, found)


def _answer(backend: Backend, model: weights.Model, seconds: float, *, embed: bool) -> Any:
    song, front_end = make_song(seconds), model.front_end
    stream = ChunkStream(front_end, RATE, len(song), front_end.frames // 2, place=backend.place)
    answers = [
        to_numpy(backend.embed(features)[0] if embed else backend.run(features))
        for chunk in stream.push(song, last=True)
        for _, features in prepare_inputs(chunk[None], front_end, 1)
    ]
    return np.concatenate(answers)


def compare_vocals(
    device: str, seconds: float, name: str, *, rate: int = RATE, channels: int = 2, **options: Any
) -> float:
    """Return the SNR in dB of a song's vocals."""
    song = make_song(seconds, rate, channels)
    expected = make_reference(name, **options)(song, rate).vocals
    found = make_extractor(name, device, **options)(song, rate).vocals
    return fake_nets.snr_db(expected, found)


def compare_kinds(device: str, seconds: float, kind: str) -> int:
    """Return in how many samples a tensor on the device and the same array give other vocals and accompaniment."""
    song = make_song(seconds)
    song = np.round(song * 2**15).clip(-(2**15), 2**15 - 1).astype(kind) if kind == "int16" else song.astype(kind)
    extractor, tensor = make_extractor(DEFAULT_MODEL, device), torch.tensor(song, device=device)
    differences = 0
    for expected, found in zip(extractor.extract(song, RATE), extractor.extract(tensor, RATE), strict=True):
        assert found.device == tensor.device
        assert found.dtype == tensor.dtype
        differences += int(np.count_nonzero(expected != found.cpu().numpy()))
    return differences


def compare_file_and_pipe(device: str, seconds: float, name: str) -> float:
    """Return the SNR in dB of the vocals of a pipe against those of a file."""
    extractor = make_extractor(name, device, masks_from="net")  # pipes are never clustered
    with tempfile.TemporaryDirectory() as folder:
        song = synthetic_songs.write(Path(folder) / "song.wav", make_song(seconds).T, RATE)
        outputs = []
        for source in (song, io.BytesIO(song.read_bytes())):
            extraction.extract(source, Path(folder) / "vocals.wav", extractor=extractor, subtype="float")
            outputs.append(audio.read(Path(folder) / "vocals.wav")[0])
    return fake_nets.snr_db(*outputs)


def compare_twice(device: str, seconds: float) -> int:
    """Return in how many bytes the vocals of the same song differ the second time."""
    extractor = make_extractor(DEFAULT_MODEL, device)
    return _count_differences(*(extractor(make_song(seconds), RATE).vocals.view(np.uint8) for _ in range(2)))


def _count_differences(one: Any, other: Any) -> int:
    return int(np.count_nonzero(one != other)) if one.shape == other.shape else max(one.size, other.size)


def separate_silence(device: str) -> float:
    """Return the loudest sample of a silent song's parts."""
    parts = make_extractor(DEFAULT_MODEL, device)(np.zeros((2, 3 * RATE), np.float32), RATE)
    return float(np.abs(np.stack(parts)).max())


def train_and_compare(device: str, precision: str) -> float:
    """Train a tiny net on the device. Return the SNR in dB of its vocals there against those of ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        root = synthetic_songs.write_dsd100(Path(folder) / "songs", dev=4, test=0)
        recipe = tiny_recipes.make_recipe(root, precision=precision)
        path = training.fit(recipe, Path(folder) / "run", device=torch.device(device))
        return compare_vocals(device, 2.0, str(path))


def measure_memory_growth() -> float:
    """Return the largest memory on the GPU of a song of 90 s, relative to that of its first 30 s."""
    extractor, peaks = make_extractor(DEFAULT_MODEL, "cuda"), []
    for seconds in (10, 30, 90):  # the first one warms up
        torch.cuda.reset_peak_memory_stats()
        extractor(make_song(seconds), RATE)
        peaks.append(torch.cuda.max_memory_allocated())
    return peaks[2] / peaks[1]
