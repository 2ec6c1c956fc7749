"""Prints what ONNX Runtime and torch take to run each model's net, and how far their answers agree.

    python tests/bench/backends.py [--model unet ...] [--passes 12] [--song docs/demo/orphanage.ogg]

Milliseconds of processor time on one thread for a second of the song, with each frame seen once: the best of the
passes, and their median, after a first pass that does not count. Both backends take turns, so that what else the
machine does meets them alike. Clustering nets are also timed with their embeddings. The last column is the SNR of ONNX
Runtime's answer against torch's.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from vocalsep import audio, weights
from vocalsep.backends import open_backend
from vocalsep.extraction.chunks import ChunkStream
from vocalsep.shapes import Array
from vocalsep.weights import Model

DEMO = Path(__file__).parents[2] / "docs" / "demo" / "orphanage.ogg"
_ENOUGH = 10.0  # seconds of passes of one kind


def make_features(model: Model, song: Path) -> Array:
    """Return a batch of the size in which songs are extracted."""
    samples, rate = audio.read(song)
    front_end = model.front_end
    chunks = ChunkStream(front_end, rate, samples.shape[0], max(1, front_end.frames // 4))
    power = front_end.group_channels(chunks.push(samples, last=True))
    power = power[np.arange(model.run.chunks) % len(power)]
    return np.ascontiguousarray(front_end.normalise(power))


def measure_seconds(runs: Sequence[Callable[[], object]], passes: int) -> list[list[float]]:
    """Return the processor time of each pass of runs that take turns."""
    for run in runs:
        run()
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(passes):
        for run, own in zip(runs, taken, strict=True):
            if sum(own) < _ENOUGH:
                started = time.process_time()
                run()
                own.append(time.process_time() - started)
    return taken


def snr_db(reference: Array, estimate: Array) -> float:
    error = np.square(reference.astype(float) - estimate).sum()
    return float(10 * np.log10(np.square(reference.astype(float)).sum() / max(error, 1e-300)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=list(weights.find_models()))
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--song", type=Path, default=DEMO)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | answer | torch, best | median | ONNX Runtime, best | median | SNR, dB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.model:
        model = weights.load(name)
        features = make_features(model, options.song)
        backends = [open_backend(model, "cpu", "torch"), open_backend(model, "cpu", "onnx")]
        seconds = len(features) * model.front_end.frames * model.front_end.hop / model.front_end.rate
        for answer in ("mask", "embedding") if model.run.embeds else ("mask",):
            runs = [
                functools.partial(backend.run if answer == "mask" else backend.embed, features) for backend in backends
            ]
            taken = measure_seconds(runs, options.passes)
            answers = [run() if answer == "mask" else run()[0] for run in runs]
            times = " | ".join(
                f"{1000 * pick(part) / seconds:.1f}" for part in taken for pick in (min, statistics.median)
            )
            print(f"| {name} | {answer} | {times} | {snr_db(*answers):.0f} |", flush=True)


if __name__ == "__main__":
    main()
