"""DRNN: stacked GRU layers over the frames of a magnitude spectrum, and a dense layer.

Source: Daniel del Castillo, Evangelia Gogoulou and Quentin Lemaire, "Vocals isolation from monoaural music source with
deep recurrent neural networks" (the DRNN paper), section 2.2; after Po-Sen Huang, Minje Kim, Mark Hasegawa-Johnson and
Paris Smaragdis, "Singing-voice separation from monaural recordings using deep recurrent neural networks", 2014.

As in the paper: one or three GRU layers of 256 units that see the past alone, a dense layer of as many units as there
are rows with ReLU, whose answer is the vocals' magnitude; mean square error; no dropout.

Departures:
- Magnitudes are taken against the root mean square of the chunk, so that the song's level does not matter. The error
  is the mean over bins, not the sum.
- The contract asks for a mask: the vocals' magnitude over the mixture's, at most 1. A net of the paper's answers more
  than that where it is wrong, and the phase that goes with it is the mixture's in either case.
- The state of the GRU starts anew with each chunk of 128 frames; chunks overlap by half.
- `answer` "mask" puts a sigmoid in place of the ReLU, and `bidirectional` lets the layers see what comes, too: what
  they answer is the mask itself. With `spectral` it is trained on the masked spectrum, phases included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vocalsep import losses
from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, Net, full_precision
from vocalsep.shapes import Features, Magnitude, Mask


@dataclass(frozen=True, kw_only=True)
class DRNNOptions:
    """Options of `DRNN`.

    Attributes:
        freqs: Rows that the net is shown, those of its front end.
        units: Of a GRU layer, in either direction.
        layers: GRU layers.
        bidirectional: Whether they see what comes, too.
        answer: What the dense layer answers: the vocals' "magnitude" (ReLU; its front end must not compress), or their
            "mask" (sigmoid).
        mse: Weight of the mean square error of the vocals' magnitude, eq. (1) of the paper.
        spectral: Weight of the L1 distance of the masked spectrum.

    Raises:
        ConfigError: For values out of range.
    """

    freqs: int = 513
    units: int = 256
    layers: int = 3
    bidirectional: bool = False
    answer: Literal["magnitude", "mask"] = "magnitude"
    mse: float = 1.0
    spectral: float = 0.0

    def __post_init__(self) -> None:
        if min(self.freqs, self.units, self.layers) < 1 or min(self.mse, self.spectral) < 0:
            raise ConfigError("a DRNN needs freqs, units and layers >= 1 and weights of the losses >= 0")
        if self.mse + self.spectral == 0:
            raise ConfigError("a DRNN needs at least one loss: mse and spectral are both 0")


class DRNN(Net):
    """The net. It takes one channel, and any number of frames.

    Args:
        options: Its shape and losses.
    """

    Options = DRNNOptions
    memory_format = torch.contiguous_format

    def __init__(self, options: DRNNOptions) -> None:
        super().__init__()
        self.options = options
        self.gru = nn.GRU(
            options.freqs,
            options.units,
            num_layers=options.layers,
            batch_first=True,
            bidirectional=options.bidirectional,
        )
        self.dense = nn.Linear(options.units * (1 + options.bidirectional), options.freqs)

    def mask(self, features: Features) -> Mask:
        """See `Net.mask`; also in training.

        Raises:
            ConfigError: If the front end is one of other channels or rows.
        """
        if features.shape[1:3] != (1, self.options.freqs):
            raise ConfigError(
                f"this DRNN needs a linear front end with channels = 1 and freqs = {self.options.freqs}, "
                f"not {features.shape[1]} and {features.shape[2]}"
            )
        answer = self._answer(features)
        if self.options.answer == "mask":
            return torch.sigmoid(answer)
        return _share(torch.relu(answer), features)

    def _answer(self, features: Features) -> Tensor:
        seen, _ = self.gru(features[:, 0].transpose(1, 2))  # batch, frame, freq
        answer: Tensor = self.dense(seen)
        return answer.transpose(1, 2).unsqueeze(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """MSE of the vocals' magnitude and L1 of the masked spectrum, each with its weight.

        Raises:
            ConfigError: If the net answers with magnitudes and its front end compresses them.
        """
        options, front_end = self.options, batch.front_end
        if options.answer == "magnitude" and getattr(front_end, "compression", None) != 0:
            raise ConfigError("a DRNN that answers with magnitudes needs a linear front end with compression = 0")
        mixture, vocals = (front_end.analyse(spectrum).sqrt() for spectrum in (batch.mixture, batch.vocals))
        answer = self._answer(batch.features).float()
        with full_precision(answer):
            level = mixture.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
            if options.answer == "mask":
                mask = torch.sigmoid(answer)
                magnitude = mask * mixture / level
            else:
                magnitude = torch.relu(answer)
                mask = _share(magnitude, batch.features)
            terms = {}
            if options.mse:
                terms["mse"] = options.mse * (magnitude - vocals / level).square().mean()  # eq. (1)
            if options.spectral:
                distance = losses.spectral_l1(batch.masked(mask), batch.vocals, batch.mixture)
                terms["spectral"] = options.spectral * distance
        return terms


def _share(vocals: Magnitude, mixture: Magnitude) -> Mask:
    """The vocals' share of the mixture's magnitude, in [0, 1]; 0 where the mixture is silent."""
    return torch.where(mixture > 0, vocals / mixture.clamp_min(1e-9), 0.0).clamp(0, 1)
