"""Prints how a model does on songs of DSD100 Dev that it has not heard, by how it is used.

    python docs/lab/scripts/held_out.py DSD100 [--model uhnet-hd] [--overlaps 0.125 0.25 0.5 0.75] [--ways] [--heard]

The figures are means over the songs: SDR of whole excerpts, and median SDR of frames of 1 s; and the processor time.
`--ways` tries other things than overlaps: each channel's mask as the mean of two passes, one with left and right
changed; of a net that has masks for both sources, the vocals' share of their sum; of one with a voice-activity head,
masks that it does not close; other windows over chunks where they overlap; and, on what the extractor gives,
multichannel Wiener filters (Nugraha, Liutkus and Vincent, "Multichannel music separation with deep neural networks",
2016), with covariances over the whole excerpt. `--heard` takes the songs that it was trained on in place of the others,
which tells how much of what it knows is those songs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vocalsep import stft, weights
from vocalsep.datasets import splits
from vocalsep.evaluation import metrics, songs
from vocalsep.extraction import Extractor
from vocalsep.extraction.chunks import Stitcher
from vocalsep.shapes import Spectrum, Waveform
from vocalsep.stft import Grid

_EPSILON = 1e-8  # of the mixture's largest power
Separate = Callable[[songs.Song], Waveform]


def dev_songs(root: Path, model: weights.Model, *, heard: bool) -> list[songs.Song]:
    setup = songs.set_up("dsd100", root, "dev")
    known = model.metadata["heard"]
    return [songs.load(track, setup) for track in setup.list_tracks().tracks if splits.has_heard_song(known, track) == heard]


def wiener(mixture: Spectrum, sources: Sequence[Spectrum], rounds: int) -> Sequence[Spectrum]:
    """Sources, ``(2, freq, frame)`` each, after so many rounds of expectation and maximisation.

    A source is a power for each bin times a covariance of both channels for each row; see the head of this file.
    """
    left, right = mixture
    least = _EPSILON * float(mixture.abs().max()) ** 2
    for _ in range(rounds):
        covariances = []
        for source in sources:
            energy = source.abs().square().mean(dim=0)
            scaled = energy / (energy.sum(dim=-1, keepdim=True) + least)
            first, second = source
            covariances.append(
                (
                    scaled * first.abs().square().sum(dim=-1, keepdim=True),
                    scaled * second.abs().square().sum(dim=-1, keepdim=True),
                    scaled * (first * second.conj()).sum(dim=-1, keepdim=True),
                )
            )
        slack = (least, least, 0.0)
        one, two, both = (sum(parts) + more for parts, more in zip(zip(*covariances, strict=True), slack, strict=True))
        determinant = (one * two - both.abs().square()).clamp_min(least**2)
        x, y = (two * left - both * right) / determinant, (one * right - both.conj() * left) / determinant
        sources = [torch.stack([a * x + c * y, c.conj() * x + b * y]) for a, b, c in covariances]
    return sources


@contextlib.contextmanager
def put(owner: object, name: str, value: object) -> Iterator[None]:
    """The attribute has another value meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def ways(model: weights.Model) -> dict[str, Separate]:
    """What is tried, by its name."""
    net, extractor = model.net, Extractor(model)
    plain, usual = net.forward, Stitcher.__init__

    def changed(owner: object, name: str, value: object) -> Separate:
        def separate(song: songs.Song) -> Waveform:
            with put(owner, name, value):
                return extractor(song.mixture, song.rate).vocals

        return separate

    def windowed(shape: Callable[[int], Tensor]) -> Separate:
        def init(self: Stitcher, frames: int, hop: int) -> None:
            usual(self, frames, hop)
            self._window = shape(frames)

        return changed(Stitcher, "__init__", init)

    def filtered(rounds: int) -> Separate:
        def separate(song: songs.Song) -> Waveform:
            grid = Grid(rate=song.rate, n_fft=4096, hop=1024)
            parts = extractor(song.mixture, song.rate)
            mixture, vocals, rest = (stft.forward(part, grid) for part in (song.mixture, *parts))
            return stft.inverse(wiener(mixture, (vocals, rest), rounds)[0], grid, song.mixture.shape[-1])

        return separate

    def share(features: Tensor) -> Tensor:
        vocals, accompaniment = net.estimate_masks(features)  # type: ignore[operator]
        return vocals / (vocals + accompaniment).clamp_min(1e-6)

    tried = {
        "as it is": changed(net, "forward", plain),
        "window: triangular": windowed(lambda frames: torch.bartlett_window(frames + 2, periodic=False)[1:-1]),
        "window: flat": windowed(torch.ones),
        "both ways round": changed(net, "forward", lambda seen: (plain(seen) + plain(seen.flip(1)).flip(1)) / 2),
        "Wiener filter, one round": filtered(1),
        "Wiener filter, two rounds": filtered(2),
    }
    if hasattr(net, "masks"):
        tried["share of the vocals' mask in both"] = changed(net, "forward", share)
    if getattr(net.options, "gate", 0):
        ungated = dataclasses.replace(net.options, gate=0.0)
        tried["without the voice-activity head's gate"] = changed(net, "options", ungated)
    return tried


def overlapping(model: weights.Model, overlap: float) -> Separate:
    def separate(song: songs.Song) -> Waveform:
        type(model.net).overlap = overlap
        return Extractor(model)(song.mixture, song.rate).vocals

    return separate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default=weights.DEFAULT_MODEL)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.125, 0.25, 0.5, 0.75])
    parser.add_argument("--ways", action="store_true")
    parser.add_argument("--heard", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = weights.load(options.model)
    chosen = dev_songs(options.root, model, heard=options.heard)
    tried = ways(model) if options.ways else {f"{share:g}": overlapping(model, share) for share in options.overlaps}
    print(f"{options.model}, {len(chosen)} songs\n")
    print(f"| {'way' if options.ways else 'overlap'} | whole excerpts, dB | median of frames, dB | processor time, s |")
    print("|---|---|---|---|")
    for name, separate in tried.items():
        started, scores = time.process_time(), []
        for song in chosen:
            vocals = separate(song)
            frames = metrics.framewise_sdr(song.vocals, vocals, song.rate)
            scores.append((float(metrics.sdr(song.vocals, vocals)), float(np.nanmedian(frames))))
        whole, median = np.mean(scores, axis=0)
        print(f"| {name} | {whole:.3f} | {median:.3f} | {time.process_time() - started:.1f} |", flush=True)


if __name__ == "__main__":
    main()
