"""Measure how good live vocals are, and what they cost, by latency.

    python tests/bench/latency.py DSD100 [--split test] [--model duo] [--limit 25] [--latency 0.3 ...]

Songs go through the engine of ``extract --latency``. The table has the SDR of the vocals over whole excerpts, as the
mean over songs, and processor time as a share of the songs' length. The nets of a mean differ in step and future: the
table has the longest step and the shortest future. The last row is the offline engine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from vocalsep.evaluation import metrics, songs
from vocalsep.extraction import Extractor
from vocalsep.latency import LATENCIES
from vocalsep.release import DEFAULT_MODEL

RATE = 44_100


def measure(extractor: Extractor, tracks: list[songs.Song]) -> tuple[float, float]:
    """Return the mean SDR in dB and the share of a core."""
    extractor(np.zeros((2, RATE), np.float32), RATE)  # the net is loaded now
    scores, taken = [], 0.0
    for song in tracks:
        started = time.process_time()
        vocals = extractor(song.mixture.astype(np.float32), song.rate).vocals
        taken += time.process_time() - started
        scores.append(metrics.sdr(song.vocals, vocals))
    return float(np.mean(scores)), taken / sum(song.seconds for song in tracks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsd100", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--latency", type=float, action="append")
    options = parser.parse_args()
    setup = songs.set_up("dsd100", options.dsd100, options.split)
    tracks = [songs.load(track, setup) for track in setup.list_tracks().tracks[: options.limit]]
    print("| latency, s | step, s | future, s | SDR, dB | share of a core |\n|---|---|---|---|---|")
    for latency in options.latency or LATENCIES:
        extractor = Extractor(options.model, device="cpu", workers=0, latency=latency)
        paces = extractor.find_paces(RATE)
        sdr, share = measure(extractor, tracks)
        steps = f"{max(p.step_seconds for p in paces):.3f} | {min(p.future for p in paces) / RATE:.3f}"
        print(f"| {latency:g} | {steps} | {sdr:.2f} | {share:.2f} |", flush=True)
    sdr, share = measure(Extractor(options.model, device="cpu", workers=0), tracks)
    print(f"| offline | | | {sdr:.2f} | {share:.2f} |")


if __name__ == "__main__":
    main()
