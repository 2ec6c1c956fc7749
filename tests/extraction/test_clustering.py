from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import synthetic_songs
import torch
from torch import Tensor

from vocalsep import audio
from vocalsep.errors import ConfigError
from vocalsep.extraction import Extractor, Parts, clustering, extract
from vocalsep.extraction.clustering import BinSample, Clusters
from vocalsep.nets import Batch, ClusteringNet
from vocalsep.shapes import Array, Embedding, Features, Mask, Waveform
from vocalsep.weights import Model

D, ROWS, FRAMES = 4, 8, 16


def embed_groups(group: Array, seed: int = 0, spread: float = 0.1) -> Embedding:
    """Return embeddings near the axis of each bin's group, ``(chunk, D, row, frame)``."""
    axes = np.moveaxis(np.eye(D, dtype=np.float32)[group.astype(int)], -1, 1)
    vectors = axes + spread * np.random.default_rng(seed).standard_normal(axes.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def song(chunks: int = 6, seed: int = 0, voice: float = 0.9, rest: float = 0.1) -> tuple[Array, Embedding, Mask, Array]:
    """Return groups, embeddings, own masks and power of chunks; a third of the bins, group 0, are the voice."""
    random = np.random.default_rng(seed)
    group = (random.random((chunks, ROWS, FRAMES)) > 1 / 3).astype(np.float32)
    own = np.where(group == 0, voice, rest).astype(np.float32)[:, None]
    power = 1 + random.random((chunks, 1, ROWS, FRAMES), dtype=np.float32)
    return group, embed_groups(group, seed), own, power


def fit(embedding: Embedding, own: Mask, power: Array, step: int = 100) -> Clusters | None:
    sample = BinSample()
    for start in range(0, len(power), step):
        sample.push(*(part[start : start + step] for part in (embedding, own, power)))
    return sample.fit()


def require(found: Clusters | None) -> Clusters:
    assert found is not None
    return found


# clusters


def test_the_voices_cluster_is_the_one_that_the_net_takes_for_voice() -> None:
    group, embedding, own, power = song()
    found = require(fit(embedding, own, power))
    assert found.centroids[0] @ np.eye(D)[0] > 0.98
    assert found.centroids[1] @ np.eye(D)[1] > 0.98
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-6)
    assert found.confidence == pytest.approx(0.8, abs=1e-5)
    assert np.array_equal(clustering.estimate_mask(found, embedding, own, power)[:, 0], 1 - group)


def test_the_order_of_clusters_does_not_matter() -> None:
    """Neither with the axes swapped nor with the voice swapped."""
    group, _, own, power = song()
    swapped = require(fit(embed_groups(1 - group), own, power))
    assert swapped.centroids[0] @ np.eye(D)[1] > 0.98
    other = require(fit(embed_groups(group), 1 - own, power))
    assert other.centroids[0] @ np.eye(D)[1] > 0.98


def test_clusters_do_not_depend_on_how_the_song_is_cut() -> None:
    _, embedding, own, power = song(chunks=7)
    found = [require(fit(embedding, own, power, step)) for step in (1, 3, 100)]
    for other in found[1:]:
        assert np.array_equal(other.centroids, found[0].centroids)
        assert other.confidence == found[0].confidence
    assert np.array_equal(require(fit(embedding, own, power)).centroids, found[2].centroids)


def test_quiet_bins_are_ignored() -> None:
    """Two thirds of the bins lie 60 dB down on a third axis. If they counted, they would form a cluster."""
    group, embedding, own, power = song(chunks=12)
    quiet = np.random.default_rng(5).random(power.shape) > 1 / 3
    third_axis = embed_groups(np.full_like(group, 2), seed=3)
    embedding = np.where(quiet, third_axis, embedding)
    found = require(fit(embedding, np.where(quiet, np.float32(0.5), own), np.where(quiet, np.float32(1e-6), power)))
    assert found.centroids[0] @ np.eye(D)[0] > 0.98
    assert found.centroids[1] @ np.eye(D)[1] > 0.98


def test_quiet_chunks_are_ignored() -> None:
    """A fade-out 50 dB below the song has loud bins relative to itself, but not relative to the song."""
    group, embedding, own, power = song(chunks=12)
    end = np.arange(12) >= 4
    third_axis = embed_groups(np.full_like(group, 2), seed=3)
    embedding[end], own[end], power[end] = third_axis[end], 0.5, 1e-5 * power[end]
    found = require(fit(embedding, own, power))
    assert found.centroids[0] @ np.eye(D)[0] > 0.98


@pytest.mark.parametrize("loud", [0, 1])
def test_silence_and_a_single_embedding_have_no_clusters(loud: int) -> None:
    embedding = np.zeros((2, D, ROWS, FRAMES), np.float32)
    embedding[:, 0] = 1
    power = loud * np.ones((2, 1, ROWS, FRAMES), np.float32)
    assert fit(embedding, np.ones((2, 1, ROWS, FRAMES), np.float32), power) is None


def test_an_empty_sample_has_no_clusters() -> None:
    assert BinSample().fit() is None


def test_memory_does_not_grow_with_the_song(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_MAX_BINS", 500)
    sample, sizes = BinSample(), []
    for seed in range(30):
        sample.push(*song(chunks=2, seed=seed)[1:])
        assert sample._held is not None
        sizes.append(len(sample._held))
    assert max(sizes) == sizes[-1] == 500
    assert require(sample.fit()).centroids[0] @ np.eye(D)[0] > 0.98


def test_the_sample_of_a_long_song_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_MAX_BINS", 500)
    _, *chunks = song(chunks=20)
    held = []
    for step in (1, 3, 100):
        sample = BinSample()
        for start in range(0, 20, step):
            sample.push(*(part[start : start + step] for part in chunks))
        held.append(sample._held)
    assert held[0] is not None
    assert len(held[0]) == 500
    assert all(other is not None and np.array_equal(other, held[0]) for other in held[1:])


def test_all_parts_of_a_long_song_are_sampled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_MAX_BINS", 1_000)
    sample = BinSample()
    for number in range(20):  # the power of a bin says from which part it comes
        _, embedding, own, power = song(chunks=4)
        sample.push(embedding, own, np.full_like(power, 1 + number))
    assert sample._held is not None
    counts = np.bincount(sample._held[:, 1].round().astype(int) - 1, minlength=20)
    assert counts.min() > 25  # the mean is 50, the standard deviation 7
    assert counts.max() < 80


# masks


def test_a_song_without_voice_keeps_the_nets_mask() -> None:
    """K-means always finds two groups, but neither need be the voice (UH-net paper, figure 11)."""
    _, embedding, own, power = song(voice=0.05, rest=0.01)
    found = require(fit(embedding, own, power))
    assert found.confidence == pytest.approx(0.04, abs=1e-5)
    assert not found.trusted
    assert np.array_equal(clustering.estimate_mask(found, embedding, own, power), own)


def test_a_chunk_without_voice_keeps_the_nets_mask() -> None:
    group, embedding, own, power = song()
    own[2] = 0.02
    found = require(fit(embedding, own, power))
    mask = clustering.estimate_mask(found, embedding, own, power)
    assert found.trusted
    assert np.array_equal(mask[2], own[2])
    assert np.array_equal(mask[3, 0], 1 - group[3])


# songs


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a net without options."""


class HalvesNet(ClusteringNet):
    """Embeds the lower and upper half of the bands apart; its own mask has one value for each half."""

    Options = NoOptions

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.shares = torch.tensor([low, high])

    def forward(self, features: Features) -> Mask:
        half = features.shape[-2] // 2
        return self.shares.repeat_interleave(half)[:, None].expand(len(features), 1, -1, features.shape[-1])

    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        group = (torch.arange(features.shape[-2]) >= features.shape[-2] // 2).long()
        axes = torch.eye(D)[group].T[..., None]
        return axes.expand(len(features), -1, -1, features.shape[-1]), self(features)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError


class HalvesByMask(HalvesNet):
    """The same net, made for its own mask rather than for clusters."""

    clusters_by_default = False


def extract_array(net: ClusteringNet, mixture: Waveform, **options: Any) -> Parts:
    return Extractor(fake_nets.make_model(net, fake_nets.SMALL), **options)(mixture, 8_000)


def mixture() -> Waveform:
    return fake_nets.noise(2, 9_000)


def test_clusters_replace_the_nets_mask() -> None:
    """The net's mask is 0.6 in the lower half. Its cluster counts fully, and the other not at all."""
    song = mixture()
    model = fake_nets.make_model(fake_nets.ConstantNet([1.0] * 8 + [0.0] * 8), fake_nets.SMALL)
    expected = Extractor(model)(song, 8_000).vocals
    np.testing.assert_allclose(extract_array(HalvesNet(0.6, 0.2), song).vocals, expected, rtol=0, atol=1e-5)
    own = extract_array(HalvesNet(0.6, 0.2), song, masks_from="net").vocals
    assert fake_nets.snr_db(own, expected) < 20


@pytest.mark.parametrize(("net", "by_default"), [(HalvesNet(0.6, 0.2), True), (HalvesByMask(0.6, 0.2), False)])
def test_auto_uses_whichever_masks_the_net_is_made_for(net: ClusteringNet, by_default: bool) -> None:
    song = mixture()
    auto = extract_array(net, song).vocals
    assert np.array_equal(auto, extract_array(net, song, masks_from="clusters" if by_default else "net").vocals)
    assert not np.array_equal(auto, extract_array(net, song, masks_from="net" if by_default else "clusters").vocals)


def test_a_song_without_a_singer_is_not_split() -> None:
    """There are clusters, but the net takes neither for voice, so its own mask decides."""
    song = mixture()
    vocals = extract_array(HalvesNet(0.03, 0.0), song).vocals
    assert 10 * np.log10(np.square(vocals).sum() / np.square(song).sum()) < -30


@pytest.mark.parametrize(("high", "used"), [(0.2, True), (0.5, False)])
def test_the_report_has_the_confidence_of_the_clusters(tmp_path: Path, high: float, used: bool) -> None:
    extractor = Extractor(fake_nets.make_model(HalvesNet(0.6, high), fake_nets.SMALL))
    song = synthetic_songs.write(tmp_path / "song.wav", np.clip(0.1 * mixture(), -1, 1).T, 8_000)
    report = extract(song, tmp_path / "vocals.wav", extractor=extractor)
    assert report.cluster_confidence == pytest.approx(0.6 - high, abs=1e-3)
    assert report.clusters_used is used
    found, _ = audio.read(tmp_path / "vocals.wav")
    expected = extract_array(HalvesNet(0.6, high), audio.read(song)[0], masks_from="clusters" if used else "net").vocals
    assert fake_nets.snr_db(found, expected) > 40


@pytest.mark.parametrize("samples", [1, 100, 5_000])
def test_silence_and_short_songs_work(samples: int) -> None:
    quiet = extract_array(HalvesNet(0.6, 0.2), np.zeros((1, samples), np.float32))
    assert not quiet.vocals.any()
    song = fake_nets.quantise(mixture(), 16)[:, :samples]
    parts = extract_array(HalvesNet(0.6, 0.2), song)
    assert np.array_equal(parts.vocals + parts.accompaniment, song)


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_blocks_of_any_size_give_the_same_clusters(rate: int) -> None:
    extractor, song = Extractor(fake_nets.make_model(HalvesNet(0.6, 0.2), fake_nets.SMALL)), mixture()
    found = [
        extractor.cluster(fake_nets.split_in_blocks(song, sizes), rate, 2) for sizes in ([9_000], [1_000, 7, 0], [333])
    ]
    for other in found:
        np.testing.assert_allclose(require(other).centroids, require(found[0]).centroids, rtol=0, atol=1e-5)
        assert require(other).confidence == pytest.approx(0.4, abs=1e-4)


def test_a_song_without_blocks_has_no_clusters() -> None:
    assert Extractor(fake_nets.make_model(HalvesNet(0.6, 0.2), fake_nets.SMALL)).cluster([], 8_000, 2) is None


def test_clusters_of_a_net_that_does_not_cluster_are_refused() -> None:
    model: Model = fake_nets.constant(1)
    with pytest.raises(ConfigError, match="does not cluster"):
        Extractor(model, masks_from="clusters")
    with pytest.raises(ConfigError, match=r"did you mean 'clusters'\?"):
        Extractor(model, masks_from="cluster")
