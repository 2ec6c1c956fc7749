"""Estimate what a large batch costs on a cluster, from figures that the other benchmarks measure.

    python tests/bench/cost.py [--nodes 100] [--cores 32] [--song-seconds 240] [--core-seconds 4.7] [--worker-ms 3]
                               [--driver-ms 2]

The model: each core separates one song after another, in --core-seconds for a song of --song-seconds (speed.py with
--threads 1), plus --worker-ms for claims, SHA-256, the manifest and Ray. The driver needs --driver-ms per song on a
core of its own (both from cluster.py), and hands out no more songs than that allows. Songs are stereo at 44.1 kHz, and
vocals and accompaniment are written in the song's format. Neither network nor storage limit the cluster.
"""

from __future__ import annotations

import argparse

BYTES_PER_HOUR = {  # of stereo at 44.1 kHz
    "wav, 16 bit": 44_100 * 2 * 2 * 3600,
    "flac (60 % of wav)": round(0.6 * 44_100 * 2 * 2 * 3600),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--cores", type=int, default=32)
    parser.add_argument("--song-seconds", type=float, default=240)
    parser.add_argument("--core-seconds", type=float, default=4.7)
    parser.add_argument("--worker-ms", type=float, default=3)
    parser.add_argument("--driver-ms", type=float, default=2)
    options = parser.parse_args()
    per_song = options.core_seconds + options.worker_ms / 1000
    print(f"hours of audio per core-hour: {options.song_seconds / per_song:.1f}")
    wanted, limit = options.nodes * options.cores / per_song, 1000 / options.driver_ms
    songs = min(wanted, limit)
    print(
        f"songs per second on {options.nodes} nodes with {options.cores} cores: {wanted:.0f}; one driver: {limit:.0f}"
    )
    for drivers, rate in ((1, songs), (-(-wanted // limit), wanted)):
        hours = rate * options.song_seconds
        print(f"hours of audio per hour with {drivers:.0f} driver(s): {hours:,.0f}")
    print(
        "\n| format | read per 1,000 h | written per 1,000 h | read, all nodes | written, all nodes | read, per node |"
    )
    print("|---|---|---|---|---|---|")
    for name, size in BYTES_PER_HOUR.items():
        rate = wanted * options.song_seconds / 3600 * size
        cells = [
            f"{size / 1e9:.2f} TB",
            f"{2 * size / 1e9:.2f} TB",
            f"{rate / 1e9:.1f} GB/s",
            f"{2 * rate / 1e9:.1f} GB/s",
        ]
        print(f"| {name} | {' | '.join(cells)} | {rate / options.nodes / 1e6:.0f} MB/s |")


if __name__ == "__main__":
    main()
