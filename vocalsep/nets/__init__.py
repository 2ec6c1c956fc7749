"""The registry of nets. A net is code; with weights, settings and a card it becomes a model (`vocalsep.weights`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

__all__ = ["NETS", "Batch", "ClusteringNet", "Net", "build", "count_excerpt_samples", "make_batch"]

NETS: dict[str, type[Net]] = {
    "dpcl": DPCL,
    "hdpcl": HDPCL,
    "unet": UNet,
    "uhnet": UHNet,
    "drnn": DRNN,
    "uhnet-hd": UHNetHD,
    "spleeter": Spleeter,
}


def build(name: str, options: Mapping[str, Any]) -> Net:
    """Build a net with random weights.

    Args:
        name: A key of `NETS`.
        options: Values for the net's options; missing options keep their defaults.

    Raises:
        ConfigError: For an unknown net or option.
    """
    if name not in NETS:
        raise ConfigError(describe_unknown("net", name, NETS))
    return NETS[name](config.build(NETS[name].Options, options, "options"))
