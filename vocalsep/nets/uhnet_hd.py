"""UH-net at full resolution: a U-Net with a recurrent bottom on the linear STFT of a stereo song.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV, whose U-Net and
bidirectional GRU it takes on from.

As in the paper: a U-Net over maps of 128 frames, four down-sampling and four up-sampling stages, a bidirectional GRU
that sees all frames of a chunk, masks out.

Departures, after what the field has learnt since:
- The net sees 1024 rows of a 44.1 kHz STFT instead of 128 mel bands, and both channels: 8 sub-bands of 128 rows of
  each channel are stacked as 16 maps of 128 x 128 (channel-wise sub-bands: Liu, Xie, Wu and Yang, "Channel-wise
  subband input for better voice and accompaniment separation on high resolution music", 2020).
- The GRU lies at the bottom of the U-Net, where frames are few, not in a network of its own.
- Each stage has a layer that connects all rows of a map, frame by frame (time-distributed fully-connected layer: Choi,
  Kim, Chung and Jung, "Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice
  separation", 2020).
- Skips are multiplied, not concatenated (Kim, Choi, Chung, Lee and Jung, "KUIELab-MDX-Net", 2021).
- There is a mask for the accompaniment, too, and the loss is the L1 distance of both masked spectra from the truth.
  It is taken within the rows that the net sees, so that recordings that end above them do no harm. The paper's
  cross-entropy may be added, each bin by its magnitude (`bce`): L1 alone prefers no mask at all where the voice is
  uncertain, as it is above 2 kHz.
- The paper's clustering is a side head (`affinity`): in training the last maps must place bins of one source together
  (as a regulariser: Wang, Le Roux and Hershey, 2018). Nothing is clustered when songs are extracted.
- A second side head (`voicing`) tells at the bottom, where each frame sees the whole chunk, whether anybody sings;
  where it is sure that nobody does, the vocals' mask is closed (`gate`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.nets import losses
from vocalsep.nets.base import Batch, Net, disable_autocast
from vocalsep.shapes import Features, Mask

_CHANNELS = 2  # of the front end
_SOURCES = 2  # vocals, accompaniment
_THIN = 4  # every so-many-th frame is placed by the clustering head
_VOICED_DB = -25.0  # there is a voice where it has at least this share of the mixture's energy


@dataclass(frozen=True, kw_only=True)
class UHNetHDOptions:
    """Options of `UHNetHD`.

    Attributes:
        freqs: Rows that the net is shown, those of its front end.
        sub_bands: Into how many bands of rows they are cut, each a map of its own.
        widths: Feature maps of each level, from full size down; each level halves rows and frames.
        squeeze: By how much the layers over all rows of a map narrow down.
        recurrent: Units of the GRU, in either direction; 0 for none.
        dropout: Share of what the GRU sees, and of what it answers, that is left out in training.
        bce: Weight of the binary cross-entropy of both masks with the proportion masks, each bin by its magnitude.
        affinity: Weight of the affinity loss of the clustering side head; 0 for no such head.
        dimensions: Of its embeddings.
        voicing: Weight of the cross-entropy of the voice-activity head; 0 for no such head.
        gate: Probability of voice below which the vocals' mask is closed, in proportion; 0 never closes it.

    Raises:
        ConfigError: For values out of range.
    """

    freqs: int = 1024
    sub_bands: int = 8
    widths: tuple[int, ...] = (32, 48, 64, 96, 128)
    squeeze: int = 8
    recurrent: int = 192
    dropout: float = 0.0
    bce: float = 0.0
    affinity: float = 0.0
    dimensions: int = 20
    voicing: float = 0.0
    gate: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.freqs, self.sub_bands, self.squeeze, *self.widths) < 1:
            raise ConfigError("a UH-net needs freqs, sub_bands, widths and squeeze >= 1")
        if min(self.recurrent, self.bce, self.affinity, self.voicing) < 0 or self.dimensions < 1:
            raise ConfigError("a UH-net needs recurrent, bce, affinity and voicing >= 0 and dimensions >= 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError("a UH-net needs dropout in [0, 1)")
        if not 0 <= self.gate < 1 or (self.gate and not self.voicing):
            raise ConfigError("a UH-net needs gate in [0, 1), and voicing where it has a gate")
        step = self.sub_bands * 2 ** (len(self.widths) - 1)
        if self.freqs % step:
            raise ConfigError(f"a UH-net of this shape needs freqs in multiples of {step}, not {self.freqs}")


class UHNetHD(Net):
    """The net. It takes two channels, and frames in multiples of 16 (of two to the number of levels, less one).

    Args:
        options: Its shape.
    """

    Options = UHNetHDOptions
    memory_format = torch.contiguous_format  # a sixth faster in training than with channels last
    overlap = 0.25

    def __init__(self, options: UHNetHDOptions) -> None:
        super().__init__()
        self.options = options
        maps, widths = _CHANNELS * options.sub_bands, options.widths
        rows = [options.freqs // options.sub_bands // 2**level for level in range(len(widths))]
        self.enter = _normed(nn.Conv2d(maps, widths[0], kernel_size=1, bias=False), widths[0])
        self.encoder = nn.ModuleList(_Stage(w, r, options.squeeze) for w, r in zip(widths[:-1], rows, strict=False))
        self.down = nn.ModuleList(
            _normed(nn.Conv2d(above, below, kernel_size=2, stride=2, bias=False), below)
            for above, below in itertools.pairwise(widths)
        )
        self.bottom = _Stage(widths[-1], rows[-1], options.squeeze)
        size = widths[-1] * rows[-1]
        self.recurrent = _Recurrent(size, options.recurrent, options.dropout) if options.recurrent else nn.Identity()
        self.up = nn.ModuleList(
            _normed(nn.ConvTranspose2d(below, above, kernel_size=2, stride=2, bias=False), above)
            for above, below in itertools.pairwise(widths)
        )
        self.decoder = nn.ModuleList(_Stage(w, r, options.squeeze) for w, r in zip(widths[:-1], rows, strict=False))
        self.leave = nn.Conv2d(widths[0], _SOURCES * maps, kernel_size=1)
        if options.affinity:
            self.embed = nn.Conv2d(widths[0], options.sub_bands * options.dimensions, kernel_size=1)
        if options.voicing:
            self.voicing = nn.Conv1d(size, 1, kernel_size=1)

    def estimate_masks(self, features: Features) -> tuple[Mask, Mask]:
        """Masks of vocals and accompaniment, each of the shape of the features.

        Args:
            features: ``(batch, 2, freq, frame)``.

        Raises:
            ConfigError: If the front end is one of other channels or rows.
        """
        answer = self._answer(features)
        vocals, accompaniment = torch.sigmoid(answer.vocals), torch.sigmoid(answer.accompaniment)
        if answer.voicing is not None and self.options.gate:
            voiced = torch.sigmoid(F.interpolate(answer.voicing, size=features.shape[-1], mode="linear"))
            vocals = vocals * (voiced / self.options.gate).clamp_max(1).unsqueeze(1)
        return vocals, accompaniment

    def _answer(self, features: Features) -> _Answer:
        if features.shape[1:3] != (_CHANNELS, self.options.freqs):
            raise ConfigError(
                f"this UH-net needs a linear front end with channels = {_CHANNELS} and freqs = {self.options.freqs}, "
                f"not {features.shape[1]} and {features.shape[2]}"
            )
        maps = self.enter(self._stack(features))
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            maps = stage(maps)
            skips.append(maps)
            maps = down(maps)
        maps = self.recurrent(self.bottom(maps))
        voicing = self.voicing(maps.flatten(1, 2)).float() if self.options.voicing else None
        for stage, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips), strict=True):
            maps = stage(up(maps) * skip)
        vocals, accompaniment = (
            mask.reshape(features.shape) for mask in self.leave(maps).float().chunk(_SOURCES, dim=1)
        )
        return _Answer(vocals, accompaniment, maps.float(), voicing)

    def _stack(self, features: Features) -> Tensor:
        """``(batch, channel, freq, frame)`` to ``(batch, channel * sub-band, freq of sub-band, frame)``."""
        return features.reshape(features.shape[0], _CHANNELS * self.options.sub_bands, -1, features.shape[-1])

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`."""
        return self.estimate_masks(features)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """L1 of the masked spectra of vocals and accompaniment, within the rows that the net sees, and the rest."""
        answer = self._answer(batch.features)
        with disable_autocast(answer.vocals):
            return self._terms(answer, batch)

    def _terms(self, answer: _Answer, batch: Batch) -> dict[str, Tensor]:
        options, front_end = self.options, batch.front_end
        rows, stems = batch.features.shape[-2], (batch.vocals, batch.accompaniment)
        both = (answer.vocals, answer.accompaniment)
        mixture = batch.mixture[..., :rows, :]
        terms = {}
        for name, logits, truth in zip(("vocals", "accompaniment"), both, stems, strict=True):
            mask = front_end.ungroup_channels(torch.sigmoid(logits), mixture.shape[1])
            terms[name] = losses.spectral_l1(masks.apply(mask, mixture), truth[..., :rows, :], mixture)
        vocals, accompaniment = map(front_end.group_channels, batch.power)
        if options.bce:
            share, weight = masks.ratio(vocals, accompaniment), losses.magnitude_weight(vocals + accompaniment)
            pairs = zip(both, (share, 1 - share), strict=True)
            distances = [losses.binary_cross_entropy(logits, target, weight) for logits, target in pairs]
            terms["bce"] = options.bce * torch.stack(distances).mean()
        if options.affinity:
            terms["affinity"] = options.affinity * self._affinity(answer.maps, vocals, accompaniment)
        if answer.voicing is not None:
            frames = vocals.shape[-1] // answer.voicing.shape[-1]
            energies = (F.avg_pool1d(stem.sum(dim=(1, 2)).unsqueeze(1), frames) for stem in (vocals, accompaniment))
            voiced = masks.ratio(*energies) > 10 ** (_VOICED_DB / 10)
            terms["voicing"] = options.voicing * losses.binary_cross_entropy(answer.voicing, voiced.float())
        return terms

    def _affinity(self, maps: Tensor, vocals: Tensor, accompaniment: Tensor) -> Tensor:
        """Affinity loss of the side head; both channels of a bin share their place."""
        bands, size = self.options.sub_bands, self.options.dimensions
        places = torch.tanh(self.embed(maps[..., ::_THIN]))  # batch, band * dimension, row, frame
        places = places.reshape(len(places), bands, size, *places.shape[2:]).movedim(2, -1).flatten(1, 3)
        power = [stem[..., ::_THIN].sum(dim=1, keepdim=True) for stem in (vocals, accompaniment)]
        voice = masks.binary(*power).flatten(1)
        weight = losses.magnitude_weight(power[0] + power[1]).flatten(1)
        return losses.affinity(F.normalize(places, dim=-1), torch.stack([voice, 1 - voice], dim=-1), weight)


class _Answer(NamedTuple):
    """What the net makes of a chunk, float32.

    Attributes:
        vocals: Their mask before its sigmoid, ``(batch, 2, freq, frame)``.
        accompaniment: The same of the accompaniment.
        maps: The last maps, ``(batch, map, freq of sub-band, frame)``.
        voicing: Whether there is a voice, before the sigmoid, ``(batch, 1, frame at the bottom)``; None without
            that head.
    """

    vocals: Tensor
    accompaniment: Tensor
    maps: Tensor
    voicing: Tensor | None


def _normed(convolution: nn.Module, width: int) -> nn.Sequential:
    """A convolution of `width` maps, with batch normalisation and ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class _Stage(nn.Module):
    """Two 3x3 convolutions, then a layer over all rows of a map, frame by frame, added to what it was given.

    Args:
        width: Feature maps, in and out.
        rows: Rows of a map.
        squeeze: By how much the layer over rows narrows down.
    """

    def __init__(self, width: int, rows: int, squeeze: int) -> None:
        super().__init__()
        self.local = nn.Sequential(
            *(_normed(nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False), width) for _ in range(2))
        )
        narrow = max(1, rows // squeeze)
        self.narrow, self.widen = nn.Linear(rows, narrow, bias=False), nn.Linear(narrow, rows)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps of the same shape, ``(batch, map, freq, frame)``."""
        maps = self.local(maps)
        planes = maps.flatten(0, 1)  # one matrix to each map: faster than products of four axes
        narrow, widen = (layer.weight.expand(len(planes), -1, -1) for layer in (self.narrow, self.widen))
        hidden = torch.bmm(narrow, planes).reshape(*maps.shape[:2], -1, maps.shape[-1])
        hidden = torch.relu(self.norm(hidden))
        return (torch.baddbmm(planes, widen, hidden.flatten(0, 1)) + self.widen.bias[:, None]).view(maps.shape)


class _Recurrent(nn.Module):
    """Two bidirectional GRU layers over the frames of flattened maps, added to what it was given.

    Args:
        size: Maps times rows.
        units: Units in either direction.
        dropout: Share of its input and of its output that is left out in training.
    """

    def __init__(self, size: int, units: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)  # a GRU that is shown loud input saturates, and learns no more
        self.gru = nn.GRU(size, units, num_layers=2, batch_first=True, bidirectional=True)
        self.back = nn.Linear(2 * units, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps of the same shape, ``(batch, map, freq, frame)``."""
        batch, width, rows, frames = maps.shape
        columns = maps.permute(0, 3, 1, 2).reshape(batch, frames, width * rows)
        seen, _ = self.gru(self.dropout(self.norm(columns)))
        added = self.back(self.dropout(seen)).reshape(batch, frames, width, rows).permute(0, 2, 3, 1)
        summed: Tensor = maps + added
        return summed
