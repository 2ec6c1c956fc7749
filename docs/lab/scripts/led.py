"""Measure what it costs in SDR that the first net of a mean leads, and how much quieter songs without a singer become.

    python docs/lab/scripts/led.py FOLDS.tsv FOLD NAME=LAYOUT:ROOT ... --first A.safetensors --second B.safetensors
        --instrumental FOLDER [--lead C.safetensors] [--overlaps 0.5 0.125]

FOLDS.tsv, FOLD and roots are those of folds.py. The nets have not heard the songs of the fold. The first table has the
SDR of the vocals over whole excerpts, and differences from the plain mean ± one standard error over songs; the level of
the vocals relative to the song is that of `tests/bench/leaks.py`, with C in place of A if it is given. The second table
has the plain mean again, with other overlaps between the chunks of B.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import folds
import numpy as np

from vocalsep import weights
from vocalsep.evaluation import metrics
from vocalsep.extraction import Extractor
from vocalsep.means import Mean
from vocalsep.shapes import Waveform
from vocalsep.weights import Model

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "bench"))
from leaks import measure_leaks


def load(path: str) -> Model:
    model = weights.load(path)
    assert isinstance(model, Model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("fold", type=int)
    parser.add_argument("roots", nargs="+")
    for name in ("--first", "--second", "--lead"):
        parser.add_argument(name, required=name != "--lead")
    parser.add_argument("--instrumental", type=Path, required=True)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.5, 0.25, 0.125])
    options = parser.parse_args()
    tracks = {(root, track.name): track for root, found in folds.list_songs(options.roots).items() for track in found}
    held = [(row["root"], row["song"]) for row in folds.read_fold(options)]
    songs = [folds.load_song(tracks[key]) for key in held if key in tracks]
    first, second, lead = load(options.first), load(options.second), load(options.lead or options.first)

    def score(extract: Callable[[Waveform], Waveform]) -> np.ndarray:
        return np.array([metrics.sdr(vocals, extract(mixture)) for vocals, mixture in songs])

    def run(model: Model | Mean) -> np.ndarray:
        extractor = Extractor(model, workers=0)
        return score(lambda mixture: extractor(mixture, folds.RATE).vocals)

    plain = run(Mean.of([first, second]))

    def describe(scores: np.ndarray) -> str:
        difference = scores - plain
        return f"{scores.mean():.3f} | {difference.mean():+.3f} ± {difference.std(ddof=1) / len(songs) ** 0.5:.3f}"

    print("| estimate | SDR, dB | difference, dB | without a singer, dB: mean | median |\n|---|---|---|---|---|")
    cases = {"first": (first, lead), "second": (second, second)}
    for name, led in (("plain mean", False), ("led by the first", True)):
        cases[name] = tuple(Mean.of([m, second], led_by_first=led) for m in (first, lead))
    for name, (model, heard) in cases.items():
        leaks = measure_leaks(options.instrumental, Extractor(heard))
        print(f"| {name} | {describe(run(model))} | {np.mean(leaks):.1f} | {np.median(leaks):.1f} |", flush=True)
    print("\n| overlap of the second | SDR of the plain mean, dB | difference, dB |\n|---|---|---|")
    for overlap in options.overlaps:
        model = replace(second, run=replace(second.run, overlap=overlap))
        print(f"| {overlap:g} | {describe(run(Mean.of([first, model])))} |", flush=True)


if __name__ == "__main__":
    main()
