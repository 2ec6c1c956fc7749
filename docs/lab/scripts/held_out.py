"""Score a model on DSD100 Dev songs that it was not trained on, with different ways of using it.

    python docs/lab/scripts/held_out.py DSD100 [--model uhnet-hd] [--overlaps 0.125 0.25 0.5 0.75] [--ways] [--heard]

The table has means over the songs: SDR of whole excerpts, median SDR of 1-s frames, and processor time. Without options
it compares overlaps of chunks. With `--ways` it compares:

- other windows over overlapping chunks;
- masks averaged over two passes, one with left and right swapped;
- for nets with masks for both sources, the vocals' share of the sum of both;
- for nets with a voice-activity head, masks that the head does not close;
- multichannel Wiener filters on the extractor's output, with covariances over the whole excerpt (Nugraha, Liutkus and
  Vincent, "Multichannel music separation with deep neural networks", 2016).

With `--heard` it scores the songs that the model was trained on, which shows how far it has memorised them.
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
from vocalsep.shapes import Array, Spectrum, Waveform
from vocalsep.stft import Grid

_EPSILON = 1e-8  # relative to the mixture's largest power
Separate = Callable[[songs.Song], Waveform]


def load_dev_songs(root: Path, model: weights.Model, *, heard: bool) -> list[songs.Song]:
    setup = songs.set_up("dsd100", root, "dev")
    known = model.metadata["heard"]
    tracks = [track for track in setup.list_tracks().tracks if splits.has_heard_song(known, track) == heard]
    return [songs.load(track, setup) for track in tracks]


def wiener(mixture: Spectrum, sources: Sequence[Spectrum], rounds: int) -> Sequence[Spectrum]:
    """Filter sources, ``(2, freq, frame)`` each, by expectation maximisation.

    The model of a source is a power for each bin times a covariance of both channels for each row.
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
def replace_attribute(owner: object, name: str, value: object) -> Iterator[None]:
    """Give an attribute another value while the context lasts."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def list_ways(model: weights.Model) -> dict[str, Separate]:
    """Return the ways to use a model, by name. They change its net, so it runs in torch."""
    model = dataclasses.replace(model, graphs={})
    net, extractor = model.net, Extractor(model, device="cpu")
    forward, make_stitcher = net.forward, Stitcher.__init__

    def with_attribute(owner: object, name: str, value: object) -> Separate:
        def separate(song: songs.Song) -> Waveform:
            with replace_attribute(owner, name, value):
                return extractor(song.mixture, song.rate).vocals

        return separate

    def with_window(shape: Callable[[int], Array]) -> Separate:
        def init(self: Stitcher, frames: int, hop: int) -> None:
            make_stitcher(self, frames, hop)
            self._window = shape(frames).astype(np.float32)

        return with_attribute(Stitcher, "__init__", init)

    def with_filter(rounds: int) -> Separate:
        def separate(song: songs.Song) -> Waveform:
            grid = Grid(rate=song.rate, n_fft=4096, hop=1024)
            parts = extractor(song.mixture, song.rate)
            spectra = (stft.forward(torch.from_numpy(part), grid) for part in (song.mixture, *parts))
            mixture, vocals, rest = spectra
            filtered: Tensor = stft.inverse(wiener(mixture, (vocals, rest), rounds)[0], grid, song.mixture.shape[-1])
            return filtered.numpy()

        return separate

    def share(features: Tensor) -> Tensor:
        vocals, accompaniment = net.estimate_masks(features)  # type: ignore[operator]
        return vocals / (vocals + accompaniment).clamp_min(1e-6)

    ways = {
        "as it is": with_attribute(net, "forward", forward),
        "window: triangular": with_window(lambda frames: np.bartlett(frames + 2)[1:-1]),
        "window: flat": with_window(np.ones),
        "both ways round": with_attribute(net, "forward", lambda x: (forward(x) + forward(x.flip(1)).flip(1)) / 2),
        "Wiener filter, one round": with_filter(1),
        "Wiener filter, two rounds": with_filter(2),
    }
    if hasattr(net, "estimate_masks"):
        ways["share of the vocals' mask in both"] = with_attribute(net, "forward", share)
    if getattr(net.options, "gate", 0):
        ungated = dataclasses.replace(net.options, gate=0.0)
        ways["without the voice-activity head's gate"] = with_attribute(net, "options", ungated)
    return ways


def with_overlap(model: weights.Model, overlap: float) -> Separate:
    changed = dataclasses.replace(model, run=dataclasses.replace(model.run, overlap=overlap))
    return lambda song: Extractor(changed, device="cpu")(song.mixture, song.rate).vocals


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
    chosen = load_dev_songs(options.root, model, heard=options.heard)
    ways = (
        list_ways(model) if options.ways else {f"{share:g}": with_overlap(model, share) for share in options.overlaps}
    )
    print(f"{options.model}, {len(chosen)} songs\n")
    print(f"| {'way' if options.ways else 'overlap'} | whole excerpts, dB | median of frames, dB | processor time, s |")
    print("|---|---|---|---|")
    for name, separate in ways.items():
        started, scores = time.process_time(), []
        for song in chosen:
            vocals = separate(song)
            frames = metrics.framewise_sdr(song.vocals, vocals, song.rate)
            scores.append((float(metrics.sdr(song.vocals, vocals)), float(np.nanmedian(frames))))
        whole, median = np.mean(scores, axis=0)
        print(f"| {name} | {whole:.3f} | {median:.3f} | {time.process_time() - started:.1f} |", flush=True)


if __name__ == "__main__":
    main()
