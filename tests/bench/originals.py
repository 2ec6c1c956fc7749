"""Compare vocals with those of the programs that models come from: audio-separator and Demucs, with random weights.

    python tests/bench/originals.py FOLDER [--seconds 60] [--only mdx demucs]

Environments with those programs are made under FOLDER, by pip, and stay there for the next time. Each line is one model
on the same generated song: how close vocalsep's vocals are to the program's, with the program's way to cut songs
(``--as-original``) and with its own. The first must be at least 50 dB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import fake_nets
import synthetic_songs

from vocalsep import weights
from vocalsep.extraction import Extractor
from vocalsep.shapes import Waveform

RATE = 44_100
TORCH = "torch>=2.6,<2.14"
PROGRAMS = {  # the script that makes a model, the one that separates a song with it, and what both need
    "mdx": (["mdx.py"], ["separate.py", "audio-separator"], ["audio-separator[cpu]==0.47.1", TORCH]),
    "demucs": (["demucs_net.py", "make"], ["demucs_net.py", "separate"], ["demucs==4.1.0", TORCH, "onnx", "soundfile"]),
}
FRAMES = 256  # that the MDX-Net model takes at a time


def prepare(folder: Path, packages: list[str]) -> Path:
    """Make an environment if there is none. Return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def make_song(seconds: float) -> Waveform:
    """Make a voice with backing, whose peak is exactly 1: audio-separator multiplies by the peak."""
    backing = synthetic_songs.make_backing(1, seconds, RATE)
    left = synthetic_songs.make_voice(1, seconds, RATE) + sum(backing.values())
    right = synthetic_songs.make_voice(1, seconds, RATE) + sum(np.roll(stem, 411) for stem in backing.values())
    song = np.stack([left, right])
    return (song / np.abs(song).max()).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    mixture = make_song(options.seconds)
    print("| model | as the original | vocalsep's own cutting | vocals relative to the song |")
    print("|---|---|---|---|")
    for name in options.only:
        make, separate, packages = PROGRAMS[name]
        python, path = prepare(folder / name, packages), folder / "models" / name / f"{name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        song = path.with_name("song.wav")
        soundfile.write(song, mixture.T, RATE, subtype="FLOAT")
        for (script, *words), places in ((make, [path, song]), (separate, [path, song, path.parent, str(FRAMES)])):
            program = Path(__file__).parent / "originals" / script
            subprocess.run([python, program, *words, *places], check=True)
        expected = soundfile.read(path.with_name("vocals.wav"), dtype="float32", always_2d=True)[0].T
        model = weights.load(str(path))
        found = [Extractor(model, as_original=original)(mixture, RATE).vocals for original in (True, False)]
        snrs = [fake_nets.snr_db(expected, vocals) for vocals in found]
        level = -fake_nets.snr_db(mixture, mixture - expected)
        print(f"| {name} | {snrs[0]:.1f} dB | {snrs[1]:.1f} dB | {level:.1f} dB |", flush=True)
        if snrs[0] < 50:
            raise SystemExit(f"{name}: less than 50 dB")


if __name__ == "__main__":
    main()
