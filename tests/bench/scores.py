"""Prints scores of models on DSD100 songs, framed by the mixture (floor) and ideal masks (ceilings).

    python tests/bench/scores.py DSD100 [--split Test] [--model unet ...] [--griffin-lim] [--instrumentals DIR]

DSD100 is a folder in the layout of that data set. A track's score is the median of its 1-s frame SDRs (BSS Eval v4,
images, as museval); the columns are the median and the mean of those over tracks, and the mean of whole-song SDRs.
The mixture is the sum of the stems; vocals are scored against the vocals stem, 44.1 kHz stereo. With --instrumentals, a
folder of folders of songs without a singer, also: the level of the vocals against the song, over the first 12 s of the
first two readable recordings of each folder. All in dB.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vocalsep import audio, extraction, metrics, weights
from vocalsep.datasets import dsd100
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

RATE = 44_100
Estimator = Callable[[Waveform, Waveform], Waveform]


def score(songs: list[dict[str, Waveform]], estimate: Estimator) -> tuple[float, float, float]:
    """Median and mean of track medians, and mean of whole-song SDRs, in dB."""
    medians, wholes = [], []
    for song in songs:
        mixture = song["vocals"] + song["accompaniment"]
        made = estimate(mixture, song["vocals"])
        medians.append(metrics.framewise_sdr(song["vocals"], made, RATE).nanmedian().item())
        wholes.append(metrics.sdr(song["vocals"], made))
    return float(np.nanmedian(medians)), float(np.nanmean(medians)), float(np.mean(wholes))


def leaks(root: Path, model: str) -> list[float]:
    """Level of the vocals against the song, in dB, of songs that have none."""
    extractor, found = extraction.Extractor(weights.load(model)), []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        songs = []
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(AudioError):  # some Opus files of low rates
                songs.append(audio.read(path))
            if len(songs) == 2:
                break
        for mixture, rate in songs:
            start = mixture[:, : 12 * rate]
            vocals = extractor(start, rate).vocals
            found.append(float(10 * torch.log10(vocals.square().sum() / start.square().sum() + 1e-12)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="Test")
    parser.add_argument("--model", nargs="+", default=[weights.DEFAULT_MODEL])
    parser.add_argument("--griffin-lim", action="store_true")
    parser.add_argument("--instrumentals", type=Path)
    options = parser.parse_args()
    songs = [track.load(RATE, 2) for track in dsd100.find(options.root, options.split).tracks]
    rows: dict[str, Estimator] = {"mixture": lambda mixture, _: mixture}
    for name in options.model:
        model = weights.load(name)
        for inversion in ("phase", "griffin-lim")[: 1 + options.griffin_lim]:
            extractor = extraction.Extractor(model, inversion=inversion)
            rows[f"{name}, {inversion}"] = lambda mixture, _, extractor=extractor: extractor(mixture, RATE).vocals
        rows[f"ideal ratio mask, grid of {name}"] = lambda mixture, vocals, front_end=model.front_end: (
            extraction.oracle(mixture, vocals, RATE, front_end).vocals
        )
    rows["ideal ratio mask, linear 4096"] = lambda mixture, vocals: extraction.oracle(mixture, vocals, RATE).vocals
    print(f"{len(songs)} songs of {options.split}\n")
    print("| estimate | median of medians | mean of medians | mean whole-song SDR |")
    print("|---|---|---|---|")
    for name, estimate in rows.items():
        print("| {} | {:.2f} | {:.2f} | {:.2f} |".format(name, *score(songs, estimate)), flush=True)
    for name in options.model if options.instrumentals else []:
        levels = leaks(options.instrumentals, name)
        figures = f"mean {np.mean(levels):.1f}, median {np.median(levels):.1f}"
        print(f"\n{name}, {len(levels)} songs without a singer: {figures}")


if __name__ == "__main__":
    main()
