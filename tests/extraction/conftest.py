from __future__ import annotations

import fake_nets
import pytest

from vocalsep.extraction import Extractor


@pytest.fixture(scope="module", params=["unet", "uhnet-hd"])
def random_extractor(request: pytest.FixtureRequest) -> Extractor:
    """An extractor with an untrained net at 8 kHz, mel or linear stereo, whose masks use all of [0, 1]."""
    return Extractor(fake_nets.random_unet() if request.param == "unet" else fake_nets.random_uhnet())
