"""Run the reference implementations of BSS Eval: museval (version 4) and mir_eval (version 3)."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from vocalsep.shapes import Waveform

Floats = npt.NDArray[np.float64]


def load_museval_metrics() -> ModuleType:
    """Load only museval's metrics module: the package itself cannot be imported without ffmpeg."""
    package = importlib.util.find_spec("museval")
    if package is None or package.origin is None:
        pytest.skip("museval is not installed")
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(package.origin).with_name("metrics.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def score_version_4(references: Waveform, estimates: Waveform, window: int, taps: int = 512) -> list[Floats]:
    """Score ``(source, channel, time)`` by museval's mode v4: SDR, ISR, SIR and SAR, ``(source, frame)`` each."""
    return load_museval_metrics().bss_eval(
        *(part.astype(np.float64).transpose(0, 2, 1) for part in (references, estimates)),
        window=window,
        hop=window,
        compute_permutation=False,
        filters_len=taps,
        framewise_filters=False,
        bsseval_sources_version=False,
    )[:4]


def score_version_3(references: Waveform, estimates: Waveform) -> list[Floats]:
    """Score mono sources ``(source, 1, time)`` by mir_eval: SDR, SIR and SAR, ``(source,)`` each."""
    separation = pytest.importorskip("mir_eval.separation")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it will move to another package
        found = separation.bss_eval_sources(
            *(part[:, 0].astype(np.float64) for part in (references, estimates)), compute_permutation=False
        )
    return list(found[:3])


def score_version_3_of_channels(references: Waveform, estimates: Waveform, taps: int) -> list[Floats]:
    """Score whole songs with any channel count by museval's version 3 for sources: SDR, SIR and SAR."""
    sdr, _, sir, sar, _ = load_museval_metrics().bss_eval(
        *(part.astype(np.float64).transpose(0, 2, 1) for part in (references, estimates)),
        window=np.inf,
        hop=np.inf,
        compute_permutation=False,
        filters_len=taps,
        framewise_filters=True,
        bsseval_sources_version=True,
    )
    return [score[:, 0] for score in (sdr, sir, sar)]
