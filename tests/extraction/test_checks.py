from __future__ import annotations

from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
from torch import Tensor

from vocalsep import audio
from vocalsep.errors import ModelError
from vocalsep.extraction import Extractor, extract
from vocalsep.extraction.checks import OutputCheck
from vocalsep.shapes import Waveform

RATE = 8_000


class InvalidNet(fake_nets.ConstantNet):
    """Returns 0.5, and after some batches NaN or infinity in one bin."""

    def __init__(self, value: float, after: int = 1) -> None:
        super().__init__(0.5)
        self.bad, self.left = value, after

    def forward(self, features: Tensor) -> Tensor:
        mask = super().forward(features).clone()
        self.left -= len(features) > 0
        if self.left < 0:
            mask[:, :, 3, 5] = self.bad
        return mask


def write(path: Path, samples: Waveform) -> Path:
    return synthetic_songs.write(path, samples.T, RATE)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write(tmp_path / "song.wav", fake_nets.noise(2, 10 * RATE, level=0.1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("after", [0, 2])
def test_nan_and_infinity_in_masks_are_an_error_and_leave_no_file(song: Path, value: float, after: int) -> None:
    extractor = Extractor(fake_nets.make_model(InvalidNet(value, after), fake_nets.SMALL))
    with pytest.raises(ModelError, match=rf"model 'fake': its net returned NaN or infinity for {song}"):
        extract(song, song.with_name("v.wav"), accompaniment=song.with_name("a.wav"), extractor=extractor)
    assert list(song.parent.glob("*.*")) == [song]
    with pytest.raises(ModelError, match="returned NaN or infinity for the samples"):
        Extractor(fake_nets.make_model(InvalidNet(value, 0), fake_nets.SMALL)).extract(
            np.zeros(RATE), RATE
        )  # even in silence


def test_nan_and_huge_values_in_a_song_are_not_blamed_on_the_model(tmp_path: Path) -> None:
    samples = fake_nets.noise(1, 3 * RATE)
    samples[:, 5_000:5_100] = np.nan
    samples[:, 9_000] = 3e38
    soundfile.write(tmp_path / "song.wav", samples.T, RATE, subtype="FLOAT")
    extract(tmp_path / "song.wav", tmp_path / "v.wav", extractor=Extractor(fake_nets.random_unet()))
    assert np.isfinite(audio.read(tmp_path / "v.wav")[0]).all()


@pytest.mark.parametrize("level", [1e-3, 0.1])
def test_vocals_equal_to_the_song_are_an_error_and_leave_no_file(tmp_path: Path, level: float) -> None:
    song = write(tmp_path / "song.wav", fake_nets.noise(2, 4 * RATE, level=level))
    extractor = Extractor(fake_nets.constant(1, fake_nets.SMALL))
    with pytest.raises(ModelError, match=f"model 'fake': returns {song} unchanged; choose another model"):
        extract(song, tmp_path / "v.wav", extractor=extractor)
    assert list(tmp_path.glob("*.*")) == [song]
    with pytest.raises(ModelError, match="returns the samples unchanged"):
        extractor.extract(audio.read(song)[0], RATE)


def test_a_song_that_is_nearly_all_voice_is_no_error(song: Path) -> None:
    report = extract(song, song.with_name("v.wav"), extractor=Extractor(fake_nets.constant(0.9999, fake_nets.SMALL)))
    assert report.warnings == ()
    assert report.vocals_db == pytest.approx(0, abs=0.01)


def test_silence_gives_silence_and_a_warning(tmp_path: Path) -> None:
    song = write(tmp_path / "song.wav", np.zeros((2, 2 * RATE), np.float32))
    for value in (0.0, 1.0):
        report = extract(song, tmp_path / "v.wav", extractor=Extractor(fake_nets.constant(value, fake_nets.SMALL)))
        assert not audio.read(tmp_path / "v.wav")[0].any()
        assert (report.vocals_db, report.voice, report.voice_share) == (None, (), 0)
        assert report.warnings == (f"{song}: the recording is silent, and so are the vocals",)


@pytest.mark.parametrize(
    ("value", "level", "warning"),
    [
        (0.0, None, "no voice was found; the vocals are silent"),
        (0.001, -60, "hardly any voice was found; the vocals are 60 dB below the song"),
        (0.0031, -50.17, "hardly any voice was found; the vocals are 50 dB below the song"),
        (0.0033, -49.63, None),
    ],
)
def test_hardly_any_vocals_are_written_with_a_warning(
    song: Path, value: float, level: float | None, warning: str | None
) -> None:
    vocals = song.with_name("v.flac")
    report = extract(song, vocals, extractor=Extractor(fake_nets.constant(value, fake_nets.SMALL)))
    assert soundfile.info(vocals).frames == 10 * RATE
    assert report.vocals_db == (None if level is None else pytest.approx(level, abs=0.01))
    assert report.warnings == ((f"{song}: {warning}",) if warning else ())


def test_levels_are_those_of_all_parts_together() -> None:
    mixture, vocals = fake_nets.noise(2, 900), fake_nets.noise(2, 900, seed=1, level=0.05)
    check = OutputCheck("m", "s")
    for part in range(3):
        cut = slice(part * 300, part * 300 + 300)
        check.push(vocals[:, cut], mixture[:, cut] - vocals[:, cut], invalid=False)
    check.finish()
    assert check.vocals_db == pytest.approx(-fake_nets.snr_db(mixture, mixture - vocals), abs=1e-4)
