"""On a CPU, songs are separated without torch: here Python cannot import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import shipped
import synthetic_songs

from vocalsep import audio, extraction, weights
from vocalsep.backends import open_backend
from vocalsep.extraction import Extractor
from vocalsep.extraction.inversion import INVERSIONS

RATE = 22_050
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")
sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", BLOCKED + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of stereo."""
    sound = synthetic_songs.make_voice(1, 3.0, RATE) + sum(synthetic_songs.make_backing(1, 3.0, RATE).values())
    stereo = np.stack([sound, 0.7 * np.roll(sound, 200)])
    return synthetic_songs.write(tmp_path_factory.mktemp("song") / "song.wav", 0.3 * stereo.T, RATE)


@pytest.mark.slow
def test_every_model_and_inversion_separates_files_and_arrays(song: Path) -> None:
    code = """
import pathlib, vocalsep
from vocalsep import audio, extraction
from vocalsep.extraction.inversion import INVERSIONS
song = pathlib.Path(sys.argv[1])
samples, rate = audio.read(song)
jobs = [(name, "phase", "auto") for name in sys.argv[3:]]
jobs += [("unet", inversion, "net") for inversion in INVERSIONS] + [("hdpcl", "phase", "clusters")]
for model, inversion, masks in jobs:
    extractor = vocalsep.Extractor(vocalsep.load_model(model), inversion=inversion, masks_from=masks)
    output = pathlib.Path(sys.argv[2]) / f"{model}-{inversion}-{masks}.wav"
    vocalsep.extract(song, output, extractor=extractor)
    vocals, accompaniment = extractor.extract(samples, rate)
    assert (vocals + accompaniment == samples).all()
parts = vocalsep.separate(samples[0], rate, model="unet")
assert parts[0].shape == samples[0].shape
"""
    folder = song.parent / "vocals"
    folder.mkdir()
    run(code, str(song), str(folder), *weights.find_models())
    assert len(list(folder.iterdir())) == len(weights.find_models()) + len(INVERSIONS) + 1


def test_the_command_extracts_without_torch(song: Path, tmp_path: Path) -> None:
    code = "from vocalsep.cli import app; app(['extract', sys.argv[1], '-o', sys.argv[2], '-q'], standalone_mode=False)"
    run(code, str(song), str(tmp_path / "vocals.wav"))
    assert audio.read(tmp_path / "vocals.wav")[0].shape == audio.read(song)[0].shape


@pytest.mark.parametrize("name", shipped.MODELS)
def test_vocals_equal_those_of_torch_to_80_db(song: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, rate = audio.read(song)
    model = weights.load(name)
    found = Extractor(model)(samples, rate).vocals
    monkeypatch.setattr(
        extraction.engines.backends, "open_backend", lambda model, _: open_backend(model, "cpu", "torch")
    )
    expected = Extractor(model)(samples, rate).vocals
    assert np.linalg.norm(expected) > 0
    assert fake_nets.snr_db(expected, found) > 80
