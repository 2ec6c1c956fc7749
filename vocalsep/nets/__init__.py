"""The registry of nets. A net is code; with weights, settings and a card it becomes a model (`vocalsep.weights`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from vocalsep import config
from vocalsep.errors import ConfigError, describe_unknown
from vocalsep.nets.base import Batch, ClusteringNet, Net, count_excerpt_samples, make_batch
from vocalsep.nets.dpcl import DPCL
from vocalsep.nets.drnn import DRNN
from vocalsep.nets.hdpcl import HDPCL
from vocalsep.nets.spleeter import Spleeter
from vocalsep.nets.uhnet import UHNet
from vocalsep.nets.uhnet_hd import UHNetHD
from vocalsep.nets.unet import UNet
from vocalsep.nets.unet_hd import UNetHD

__all__ = ["NETS", "Batch", "ClusteringNet", "Net", "build", "count_excerpt_samples", "make_batch"]

_MAX_WIDTH, _MAX_LAYERS = 2**14, 64
_MAX_PARAMETERS = 2**28  # a gigabyte; known nets have less than 2**24

NETS: dict[str, type[Net]] = {
    "dpcl": DPCL,
    "hdpcl": HDPCL,
    "unet": UNet,
    "uhnet": UHNet,
    "drnn": DRNN,
    "uhnet-hd": UHNetHD,
    "spleeter": Spleeter,
    "unet-hd": UNetHD,
}


def build(name: str, options: Mapping[str, Any]) -> Net:
    """Build a net with random weights.

    Args:
        name: A key of `NETS`.
        options: Values for the net's options; missing options keep their defaults.

    Raises:
        ConfigError: For an unknown net or option, or a net far larger than any known one. It takes no memory then.
    """
    if name not in NETS:
        raise ConfigError(describe_unknown("net", name, NETS))
    built = config.build(NETS[name].Options, options, "options")
    for field in dataclasses.fields(built):
        _check_size(field.name, getattr(built, field.name))
    with torch.device("meta"):  # takes no memory
        count = NETS[name](built).parameter_count
    if count > _MAX_PARAMETERS:
        raise ConfigError(f"net {name}: {count:,} parameters with these options; the limit is {_MAX_PARAMETERS:,}")
    return NETS[name](built)


def _check_size(name: str, value: Any) -> None:
    """Refuse an option that would make a net of absurd size. Nets themselves check for values that are too small."""
    if isinstance(value, tuple):
        _check_size(f"len({name})", len(value))
        for entry in value:
            _check_size(name, entry)
    most = _MAX_LAYERS if name in ("layers", "decoder") or name.startswith("len(") else _MAX_WIDTH
    if isinstance(value, int) and value > most:
        raise ConfigError(f"options.{name} = {value}: expected at most {most}")
