"""UH-net at full resolution: a U-Net with a recurrent bottom on the linear STFT of a stereo song.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV. This net takes
its U-Net and its bidirectional GRU from there.

As in the paper:
- A U-Net with four down-sampling and four up-sampling stages runs on maps of 128 frames and estimates masks.
- A bidirectional GRU sees all frames of a chunk.

Departures, based on later work:
- The net sees both channels and 1024 rows of a 44.1 kHz STFT instead of 128 mel bands. Each channel is cut into 8
  sub-bands of 128 rows, stacked as 16 maps of 128 x 128 (channel-wise sub-bands: Liu, Xie, Wu and Yang, "Channel-wise
  subband input for better voice and accompaniment separation on high resolution music", 2020).
- The GRU is at the bottom of the U-Net, where frames are few, instead of in a network of its own.
- Each stage has a layer that connects all rows of a map, frame by frame (time-distributed fully-connected layer: Choi,
  Kim, Chung and Jung, "Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice
  separation", 2020).
- Skip connections are multiplied instead of concatenated (Kim, Choi, Chung, Lee and Jung, "KUIELab-MDX-Net", 2021).
- The net also estimates a mask for the accompaniment. The loss is the L1 distance of both masked spectra from the
  truth, within the rows that the net sees, so that recordings with less bandwidth do no harm.
- `side` shows it what is not in the middle of the stereo image.
- `log_error` adds the logarithm of each excerpt's error energy, which is what SDR measures.
- `bce` adds the paper's cross-entropy, weighted by magnitude. With L1 alone, the mask vanishes where the voice is
  uncertain, as it is above 2 kHz.
- `affinity` adds a side head for the paper's clustering: in training, the last maps must yield similar embeddings for
  bins of the same source (as a regulariser: Wang, Le Roux and Hershey, 2018). Extraction does not cluster.
- `voicing` adds a side head at the bottom, where each frame sees the whole chunk. It estimates whether anybody sings.
  Where it is sure that nobody does, `gate` closes the vocals' mask.
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

_CHANNELS = 2  # channels of the masks: left and right
_SOURCES = 2  # vocals, accompaniment
_FRAME_STEP = 4  # the clustering head embeds every fourth frame
_VOICED_DB = -25.0  # a frame counts as sung if the voice's share of the energy is above this


@dataclass(frozen=True, kw_only=True)
class UHNetHDOptions:
    """Options of `UHNetHD`.

    Attributes:
        freqs: Rows of the features, as in the front end.
        side: Whether the features have a third channel, as with the front end's `side`.
        sub_bands: Number of sub-bands that the rows are cut into. Each becomes a map of its own.
        widths: Feature maps of each level, from full size down. Each level halves rows and frames.
        squeeze: Number of rows per hidden unit in the layers that connect all rows of a map.
        recurrent: Units of the GRU in each direction; 0 leaves the GRU out.
        dropout: Share of the GRU's input, and of its output, that is dropped in training.
        decoder: Number of 3x3 convolutions in each stage of the decoder. Those of the encoder have two.
        l1: Weight of the L1 distances of both masked spectra.
        log_error: Weight of the logarithm of both masked spectra's error energy, which is what SDR measures.
        bce: Weight of the binary cross-entropy of both masks with the proportion masks, weighted by magnitude.
        affinity: Weight of the affinity loss of the clustering side head; 0 leaves the head out.
        dimensions: Dimensions of that head's embeddings.
        voicing: Weight of the cross-entropy of the voice-activity head; 0 leaves the head out.
        gate: Probability of voice below which the vocals' mask closes in proportion; 0 never closes it.

    Raises:
        ConfigError: For values out of range.
    """

    freqs: int = 1024
    side: bool = False
    sub_bands: int = 8
    widths: tuple[int, ...] = (32, 48, 64, 96, 128)
    squeeze: int = 8
    recurrent: int = 192
    dropout: float = 0.0
    decoder: int = 2
    l1: float = 1.0
    log_error: float = 0.0
    bce: float = 0.0
    affinity: float = 0.0
    dimensions: int = 20
    voicing: float = 0.0
    gate: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.freqs, self.sub_bands, self.squeeze, self.decoder, *self.widths) < 1:
            raise ConfigError("a UH-net needs freqs, sub_bands, widths, squeeze and decoder >= 1")
        if min(self.recurrent, self.l1, self.log_error, self.bce, self.affinity, self.voicing) < 0:
            raise ConfigError("a UH-net needs recurrent, l1, log_error, bce, affinity and voicing >= 0")
        if self.dimensions < 1 or not self.l1 + self.log_error + self.bce:
            raise ConfigError("a UH-net needs dimensions >= 1, and l1, log_error or bce above 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError("a UH-net needs dropout in [0, 1)")
        if not 0 <= self.gate < 1 or (self.gate and not self.voicing):
            raise ConfigError("a UH-net needs gate in [0, 1), and voicing > 0 if gate is set")
        step = self.sub_bands * 2 ** (len(self.widths) - 1)
        if self.freqs % step:
            raise ConfigError(f"a UH-net of this shape needs freqs to be a multiple of {step}, not {self.freqs}")


class UHNetHD(Net):
    """The full-resolution UH-net.

    It takes two channels of a song. With five levels the number of frames must be a multiple of 16; with n levels, of
    2^(n - 1).

    Args:
        options: Shape and losses of the net.
    """

    Options = UHNetHDOptions
    without_muon = frozenset({"enter", "recurrent", "leave", "embed", "voicing"})
    overlap = 0.25

    def __init__(self, options: UHNetHDOptions) -> None:
        super().__init__()
        self.options = options
        self.channels = _CHANNELS + options.side
        maps, widths = _CHANNELS * options.sub_bands, options.widths
        rows = [options.freqs // options.sub_bands // 2**level for level in range(len(widths))]
        seen = self.channels * options.sub_bands
        self.enter = _make_block(nn.Conv2d(seen, widths[0], kernel_size=1, bias=False), widths[0])
        self.encoder = nn.ModuleList(_Stage(w, r, options.squeeze) for w, r in zip(widths[:-1], rows, strict=False))
        self.down = nn.ModuleList(
            _make_block(nn.Conv2d(above, below, kernel_size=2, stride=2, bias=False), below)
            for above, below in itertools.pairwise(widths)
        )
        self.bottom = _Stage(widths[-1], rows[-1], options.squeeze)
        size = widths[-1] * rows[-1]
        self.recurrent = _Recurrent(size, options.recurrent, options.dropout) if options.recurrent else nn.Identity()
        self.up = nn.ModuleList(
            _make_block(nn.ConvTranspose2d(below, above, kernel_size=2, stride=2, bias=False), above)
            for above, below in itertools.pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            _Stage(w, r, options.squeeze, options.decoder) for w, r in zip(widths[:-1], rows, strict=False)
        )
        self.leave = nn.Conv2d(widths[0], _SOURCES * maps, kernel_size=1)
        if options.affinity:
            self.embed = nn.Conv2d(widths[0], options.sub_bands * options.dimensions, kernel_size=1)
        if options.voicing:
            self.voicing = nn.Conv1d(size, 1, kernel_size=1)

    @property
    def frame_step(self) -> int:
        """See `Net.frame_step`."""
        return 1 << (len(self.options.widths) - 1)

    def estimate_masks(self, features: Features) -> tuple[Mask, Mask]:
        """Estimate the masks of vocals and accompaniment, ``(batch, 2, freq, frame)`` each.

        Args:
            features: ``(batch, 2, freq, frame)``, or 3 channels with `side`.

        Raises:
            ConfigError: If the front end's channels or rows are not those of the net.
        """
        output = self._run(features)
        vocals, accompaniment = torch.sigmoid(output.vocals), torch.sigmoid(output.accompaniment)
        if output.voicing is not None and self.options.gate:
            voiced = torch.sigmoid(F.interpolate(output.voicing, size=features.shape[-1], mode="linear"))
            vocals = vocals * (voiced / self.options.gate).clamp_max(1).unsqueeze(1)
        return vocals, accompaniment

    def _run(self, features: Features) -> _Output:
        if features.shape[1:3] != (self.channels, self.options.freqs):
            raise ConfigError(
                f"this UH-net needs a linear front end with channels = {_CHANNELS}{' and side' * self.options.side} "
                f"and freqs = {self.options.freqs}, not {features.shape[1]} planes of {features.shape[2]} rows"
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
            mask.reshape(-1, _CHANNELS, *features.shape[2:]) for mask in self.leave(maps).float().chunk(_SOURCES, dim=1)
        )
        return _Output(vocals, accompaniment, maps.float(), voicing)

    def _stack(self, features: Features) -> Features:
        """Turn ``(batch, channel, freq, frame)`` into ``(batch, channel * sub-band, freq of sub-band, frame)``."""
        maps = features.reshape(features.shape[0], self.channels * self.options.sub_bands, -1, features.shape[-1])
        return maps.contiguous(memory_format=self.memory_format)

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`. Return the vocals' mask."""
        return self.estimate_masks(features)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the L1 distances of both masked spectra, the masks' cross-entropy and the side heads' losses."""
        output = self._run(batch.features)
        with disable_autocast(output.vocals):
            return self._compute_terms(output, batch)

    def _compute_terms(self, output: _Output, batch: Batch) -> dict[str, Tensor]:
        options, front_end = self.options, batch.front_end
        rows, both = batch.features.shape[-2], (output.vocals, output.accompaniment)
        stems = tuple(losses.split_parts(stem[..., :rows, :]) for stem in (batch.vocals, batch.accompaniment))
        mixture = stems[0] + stems[1]
        estimates = [front_end.ungroup_channels(torch.sigmoid(logits), mixture.shape[2]) for logits in both]
        terms = {}
        if options.l1:
            for name, mask, stem in zip(("vocals", "accompaniment"), estimates, stems, strict=True):
                terms[name] = options.l1 * losses.masked_l1(mask, mixture, stem)
        if options.log_error:
            power = mixture.square().sum(dim=0)
            distances = [
                losses.masked_log_error(mask, power, (mixture * stem).sum(dim=0), stem.square().sum(dim=0))
                for mask, stem in zip(estimates, stems, strict=True)
            ]
            terms["log_error"] = options.log_error * torch.stack(distances).mean()
        vocals, accompaniment = (front_end.group_measures(stem.square().sum(dim=0)) for stem in stems)
        if options.bce:
            share, weight = masks.ratio(vocals, accompaniment), losses.magnitude_weight(vocals + accompaniment)
            pairs = zip(both, (share, 1 - share), strict=True)
            distances = [losses.binary_cross_entropy(logits, target, weight) for logits, target in pairs]
            terms["bce"] = options.bce * torch.stack(distances).mean()
        if options.affinity:
            terms["affinity"] = options.affinity * self._compute_affinity(output.maps, vocals, accompaniment)
        if output.voicing is not None:
            frames = vocals.shape[-1] // output.voicing.shape[-1]
            energies = (F.avg_pool1d(stem.sum(dim=(1, 2)).unsqueeze(1), frames) for stem in (vocals, accompaniment))
            voiced = masks.ratio(*energies) > 10 ** (_VOICED_DB / 10)
            terms["voicing"] = options.voicing * losses.binary_cross_entropy(output.voicing, voiced.float())
        return terms

    def _compute_affinity(self, maps: Tensor, vocals: Tensor, accompaniment: Tensor) -> Tensor:
        """Compute the affinity loss of the side head. Both channels of a bin share one embedding."""
        bands, size = self.options.sub_bands, self.options.dimensions
        embeddings = torch.tanh(self.embed(maps[..., ::_FRAME_STEP]))  # batch, band * dimension, row, frame
        embeddings = embeddings.reshape(len(embeddings), bands, size, *embeddings.shape[2:])
        embeddings = embeddings.movedim(2, -1).flatten(1, 3)
        power = [stem[..., ::_FRAME_STEP].sum(dim=1, keepdim=True) for stem in (vocals, accompaniment)]
        voice = masks.binary(*power).flatten(1)
        weight = losses.magnitude_weight(power[0] + power[1]).flatten(1)
        return losses.affinity(F.normalize(embeddings, dim=-1), torch.stack([voice, 1 - voice], dim=-1), weight)


class _Output(NamedTuple):
    """What the layers compute for a chunk, float32.

    Attributes:
        vocals: The vocals' mask before its sigmoid, ``(batch, 2, freq, frame)``.
        accompaniment: The accompaniment's mask before its sigmoid, of the same shape.
        maps: The last maps, ``(batch, map, freq of sub-band, frame)``.
        voicing: Probability of a voice before its sigmoid, ``(batch, 1, frame at the bottom)``; None without that
            head.
    """

    vocals: Tensor
    accompaniment: Tensor
    maps: Tensor
    voicing: Tensor | None


def _make_block(convolution: nn.Module, width: int) -> nn.Sequential:
    """Append batch normalisation of `width` maps and ReLU to a convolution."""
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class _Stage(nn.Module):
    """3x3 convolutions, then a layer over all rows of a map, frame by frame, with a residual connection.

    Args:
        width: Feature maps, in and out.
        rows: Rows of a map.
        squeeze: Number of rows per hidden unit in the layer over rows.
        convolutions: Number of convolutions.
    """

    def __init__(self, width: int, rows: int, squeeze: int, convolutions: int = 2) -> None:
        super().__init__()
        self.local = nn.Sequential(
            *(
                _make_block(nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False), width)
                for _ in range(convolutions)
            )
        )
        narrow = max(1, rows // squeeze)
        self.narrow, self.widen = nn.Linear(rows, narrow, bias=False), nn.Linear(narrow, rows)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps into maps of the same shape, ``(batch, map, freq, frame)``."""
        maps = self.local(maps)
        if torch.onnx.is_in_onnx_export():  # ONNX Runtime is faster with one matrix for all maps, of any batch size
            hidden = torch.relu(self.norm(torch.matmul(self.narrow.weight, maps)))
            return maps + torch.matmul(self.widen.weight, hidden) + self.widen.bias[:, None]
        # With channels last, each excerpt is a matrix of rows by frames and maps.
        batch, width, _, frames = maps.shape
        planes = maps.permute(0, 2, 3, 1).flatten(2)
        narrow, widen = (layer.weight.expand(batch, -1, -1) for layer in (self.narrow, self.widen))
        hidden = torch.bmm(narrow, planes).view(batch, -1, frames, width).permute(0, 3, 1, 2)
        hidden = torch.relu(self.norm(hidden)).permute(0, 2, 3, 1).flatten(2)
        planes = torch.baddbmm(planes, widen, hidden)
        planes = planes + self.widen.bias[:, None].to(planes.dtype)  # under autocast, float32 would be twice as large
        return planes.view(batch, -1, frames, width).permute(0, 3, 1, 2)


class _Recurrent(nn.Module):
    """Two bidirectional GRU layers over the frames of flattened maps, with a residual connection.

    Args:
        size: Maps times rows.
        units: Units in each direction.
        dropout: Share of input and output that is dropped in training.
    """

    def __init__(self, size: int, units: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)  # loud input would saturate the GRU, and it would stop learning
        self.gru = nn.GRU(size, units, num_layers=2, batch_first=True, bidirectional=True)
        self.back = nn.Linear(2 * units, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps into maps of the same shape, ``(batch, map, freq, frame)``."""
        batch, width, rows, frames = maps.shape
        columns = maps.permute(0, 3, 1, 2).reshape(batch, frames, width * rows)
        state, _ = self.gru(self.dropout(self.norm(columns)))
        added = self.back(self.dropout(state)).reshape(batch, frames, width, rows).permute(0, 2, 3, 1)
        summed: Tensor = maps + added
        return summed
