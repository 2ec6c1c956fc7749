"""Measure how well masks match the ideal masks, chunk by chunk, as in the UH-net paper.

    python tests/bench/masks.py DSD100 [--dataset dsd100] [--model dpcl hdpcl unet uhnet]

DSD100 is the data set's folder. The script cuts its Test songs into adjacent chunks, of 128 frames for most nets. It
scores the mask of each chunk against the ideal ratio mask on the model's own grid: intersection over union, share of
correct bins (both with a threshold of 0.5) and PSNR. The table has means over all chunks. A model that clusters has a
second row for its clusters.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vocalsep import masks, weights
from vocalsep.backends import open_backend
from vocalsep.evaluation import metrics, songs
from vocalsep.extraction import Extractor, estimate_masks
from vocalsep.extraction.chunks import ChunkStream
from vocalsep.shapes import Mask, Waveform

SCORES = (metrics.iou, metrics.pixel_accuracy, metrics.psnr)


def estimate(extractor: Extractor, song: songs.Song) -> tuple[Mask, Mask]:
    """Return estimated and ideal masks of a song's chunks; the masks of clusters if the extractor uses them."""
    model, front_end, channels = extractor.model, extractor.model.front_end, len(song.vocals)

    def cut(signal: Waveform) -> Waveform:
        return np.stack(ChunkStream(front_end, song.rate, channels, front_end.frames).push(signal))

    clusters = extractor.cluster([song.mixture], song.rate, channels) if extractor.uses_clusters else None
    found = estimate_masks(open_backend(model, "cpu"), front_end, cut(song.mixture), model.run.chunks, clusters)
    ideal = masks.ratio(*(front_end.group_channels(cut(stem)) for stem in song.references))
    if getattr(front_end, "side", False):
        ideal = ideal[:, :-1]  # the difference between the channels has no mask
    return np.broadcast_to(found, ideal.shape), ideal


def make_extractors(models: list[str]) -> Iterator[tuple[str, Extractor]]:
    for name in models:
        model = weights.load(name)
        yield name, Extractor(model, masks_from="net", device="cpu")
        if model.run.embeds:
            yield f"{name}, clusters", Extractor(model, masks_from="clusters", device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", nargs="+", default=["dpcl", "hdpcl", "unet", "uhnet"])
    parser.add_argument("--dataset", choices=["dsd100", "mir1k"], default="dsd100")
    options = parser.parse_args()
    setup = songs.set_up(options.dataset, options.root)
    loaded = [songs.load(track, setup) for track in setup.list_tracks().tracks]
    print("| masks | chunks | IoU, % | pixel accuracy, % | PSNR, dB |")
    print("|---|---|---|---|---|")
    for name, extractor in make_extractors(options.model):
        estimates = [estimate(extractor, song) for song in loaded]
        found = [np.concatenate([score(*pair) for pair in estimates]) for score in SCORES]
        figures = [100 * found[0].mean(), 100 * found[1].mean(), found[2].mean()]
        print(
            f"| {name} | {len(found[0])} | {' | '.join(f'{float(np.round(x, 2)):.2f}' for x in figures)} |", flush=True
        )


if __name__ == "__main__":
    main()
