"""What the shipped models do on real recordings. Skipped without recordings: see docs/CONTRIBUTING.md."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import reference_bsseval
import shipped

from vocalsep import audio, extraction, weights
from vocalsep.datasets.layouts import stems
from vocalsep.datasets.tracks import Track
from vocalsep.evaluation import metrics
from vocalsep.evaluation.bsseval import BssEval
from vocalsep.evaluation.oracle import apply_ideal_mask
from vocalsep.shapes import Waveform
from vocalsep.training.excerpts import keys

RATE = 44_100


def find_recordings(name: str) -> Path:
    named = Path(os.environ.get("VOCALSEP_SHARED") or Path(__file__).parents[2] / "shared")
    for folder in (named / "data" / name, named / name):
        if folder.is_dir():
            return folder
    pytest.skip(f"no recordings {name}; set VOCALSEP_SHARED")


@pytest.fixture(scope="module")
def extractor() -> extraction.Extractor:
    return extraction.Extractor(weights.load(), device="cpu")


Song = dict[str, Waveform]


class Songs(Sequence[Song]):
    """Stems of tracks, loaded when they are needed."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks
        self.load = functools.cache(lambda index: tracks[index].load(RATE, 2))

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: Any) -> Any:
        return [*map(self.load, range(len(self))[index])] if isinstance(index, slice) else self.load(index)


@pytest.fixture(scope="module")
def test_songs() -> Songs:
    return Songs(stems.find(find_recordings("dsd100-excerpts") / "Test").tracks)


def mix(song: Song) -> Waveform:
    return song["vocals"] + song["accompaniment"]


def median_sdr(song: Song, estimate: Waveform) -> float:
    return float(np.nanmedian(metrics.framewise_sdr(song["vocals"], estimate, RATE)))


@pytest.mark.slow
def test_the_default_model_is_as_good_as_its_card_says(extractor: extraction.Extractor, test_songs: Songs) -> None:
    scores = [metrics.sdr(song["vocals"], extractor(mix(song), RATE).vocals) for song in test_songs]
    assert len(scores) == 25
    assert np.mean(scores) == pytest.approx(float(read_card_score()), abs=0.05)
    assert np.mean(scores) >= 5.0


def read_card_score() -> str:
    return weights.read_card(weights.DEFAULT_MODEL).facts["scores"].split(" dB")[0]


@pytest.mark.slow
def test_scores_of_real_songs_lie_between_the_mixture_and_the_ideal_masks(
    extractor: extraction.Extractor, test_songs: Songs
) -> None:
    front_end = extractor.model.models[0].front_end
    floor, model, mel, linear = [], [], [], []
    for song in test_songs[::6]:
        mixture = mix(song)
        floor.append(median_sdr(song, mixture))
        model.append(median_sdr(song, extractor(mixture, RATE).vocals))
        mel.append(median_sdr(song, apply_ideal_mask(mixture, song["vocals"], RATE, front_end).vocals))
        linear.append(median_sdr(song, apply_ideal_mask(mixture, song["vocals"], RATE).vocals))
    assert np.mean(floor) < np.mean(model) < np.mean(mel) < np.mean(linear)


def test_cutting_a_real_song_differently_changes_nothing(extractor: extraction.Extractor, test_songs: Songs) -> None:
    mixture = mix(test_songs[0])
    whole = extractor(mixture, RATE).vocals
    for size in (10_007, 44_100):
        cut = fake_nets.separate_in_blocks(extractor.start(RATE, 2), mixture, [size])
        assert metrics.sdr(whole, cut.vocals) >= 60


def test_the_level_of_a_real_song_does_not_matter(extractor: extraction.Extractor, test_songs: Songs) -> None:
    mixture = mix(test_songs[1])
    vocals = extractor(mixture, RATE).vocals
    assert metrics.sdr(vocals, extractor(mixture / 1000, RATE).vocals * 1000) >= 60


@pytest.mark.slow
def test_vocals_match_the_key_of_their_own_accompaniment() -> None:
    """A random move would land within one step of the right key for one song in six."""
    ratios = []
    for track in stems.find(find_recordings("stems") / "musdb18").tracks[::2]:
        song = track.load(RATE, 2)
        ratios.append(keys.find_matching_ratio(song["vocals"], song["accompaniment"], RATE))
    steps = keys.STEPS * np.log2(ratios)
    assert len(steps) == 20
    assert np.mean(np.abs(steps) < 1.5) > 0.6


def read_instrumentals() -> Iterator[tuple[Waveform, int]]:
    """Yield twelve seconds of the first recording in each folder, and its sample rate."""
    for folder in sorted(path for path in find_recordings("instrumental").iterdir() if path.is_dir()):
        mixture, rate = audio.read(min(folder.glob("*.opus")))
        yield mixture[:, : 12 * rate], rate


CLUSTERING = [name for name in shipped.NAMES if weights.load(name).run.embeds]


@pytest.mark.parametrize(
    ("model", "masks_from"),
    [
        (weights.DEFAULT_MODEL, "auto"),
        *[pytest.param(name, "clusters", marks=pytest.mark.slow) for name in CLUSTERING],
    ],
)
def test_songs_without_a_singer_come_out_nearly_silent(model: str, masks_from: str) -> None:
    """This includes clusters: k-means finds two groups in every song (UH-net paper, figure 11)."""
    extractor = extraction.Extractor(weights.load(model), device="cpu", masks_from=masks_from)
    levels = []
    for mixture, rate in itertools.islice(read_instrumentals(), 0, None, 1 if masks_from == "auto" else 2):
        vocals = extractor(mixture, rate).vocals
        levels.append(10 * np.log10(float(np.square(vocals).sum() / np.square(mixture).sum()) + 1e-12))
    assert len(levels) >= 4
    is_default = model == weights.DEFAULT_MODEL
    assert np.median(levels) <= (-35 if is_default else -15)
    assert not is_default or np.mean(levels) <= -35


@pytest.mark.parametrize("name", shipped.NETS)
def test_every_model_improves_on_the_mixture(name: str, test_songs: Songs) -> None:
    """Models trained on MIR-1K alone get clips of MIR-1K, all others songs of DSD100."""
    model = weights.load(name)
    extractor = extraction.Extractor(model, device="cpu")
    karaoke = {pool["layout"] for pool in model.metadata["recipe"]["pools"]} == {"mir1k"}
    songs, rate = (load_clips(), 16_000) if karaoke else (test_songs[::6], RATE)
    gains = []
    for song in songs:
        mixture = mix(song)
        gains.append(
            metrics.sdr(song["vocals"], extractor(mixture, rate).vocals) - metrics.sdr(song["vocals"], mixture)
        )
    assert len(gains) >= 5
    assert np.mean(gains) >= (3 if karaoke else 4)


def load_clips() -> list[Song]:
    """Load a few clips of MIR-1K's test part."""
    found = []
    for path in sorted((find_recordings("mir-1k") / "test").glob("*.vocals.opus"))[::15]:
        stem = path.name.removesuffix(".vocals.opus")
        parts = {part: audio.read(path.with_name(f"{stem}.{part}.opus")) for part in ("vocals", "accompaniment")}
        found.append({part: audio.resample(samples, rate, 16_000) for part, (samples, rate) in parts.items()})
    return found


def test_both_channels_of_a_real_song_and_its_bandwidth_are_kept(
    extractor: extraction.Extractor, test_songs: Songs
) -> None:
    song = test_songs[2]
    vocals = extractor(mix(song), RATE).vocals
    spectrum = np.square(np.abs(np.fft.rfft(vocals)))
    above = spectrum[:, int(spectrum.shape[1] * 8000 / (RATE / 2)) :]
    true = np.square(np.abs(np.fft.rfft(song["vocals"])))[:, -above.shape[1] :]
    assert vocals.shape == song["vocals"].shape
    assert (above.sum(axis=1) > 0.05 * true.sum(axis=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 9])
def test_version_4_of_bss_eval_equals_musevals_on_real_songs(test_songs: Songs, index: int) -> None:
    stems_ = [test_songs[index][stem][:, : 3 * RATE + 999] for stem in ("vocals", "accompaniment")]
    # Decoded floats are too smooth for either implementation; see the last test.
    references = fake_nets.quantise(np.stack(stems_), 16)
    estimates = np.stack([*apply_ideal_mask(references.sum(axis=0), references[0], RATE)])
    ours, _ = BssEval(references, RATE)(estimates)
    for have, want in zip(ours, reference_bsseval.score_version_4(references, estimates, RATE), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-3)


def test_version_3_of_bss_eval_equals_mir_evals_on_real_clips() -> None:
    folder = find_recordings("mir-1k") / "test"
    clip = sorted(folder.glob("*.vocals.opus"))[0].name.removesuffix(".vocals.opus")
    stems_ = [audio.read(folder / f"{clip}.{stem}.opus") for stem in ("vocals", "accompaniment")]
    low = [audio.resample(samples, rate, 16_000)[:, : 4 * 16_000] for samples, rate in stems_]
    references = fake_nets.quantise(np.stack(low), 16)
    estimates = np.stack([*apply_ideal_mask(references.sum(axis=0), references[0], 16_000)])
    _, ours = BssEval(references, 16_000)(estimates)
    for have, want in zip(
        (ours.sdr, ours.sir, ours.sar), reference_bsseval.score_version_3(references, estimates), strict=True
    ):
        np.testing.assert_allclose(have, want, atol=1e-3)


@pytest.mark.slow
def test_bss_eval_of_decoded_floats_depends_on_rounding_and_of_16_bits_does_not(test_songs: Songs) -> None:
    """Why songs are scored with 16 bits: see docs/evaluate.md."""
    decoded = np.stack([test_songs[0][stem][:, : 3 * RATE + 999] for stem in ("vocals", "accompaniment")])
    scores = []
    for references in (decoded, fake_nets.quantise(decoded, 16)):
        estimates = np.stack([*apply_ideal_mask(references.sum(axis=0), references[0], RATE)])
        museval = reference_bsseval.score_version_4(references, estimates, RATE)
        scores.append((museval[2][0], BssEval(references, RATE)(estimates)[0].sir[0]))
    assert max(map(np.max, scores[0])) < 0
    assert min(map(np.min, scores[1])) > 10
