"""DRNN: GRU layers over the frames of a magnitude spectrum or a cepstrum, followed by a dense layer.

Source: Daniel del Castillo, Evangelia Gogoulou and Quentin Lemaire, "Vocals isolation from monoaural music source with
deep recurrent neural networks" (the DRNN paper), section 2.2; based on Po-Sen Huang, Minje Kim, Mark Hasegawa-Johnson
and Paris Smaragdis, "Singing-voice separation from monaural recordings using deep recurrent neural networks", 2014.

As in the paper:
- There are one or three GRU layers of 256 units, which see no future frames.
- A dense layer with ReLU, with one unit per row, estimates the vocals' magnitude or cepstrum.
- The loss is the mean square error. There is no dropout.

Departures:
- Magnitudes are relative to the chunk's root mean square, so that the song's level does not matter. The error is the
  mean over bins instead of the sum.
- The output is a mask: the vocals' magnitude divided by the mixture's, at most 1. The paper's net can exceed the
  mixture's magnitude. That is an error, because the phase is the mixture's in any case. For cepstra, the difference
  from the mixture's coefficients is transformed back to mel bands, where the mask is the ratio of powers, at most 1.
- The state of the GRU is reset at the start of each chunk of 128 frames. Chunks overlap by half.
- `answer` "mask" replaces the ReLU with a sigmoid, so that the dense layer estimates the mask itself. `bidirectional`
  lets the layers see future frames too.
- `spectral` adds a loss on the masked spectrum, phases included; `bce` adds the cross-entropy with the proportion mask,
  weighted by magnitude. With the spectral loss alone, the mask vanishes where the voice is uncertain.
- `answer` "share" estimates the magnitudes of both sources, with softplus instead of ReLU. The mask is the vocals'
  share of their sum. It is trained on the masked magnitudes of both sources (Huang et al., section 3.3: a masking layer
  as part of the network).
- `standardise` brings every row to the same mean and spread before the first layer, because high rows are quiet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocalsep.errors import ConfigError
from vocalsep.features import MFCC, FrontEnd, Linear
from vocalsep.features.base import divide_by_mean
from vocalsep.features.mfcc import make_dct_matrix
from vocalsep.kinds import get_constant
from vocalsep.nets.base import Batch, Net, compute_mask_terms, disable_autocast
from vocalsep.shapes import Features, Magnitude, Mask

_MIN_MAGNITUDE = 1e-9  # smallest magnitude of a source, relative to the mixture's level
_MASKS = ("mask", "share")  # values of `answer` for which the output of the layers is a mask


@dataclass(frozen=True, kw_only=True)
class DRNNOptions:
    """Options of `DRNN`.

    Attributes:
        freqs: Rows of the features, as in the front end.
        units: Units of a GRU layer in each direction.
        layers: Number of GRU layers.
        bidirectional: Whether the layers see future frames too.
        answer: What the dense layer estimates: the vocals' "magnitude" (ReLU; the front end must not compress), their
            "cepstrum" (ReLU; needs an MFCC front end), their "mask" (sigmoid), or the magnitudes of vocals and
            accompaniment (softplus), whose ratio is the mask ("share").
        mse: Weight of the mean square error of the vocals' magnitude or cepstrum, eq. (1) of the paper. With `answer`
            "share" it is the summed error of both sources' magnitudes.
        spectral: Weight of the L1 distance of the masked spectrum.
        bce: Weight of the binary cross-entropy with the proportion mask, weighted by magnitude. Needs `answer` "mask"
            or "share".
        dropout: Share of each GRU layer's output that is dropped in training.
        standardise: Whether to bring each row to zero mean and unit variance first (batch normalisation).

    Raises:
        ConfigError: For values out of range.
    """

    freqs: int = 513
    units: int = 256
    layers: int = 3
    bidirectional: bool = False
    answer: Literal["magnitude", "cepstrum", "mask", "share"] = "magnitude"
    mse: float = 1.0
    spectral: float = 0.0
    bce: float = 0.0
    dropout: float = 0.0
    standardise: bool = False

    def __post_init__(self) -> None:
        if min(self.freqs, self.units, self.layers) < 1 or min(self.mse, self.spectral, self.bce) < 0:
            raise ConfigError("a DRNN needs freqs, units and layers >= 1 and mse, spectral and bce >= 0")
        if self.mse + self.spectral + self.bce == 0:
            raise ConfigError("a DRNN needs at least one loss, but mse, spectral and bce are all 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError("a DRNN needs dropout in [0, 1)")
        if self.bce and self.answer not in _MASKS:
            raise ConfigError('a DRNN needs bce = 0 unless its answer is "mask" or "share"')


class DRNN(Net):
    """The recurrent net. It takes one channel and any number of frames.

    Args:
        options: Shape and losses of the net.
    """

    Options = DRNNOptions
    without_muon = frozenset({"gru", "dense"})
    memory_format = torch.contiguous_format
    chunks = 8  # a GRU's large matrices are read once for all chunks of a call

    def __init__(self, options: DRNNOptions) -> None:
        super().__init__()
        self.options = options
        self.norm = nn.BatchNorm1d(options.freqs) if options.standardise else nn.Identity()
        self.gru = nn.GRU(
            options.freqs,
            options.units,
            num_layers=options.layers,
            batch_first=True,
            bidirectional=options.bidirectional,
            dropout=options.dropout if options.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(options.dropout)
        rows = options.freqs * (1 + (options.answer == "share"))
        self.dense = nn.Linear(options.units * (1 + options.bidirectional), rows)

    @property
    def frame_step(self) -> int:
        """See `Net.frame_step`."""
        return 1

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`.

        Raises:
            ConfigError: If the front end's channels or rows are not those of the net.
        """
        if features.shape[1:3] != (1, self.options.freqs):
            raise ConfigError(
                f"this DRNN needs a front end with one channel and {self.options.freqs} rows, "
                f"not {features.shape[1]} and {features.shape[2]}"
            )
        return self._to_mask(self._run_layers(features), features)

    def _run_layers(self, features: Features) -> Tensor:
        """Return what `answer` names, ``(batch, 1, row, frame)``; for "mask" and "share", the logits of the mask."""
        state, _ = self.gru(self.norm(features[:, 0]).transpose(1, 2))  # batch, frame, row
        answer: Tensor = self.dense(self.dropout(state))
        answer = answer.transpose(1, 2).unsqueeze(1)
        if self.options.answer == "share":
            vocals, accompaniment = F.softplus(answer.float()).clamp_min(_MIN_MAGNITUDE).log().chunk(2, dim=2)
            return vocals - accompaniment  # logit of the vocals' share
        return answer if self.options.answer == "mask" else torch.relu(answer)

    def _to_mask(self, answer: Tensor, features: Features) -> Mask:
        if self.options.answer in _MASKS:
            return torch.sigmoid(answer)
        if self.options.answer == "magnitude":
            return _divide_magnitudes(answer, features)
        # The change is that of the log power.
        change = get_constant(answer, make_dct_matrix, self.options.freqs).T @ (answer - features)
        return change.clamp_max(0).exp()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the mean square error, the L1 distance of the masked spectrum and the mask's cross-entropy.

        Raises:
            ConfigError: If the front end does not fit the option `answer`.
        """
        answer = self._run_layers(batch.features).float()
        with disable_autocast(answer):
            return self._compute_terms(answer, batch)

    def _compute_terms(self, answer: Tensor, batch: Batch) -> dict[str, Tensor]:
        options, front_end = self.options, batch.front_end
        needed = {"magnitude": Linear, "cepstrum": MFCC}.get(options.answer, FrontEnd)
        compressed = isinstance(front_end, Linear) and (front_end.compression > 0 or front_end.exponent != 1)
        if not isinstance(front_end, needed) or (compressed and options.answer not in _MASKS):
            raise ConfigError(
                "a DRNN needs a linear front end with compression = 0 and exponent = 1 for magnitudes, "
                "and an mfcc front end for a cepstrum"
            )
        terms: dict[str, Tensor] = {}
        mask = self._to_mask(answer, batch.features)
        if options.mse:
            (vocals, accompaniment), mixture = batch.power, front_end.analyse(batch.mixture)
            if options.answer in _MASKS:
                magnitude = divide_by_mean(mixture).sqrt()
                error = (mask * magnitude - divide_by_mean(vocals, mixture).sqrt()).square().mean()
                if options.answer == "share":
                    accompaniment_error = (1 - mask) * magnitude - divide_by_mean(accompaniment, mixture).sqrt()
                    error = error + accompaniment_error.square().mean()
            else:
                error = (answer - front_end.normalise(vocals, mixture)).square().mean()  # eq. (1)
            terms["mse"] = options.mse * error
        return terms | compute_mask_terms(
            batch, mask, answer, bce=options.bce, spectral=options.spectral, weighted=True
        )


def _divide_magnitudes(vocals: Magnitude, mixture: Magnitude) -> Mask:
    """Divide the vocals' magnitude by the mixture's, clamped to [0, 1]; 0 where the mixture is silent."""
    return torch.where(mixture > 0, vocals / mixture.clamp_min(1e-9), 0.0).clamp(0, 1)
