"""The contract of a net: `Net.forward` turns features into a mask, `Net.loss` turns a batch into training losses."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vocalsep import masks, stft
from vocalsep.features import FrontEnd
from vocalsep.nets import losses
from vocalsep.shapes import Embedding, Features, Mask, Spectrum, Waveform


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Excerpts to train on: the spectra of both sources, and the features that the net sees.

    Attributes:
        front_end: The front end that computed `features`.
        features: ``(batch, channel of the net, row, frame)``.
        vocals: Spectrum of the vocals, ``(batch, channel, freq, frame)``, on the front end's STFT grid.
        accompaniment: Spectrum of the accompaniment, of the same shape. The mixture is the sum of the two.
    """

    front_end: FrontEnd
    features: Features
    vocals: Spectrum
    accompaniment: Spectrum

    @functools.cached_property
    def mixture(self) -> Spectrum:
        """Spectrum of the mixture: vocals plus accompaniment."""
        return self.vocals + self.accompaniment

    @functools.cached_property
    def power(self) -> tuple[Tensor, Tensor]:
        """Power of vocals and accompaniment in the front end's rows, each ``(batch, channel or 1, row, frame)``."""
        return self.front_end.measure(self.vocals), self.front_end.measure(self.accompaniment)

    def apply_mask(self, mask: Mask) -> Spectrum:
        """Apply a net's mask to the mixture.

        Args:
            mask: ``(batch, channel of the net or 1, row, frame)``, as the net returns it for `features`.

        Returns:
            The masked spectrum, ``(batch, channel, freq, frame)``.
        """
        mask = self.front_end.ungroup_channels(mask, self.mixture.shape[1])
        return masks.apply(self.front_end.spread(mask), self.mixture)


def count_excerpt_samples(front_end: FrontEnd) -> int:
    """Return how many samples an excerpt needs to fill one chunk, with at least half a window on either side."""
    return front_end.chunk_samples + 2 * _count_margin_frames(front_end) * front_end.hop


def _count_margin_frames(front_end: FrontEnd) -> int:
    """Return how many frames at either end of an excerpt reach beyond it."""
    return -(-front_end.n_fft // 2 // front_end.hop)


def disable_autocast(like: Tensor) -> torch.autocast:
    """Disable autocast on a tensor's device, to compute everything from a mask to its loss in float32."""
    return torch.autocast(like.device.type, enabled=False)


def make_batch(front_end: FrontEnd, vocals: Waveform, accompaniment: Waveform) -> Batch:
    """Turn waveforms of excerpts into a batch.

    Args:
        front_end: The net's front end.
        vocals: ``(batch, channel, time)``, with `count_excerpt_samples` samples.
        accompaniment: Same shape.
    """
    margin = _count_margin_frames(front_end)
    spectra = stft.forward(torch.stack([vocals, accompaniment]), front_end.grid)
    spectra = spectra[..., margin : margin + front_end.frames]
    return Batch(
        front_end=front_end,
        features=front_end.normalise(front_end.group_channels(front_end.analyse(spectra[0] + spectra[1]))),
        vocals=spectra[0],
        accompaniment=spectra[1],
    )


def compute_mask_terms(
    batch: Batch,
    mask: Mask,
    logits: Tensor,
    *,
    bce: float,
    spectral: float,
    ideal: Callable[[Tensor, Tensor], Mask] = masks.ratio,
    weighted: bool = False,
) -> dict[str, Tensor]:
    """Compute the loss terms for the vocals' mask that several nets share. A term whose weight is 0 is left out.

    Args:
        batch: The batch.
        mask: The net's mask, ``(batch, channel of the net or 1, row, frame)``, float32.
        logits: The mask before its sigmoid. Ignored when `bce` is 0.
        bce: Weight of the term ``bce``, the binary cross-entropy with the ideal mask.
        spectral: Weight of the term ``spectral``, the L1 distance of the masked spectrum from the vocals.
        ideal: Function that computes the ideal mask from the power of vocals and accompaniment.
        weighted: Whether the cross-entropy weights each bin by its magnitude.
    """
    terms = {}
    if bce:
        weight = losses.magnitude_weight(batch.power[0] + batch.power[1]) if weighted else None
        terms["bce"] = bce * losses.binary_cross_entropy(logits, ideal(*batch.power), weight)
    if spectral:
        terms["spectral"] = spectral * losses.spectral_l1(batch.apply_mask(mask), batch.vocals, batch.mixture)
    return terms


class Net(nn.Module, abc.ABC):
    """A network that estimates the vocals' mask for chunks of a mixture.

    Every net has a frozen dataclass of options, its class attribute `Options`, and is built with ``Net(options)``.
    """

    Options: ClassVar[type[Any]]
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    """The memory layout of maps and kernels with which this net is fastest."""
    without_muon: ClassVar[frozenset[str]] = frozenset()
    """Names of the parts whose matrices the optimiser Muon leaves to AdamW: first, last and recurrent layers.

    In GRU layers, Muon is worse, and in a long run the gradient overflowed.
    """
    chunks: ClassVar[int] = 2
    """Number of chunks of a song that the net runs on at once. More chunks need more memory."""
    overlap: ClassVar[float] = 0.5
    """Share of each chunk of a song that the next chunk overlaps."""
    original_lead: ClassVar[int | None] = None
    """For a net of another program: the number of frames of silence that it puts before a song."""

    @abc.abstractmethod
    def forward(self, features: Features) -> Mask:
        """Estimate the vocals' mask.

        Args:
            features: ``(batch, channel, row, frame)``, from the model's front end.

        Returns:
            ``(batch, channel or 1, row, frame)``, in [0, 1]. A mask with one channel applies to all channels.
        """

    @abc.abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the training loss as named, weighted terms. Training minimises their sum."""

    @property
    def frame_step(self) -> int | None:
        """Chunks may have any multiple of this number of frames; None if they must be as long as in training."""
        return None

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


class ClusteringNet(Net):
    """A net that also returns an embedding of each bin, so that a song's bins can be clustered by source."""

    clusters_by_default: ClassVar[bool] = True
    """Whether extraction uses clusters by default. If not, it uses the net's own mask."""

    @abc.abstractmethod
    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        """Compute embeddings, and the mask that `forward` returns.

        Args:
            features: ``(batch, 1, row, frame)``.

        Returns:
            The embeddings, ``(batch, dimension, row, frame)``, of unit length along `dimension`, and the mask,
            ``(batch, 1, row, frame)``.
        """
