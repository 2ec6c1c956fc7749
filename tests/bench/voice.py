"""Measure how well models find where somebody sings, and what the gate does to songs without a voice.

    python tests/bench/voice.py DSD100 [--instrumentals DIR] [--model unet ...] [--limit 50]

The songs are those of DSD100 Dev. A frame has a voice if the vocals (RMS over 40 ms) are at most 15 dB below the
mixture and at most 40 dB below their own loudest frame. Pauses of up to 0.3 s count as voice, as they do in segments.
"found" is the share of these frames that lie in the segments found by the model, "wrong" the share of all other frames
that do.

DIR is a folder whose subfolders hold recordings without a voice, as for leaks.py. The table has the share of their
length that is taken for voice, and the level of their vocals relative to the song, without and with the gate. The
script uses the first 12 s of the first two recordings in each subfolder.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vocalsep import audio, weights
from vocalsep.extraction import Extractor, StreamingSeparator
from vocalsep.shapes import Array, Waveform

STEP = 0.01
NEAR_DB, FAINT_DB, PAUSE_SECONDS, RMS_SECONDS = -15, -40, 0.3, 0.04
SECONDS, SONGS = 12, 2


def compute_levels_db(samples: Waveform, rate: int) -> Array:
    """Return the RMS around each step in dB."""
    sums = np.pad(np.square(samples, dtype=np.float64).sum(axis=0).cumsum(), (1, 0))
    middle = (np.arange(int(samples.shape[-1] / rate / STEP)) * STEP * rate).astype(int)
    half = round(RMS_SECONDS / 2 * rate)
    low, high = (np.clip(middle + way, 0, samples.shape[-1]) for way in (-half, half))
    return 10 * np.log10(sums[high] - sums[low] + 1e-12)


def find_sung_frames(mixture: Waveform, vocals: Waveform, rate: int) -> npt.NDArray[np.bool_]:
    sung, whole = compute_levels_db(vocals, rate), compute_levels_db(mixture, rate)
    voice = (sung >= whole + NEAR_DB) & (sung >= sung.max() + FAINT_DB)
    sung_steps = np.flatnonzero(voice).tolist()
    for before, after in itertools.pairwise(sung_steps):
        if after - before <= PAUSE_SECONDS / STEP:
            voice[before:after] = True
    return voice


def separate(extractor: Extractor, mixture: Waveform, rate: int) -> tuple[StreamingSeparator, Waveform]:
    separator = extractor.start(rate, mixture.shape[0])
    starts = range(0, mixture.shape[-1], 4 * rate)
    parts = [separator.push(mixture[:, start : start + 4 * rate]).vocals for start in starts]
    return separator, np.concatenate([*parts, separator.finish().vocals], axis=-1)


def read_songs(root: Path, limit: int) -> Iterator[tuple[Waveform, Waveform, int]]:
    for folder in sorted((root / "Sources" / "Dev").iterdir())[:limit]:
        vocals, rate = audio.read(folder / "vocals.wav")
        others = [audio.read(folder / f"{stem}.wav")[0] for stem in ("bass", "drums", "other")]
        yield vocals + sum(others), vocals, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--instrumentals", type=Path)
    parser.add_argument("--model", nargs="+", default=[weights.DEFAULT_MODEL])
    parser.add_argument("--limit", type=int, default=50)
    options = parser.parse_args()
    print("| model | songs | found | wrong | voice found in instrumentals | their vocals, dB | with the gate, dB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.model:
        model = weights.load(name)
        counts = np.zeros((2, 2))  # by true and estimated voice
        number = 0
        for mixture, vocals, rate in read_songs(options.root, options.limit):
            number += 1
            separator, _ = separate(Extractor(model), mixture, rate)
            sung = find_sung_frames(mixture, vocals, rate)
            at = np.arange(len(sung)) * STEP
            estimated = np.zeros_like(sung)
            for start, end in separator.voice:
                estimated |= (at >= start) & (at < end)
            for real in (0, 1):
                for answer in (0, 1):
                    counts[real, answer] += ((sung == real) & (estimated == answer)).sum()
        found, wrong = (counts[real, 1] / counts[real].sum() for real in (1, 0))
        row = [name, number, f"{found:.1%}", f"{wrong:.1%}"]
        if options.instrumentals:
            shares, levels = [], {False: [], True: []}
            for folder in sorted(path for path in options.instrumentals.iterdir() if path.is_dir()):
                for mixture, rate in map(audio.read, sorted(folder.iterdir())[:SONGS]):
                    start = mixture[:, : SECONDS * rate]
                    for gate, found_levels in levels.items():
                        separator, vocals = separate(Extractor(model, gate=gate), start, rate)
                        found_levels.append(10 * np.log10(np.square(vocals).sum() / np.square(start).sum() + 1e-12))
                    shares.append(separator.voice_share)
            means = [np.mean(values) for values in levels.values()]
            row += [f"{sum(shares) / len(shares):.1%}", f"{means[0]:.1f}", f"{means[1]:.1f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
