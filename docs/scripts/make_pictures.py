"""Draw the pictures of the documentation from the demo song.

    python docs/scripts/make_pictures.py [--out docs/pictures]

Extracts ``docs/demo/orphanage.ogg`` with the default model, then draws the song, its vocals and its accompaniment as
log-frequency spectrograms, one above the other. Also keeps the picture that ``--picture`` draws, and writes the two
stems beside the demo song as Ogg Vorbis, so that readers can listen to what they see.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import librosa
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import soundfile
from matplotlib import pyplot as plt
from PIL import Image

mpl.use("agg")
DOCS = Path(__file__).parents[1]
SONG = DOCS / "demo" / "orphanage.ogg"
N_FFT, HOP, BANDS = 4_096, 512, 256
HZ = (60.0, 11_000.0)
RANGE_DB = 72.0
COMPRESSION = 0.7  # of Ogg Vorbis: 0 is best and largest, 1 is smallest
QUALITY = 84  # of WebP


def extract_stems(out: Path) -> dict[str, Path]:
    """Extract the demo song and write its stems beside it; return all three recordings by name."""
    recordings = {"song": SONG}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vocalsep", "extract", str(SONG), "-o", folder, "--accompaniment", "--picture"]
        subprocess.run(command, check=True)
        keep_as_webp(Path(folder) / f"{SONG.stem}.picture.png", out / f"{SONG.stem}.webp")
        for stem in ("vocals", "accompaniment"):
            samples, rate = soundfile.read(Path(folder) / f"{SONG.stem}.{stem}.wav", dtype="float32")
            recordings[stem] = SONG.with_name(f"{SONG.stem}.{stem}.ogg")
            soundfile.write(recordings[stem], samples, rate, compression_level=COMPRESSION)
    return recordings


def spectrogram_db(path: Path) -> tuple[npt.NDArray[np.float32], float]:
    """Return the mel power of a recording in dB, ``(band, frame)``, and its length in seconds."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    power = librosa.feature.melspectrogram(
        y=mono, sr=rate, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS, fmin=HZ[0], fmax=HZ[1]
    )
    return librosa.power_to_db(power, ref=1.0, top_db=None), len(mono) / rate


def draw_stems(recordings: dict[str, Path], out: Path) -> None:
    """Draw the song above its two stems."""
    levels = {name: spectrogram_db(path) for name, path in recordings.items()}
    top = max(float(level.max()) for level, _ in levels.values())
    plt.rcParams["font.family"] = "DejaVu Sans"
    figure, axes = plt.subplots(3, 1, figsize=(10, 5.6), sharex=True, facecolor="white", layout="constrained")
    bands = librosa.mel_frequencies(n_mels=BANDS, fmin=HZ[0], fmax=HZ[1])
    ticks = {100: "100 Hz", 500: "500 Hz", 2_000: "2 kHz", 8_000: "8 kHz"}
    seconds = 0.0
    for axis, (name, (level, seconds)) in zip(axes, levels.items(), strict=True):
        box = (0, seconds, 0, BANDS)
        axis.imshow(level, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top, extent=box)
        axis.set_yticks(np.interp(list(ticks), bands, np.arange(BANDS)), list(ticks.values()))
        axis.tick_params(length=0, labelsize=8.5, labelcolor="#4b5563")
        axis.set_title(name, loc="left", fontsize=11, fontweight="bold", color="#111827", pad=4)
        axis.spines[:].set_visible(False)
    marks = range(0, int(seconds) + 1, 2)
    axes[-1].set_xticks(marks, [f"{second} s" for second in marks])
    with tempfile.NamedTemporaryFile(suffix=".png") as drawn:
        figure.savefig(drawn.name, dpi=120)
        keep_as_webp(Path(drawn.name), out / "stems.webp")
    plt.close(figure)


def keep_as_webp(drawn: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").save(path, quality=QUALITY, method=6)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS / "pictures")
    out = parser.parse_args().out
    draw_stems(extract_stems(out), out)


if __name__ == "__main__":
    main()
