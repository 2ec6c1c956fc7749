"""The contract of a net: features to mask for a song, batch to loss for training. Nothing else is asked of it."""

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
    """What a net is trained on: excerpts as spectra, and as the net sees them.

    Attributes:
        front_end: Where `features` came from.
        features: ``(batch, channel of the net, row, frame)``.
        vocals: ``(batch, channel, freq, frame)`` on the front end's grid.
        accompaniment: The same shape. The mixture is the sum of the two.
    """

    front_end: FrontEnd
    features: Features
    vocals: Spectrum
    accompaniment: Spectrum

    @functools.cached_property
    def mixture(self) -> Spectrum:
        """Vocals plus accompaniment."""
        return self.vocals + self.accompaniment

    @functools.cached_property
    def power(self) -> tuple[Tensor, Tensor]:
        """Power of vocals and accompaniment in the front end's rows, ``(batch, channel or 1, row, frame)`` each."""
        return self.front_end.analyse(self.vocals), self.front_end.analyse(self.accompaniment)

    def apply_mask(self, mask: Mask) -> Spectrum:
        """The mixture under what a net answered to `features`.

        Args:
            mask: ``(batch, channel of the net or 1, row, frame)``.

        Returns:
            ``(batch, channel, freq, frame)``.
        """
        mask = self.front_end.rearrange(mask, self.mixture.shape[1])
        return masks.apply(self.front_end.spread(mask), self.mixture)


def count_excerpt_samples(front_end: FrontEnd) -> int:
    """Samples of an excerpt that fill one chunk, with at least half a window of sound on either side of it."""
    return front_end.chunk_samples + 2 * _margin(front_end) * front_end.hop


def _margin(front_end: FrontEnd) -> int:
    """Frames at either end of an excerpt that see beyond it."""
    return -(-front_end.n_fft // 2 // front_end.hop)


def full_precision(like: Tensor) -> torch.autocast:
    """Suspends autocast on a tensor's device: losses and what leads to them from a mask are computed in float32."""
    return torch.autocast(like.device.type, enabled=False)


def make_batch(front_end: FrontEnd, vocals: Waveform, accompaniment: Waveform) -> Batch:
    """Turns excerpts into a batch.

    Args:
        front_end: The net's front end.
        vocals: ``(batch, channel, time)`` with `excerpt_samples` samples.
        accompaniment: The same shape.
    """
    margin = _margin(front_end)
    spectra = stft.forward(torch.stack([vocals, accompaniment]), front_end.grid)
    spectra = spectra[..., margin : margin + front_end.frames]
    return Batch(
        front_end=front_end,
        features=front_end.normalise(front_end.arrange(front_end.analyse(spectra[0] + spectra[1]))),
        vocals=spectra[0],
        accompaniment=spectra[1],
    )


def mask_terms(
    batch: Batch,
    mask: Mask,
    logits: Tensor,
    *,
    bce: float,
    spectral: float,
    ideal: Callable[[Tensor, Tensor], Mask] = masks.ratio,
    weighted: bool = False,
) -> dict[str, Tensor]:
    """The terms of a loss on a vocals' mask that several nets share, each where its weight is above 0.

    Args:
        batch: The batch.
        mask: What the net answers, ``(batch, channel of the net or 1, row, frame)``, float32.
        logits: The same before its sigmoid; not looked at where `bce` is 0.
        bce: Weight of ``bce``, the binary cross-entropy with the ideal mask.
        spectral: Weight of ``spectral``, the L1 distance of the masked spectrum.
        ideal: From power of vocals and accompaniment to the ideal mask.
        weighted: Whether bins count by their magnitude in the cross-entropy.
    """
    terms = {}
    if bce:
        weight = losses.magnitude_weight(batch.power[0] + batch.power[1]) if weighted else None
        terms["bce"] = bce * losses.binary_cross_entropy(logits, ideal(*batch.power), weight)
    if spectral:
        terms["spectral"] = spectral * losses.spectral_l1(batch.apply_mask(mask), batch.vocals, batch.mixture)
    return terms


class Net(nn.Module, abc.ABC):
    """A network that looks at chunks of a mixture and answers with masks.

    Every net has a frozen dataclass of options, its class attribute `Options`, and is built as ``Net(options)``.
    """

    Options: ClassVar[type[Any]]
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    """How maps and kernels lie in memory where this net is fastest."""
    chunks: ClassVar[int] = 2
    """How many chunks of a song it is best given at once; more takes more memory."""
    overlap: ClassVar[float] = 0.5
    """Share of a chunk of a song that the next one sees again."""

    @abc.abstractmethod
    def forward(self, features: Features) -> Mask:
        """Estimates the vocals' mask.

        Args:
            features: ``(batch, channel, row, frame)``, as the model's front end makes them.

        Returns:
            ``(batch, channel or 1, row, frame)``, in [0, 1]; one channel of mask serves all channels.
        """

    @abc.abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The named terms of the training loss, weighted; their sum is what is minimised."""

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


class ClusteringNet(Net):
    """A net that also gives every bin a place among others of its source, for songs to be clustered by."""

    clusters_by_default: ClassVar[bool] = True
    """Whether clusters are what this net is for; otherwise its own mask is."""

    @abc.abstractmethod
    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        """Embeddings, and the mask that `forward` gives.

        Args:
            features: ``(batch, 1, row, frame)``.

        Returns:
            ``(batch, dimension, row, frame)``, of unit length along `dimension`, and ``(batch, 1, row, frame)``.
        """
