"""Measure what each published model costs: parameters, size, multiplications and time.

    python tests/bench/models.py [--model unet ...] [--seconds 60]

MMAC/s are millions of multiply-accumulate operations of the net per second of a stereo song, if the net processes each
frame once. Chunks overlap, so the extractor needs twice as many, a third more with `uhnet-hd`, or a seventh more with
`unet`. A mean has the sums of its models. "times real time" is the speed of the whole extraction of noise from memory,
with STFT and resampling from 44.1 kHz: the best of three runs, with one worker per core.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vocalsep import weights
from vocalsep.extraction import Extractor
from vocalsep.means import Mean, list_files
from vocalsep.weights import AnyModel, Model

RATE, CHANNELS = 44_100, 2


def make_chunk(model: Model) -> Tensor:
    """Return the net's input for a chunk of stereo noise."""
    front_end = model.front_end
    shape = (1, CHANNELS, front_end.grid.freqs, front_end.frames)
    return front_end.normalise(front_end.group_channels(front_end.analyse(torch.randn(shape, dtype=torch.complex64))))


def count_macs(model: Model) -> int:
    """Count the multiply-accumulate operations for a chunk, including those of recurrent layers."""
    with FlopCounterMode(display=False) as counter:
        model.net(make_chunk(model))
    return counter.get_total_flops() // 2


def measure_speed(model: AnyModel, seconds: float) -> float:
    extractor = Extractor(model, device="cpu", workers=os.cpu_count() or 1)
    song = 0.1 * torch.randn(CHANNELS, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        extractor(song, RATE)
        taken.append(time.perf_counter() - started)
    return seconds / min(taken)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=list(weights.find_models()))
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)  # per worker
    print("| model | parameters | MB | MMAC/s | times real time |")
    print("|---|---|---|---|---|")
    for name in options.model:
        model = weights.load(name)
        size = sum(path.stat().st_size for path in list_files(name)) / 1e6
        nets = model.models if isinstance(model, Mean) else [model]
        parameters = sum(net.net.parameter_count for net in nets)
        per_second = sum(count_macs(net) / net.front_end.frames / net.front_end.grid.frame_seconds for net in nets)
        speed = measure_speed(model, options.seconds)
        print(f"| {name} | {parameters:,} | {size:.1f} | {per_second / 1e6:.0f} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
