"""DRNN: stacked GRU layers over the frames of a magnitude spectrum or of a cepstrum, and a dense layer.

Source: Daniel del Castillo, Evangelia Gogoulou and Quentin Lemaire, "Vocals isolation from monoaural music source with
deep recurrent neural networks" (the DRNN paper), section 2.2; after Po-Sen Huang, Minje Kim, Mark Hasegawa-Johnson and
Paris Smaragdis, "Singing-voice separation from monaural recordings using deep recurrent neural networks", 2014.

As in the paper: one or three GRU layers of 256 units that see the past alone, a dense layer of as many units as there
are rows with ReLU, whose answer is the vocals' magnitude, or their cepstrum; mean square error; no dropout.

Departures:
- Magnitudes are taken against the root mean square of the chunk, so that the song's level does not matter. The error
  is the mean over bins, not the sum.
- The contract asks for a mask: the vocals' magnitude over the mixture's, at most 1. A net of the paper's answers more
  than that where it is wrong, and the phase that goes with it is the mixture's in either case. Of cepstral coefficients
  the difference from the mixture's is carried back to the mel bands; there the mask is the ratio of powers, at most 1.
- The state of the GRU starts anew with each chunk of 128 frames; chunks overlap by half.
- `answer` "mask" puts a sigmoid in place of the ReLU, and `bidirectional` lets the layers see what comes, too: what
  they answer is the mask itself. With `spectral` it is trained on the masked spectrum, phases included, and with `bce`
  on the proportion mask, each bin by its magnitude: the distance of spectra alone prefers no mask at all where the
  voice is uncertain.
- `answer` "share" has magnitudes of both sources (softplus in place of the ReLU), and the mask is the vocals' share of
  the two, trained on the magnitudes of both masked sources (Huang and others, section 3.3: a masking layer that is part
  of the network).
- `standardise` brings every row to the same mean and spread before the first layer; what is high is quiet.
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
from vocalsep.nets.base import Batch, Net, disable_autocast, compute_mask_terms
from vocalsep.shapes import Features, Magnitude, Mask

_FAINT = 1e-9  # the least magnitude there is, against the mixture's
_MASKS = ("mask", "share")  # answers that are masks themselves


@dataclass(frozen=True, kw_only=True)
class DRNNOptions:
    """Options of `DRNN`.

    Attributes:
        freqs: Rows that the net is shown, those of its front end.
        units: Of a GRU layer, in either direction.
        layers: GRU layers.
        bidirectional: Whether they see what comes, too.
        answer: What the dense layer answers: the vocals' "magnitude" (ReLU; its front end must not compress), their
            "cepstrum" (ReLU; for an MFCC front end), their "mask" (sigmoid), or their "share" of the magnitudes of
            vocals and accompaniment (softplus), which is a mask, too.
        mse: Weight of the mean square error of the vocals' magnitude or cepstrum, eq. (1) of the paper; of the
            magnitudes of both sources, added up, if the answer is "share".
        spectral: Weight of the L1 distance of the masked spectrum.
        bce: Weight of the binary cross-entropy with the proportion mask, each bin by its magnitude; needs `answer`
            "mask" or "share".
        dropout: Share of what a GRU layer gives that is dropped in training.
        standardise: Whether each row is brought to zero mean and unit variance (batch normalisation) on its way in.

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
            raise ConfigError("a DRNN needs freqs, units and layers >= 1 and weights of the losses >= 0")
        if self.mse + self.spectral + self.bce == 0:
            raise ConfigError("a DRNN needs at least one loss: mse, spectral and bce are all 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError("a DRNN needs dropout in [0, 1)")
        if self.bce and self.answer not in _MASKS:
            raise ConfigError('a DRNN whose answer is not "mask" or "share" has no cross-entropy: bce must be 0')


class DRNN(Net):
    """The net. It takes one channel, and any number of frames.

    Args:
        options: Its shape and losses.
    """

    Options = DRNNOptions
    memory_format = torch.contiguous_format
    chunks = 8  # of the matrices in a GRU, which are read once for all

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

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`; also in training.

        Raises:
            ConfigError: If the front end is one of other channels or rows.
        """
        if features.shape[1:3] != (1, self.options.freqs):
            raise ConfigError(
                f"this DRNN needs a front end with one channel and {self.options.freqs} rows, "
                f"not {features.shape[1]} and {features.shape[2]}"
            )
        return self._mask(self._answer(features), features)

    def _answer(self, features: Features) -> Tensor:
        """What the dense layer gives, or the logits of the mask if it answers with one, ``(batch, 1, row, frame)``."""
        seen, _ = self.gru(self.norm(features[:, 0]).transpose(1, 2))  # batch, frame, row
        answer: Tensor = self.dense(self.dropout(seen))
        answer = answer.transpose(1, 2).unsqueeze(1)
        if self.options.answer == "share":
            vocals, accompaniment = F.softplus(answer.float()).clamp_min(_FAINT).log().chunk(2, dim=2)
            return vocals - accompaniment  # the logit of their share
        return answer if self.options.answer == "mask" else torch.relu(answer)

    def _mask(self, answer: Tensor, features: Features) -> Mask:
        if self.options.answer in _MASKS:
            return torch.sigmoid(answer)
        if self.options.answer == "magnitude":
            return _over(answer, features)
        change = make_dct_matrix(self.options.freqs).to(answer).T @ (answer - features)  # of the logarithm of the power
        return change.clamp_max(0).exp()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """MSE of the answer, L1 of the masked spectrum and BCE of the mask, each with its weight.

        Raises:
            ConfigError: If the front end does not fit what the net answers with.
        """
        answer = self._answer(batch.features).float()
        with disable_autocast(answer):
            return self._terms(answer, batch)

    def _terms(self, answer: Tensor, batch: Batch) -> dict[str, Tensor]:
        options, front_end = self.options, batch.front_end
        wanted = {"magnitude": Linear, "cepstrum": MFCC}.get(options.answer, FrontEnd)
        compressed = isinstance(front_end, Linear) and (front_end.compression > 0 or front_end.exponent != 1)
        if not isinstance(front_end, wanted) or (compressed and options.answer not in _MASKS):
            raise ConfigError(
                "a DRNN needs for magnitudes a linear front end with compression = 0 and exponent = 1, "
                "and for a cepstrum one of mfcc"
            )
        terms: dict[str, Tensor] = {}
        mask = self._mask(answer, batch.features)
        if options.mse:
            (vocals, accompaniment), mixture = batch.power, front_end.analyse(batch.mixture)
            if options.answer in _MASKS:
                seen = divide_by_mean(mixture).sqrt()
                error = (mask * seen - divide_by_mean(vocals, mixture).sqrt()).square().mean()
                if options.answer == "share":
                    rest = (1 - mask) * seen - divide_by_mean(accompaniment, mixture).sqrt()
                    error = error + rest.square().mean()
            else:
                error = (answer - front_end.normalise(vocals, mixture)).square().mean()  # eq. (1)
            terms["mse"] = options.mse * error
        return terms | compute_mask_terms(batch, mask, answer, bce=options.bce, spectral=options.spectral, weighted=True)


def _over(vocals: Magnitude, mixture: Magnitude) -> Mask:
    """The vocals' share of the mixture's magnitude, in [0, 1]; 0 where the mixture is silent."""
    return torch.where(mixture > 0, vocals / mixture.clamp_min(1e-9), 0.0).clamp(0, 1)
