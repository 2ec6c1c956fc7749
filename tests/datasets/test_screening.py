from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic_songs

from vocalsep.datasets import screening
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import DatasetError


def write_track(folder: Path, name: str, vocals: float, accompaniment: float, seconds: float = 0.1) -> Track:
    paths = [
        synthetic_songs.write(folder / name / f"{stem}.wav", np.full(round(8_000 * length), level), 8_000, "FLOAT")
        for stem, level, length in (("vocals", vocals, 0.1), ("accompaniment", accompaniment, seconds))
    ]
    return Track(name=name, group="x", vocals=(Source(paths[0]),), accompaniment=(Source(paths[1]),))


def test_good_and_bad_tracks_are_separated_in_order(tmp_path: Path) -> None:
    tracks = [
        write_track(tmp_path, "good", 0.1, 0.1),
        write_track(tmp_path, "mute", 0.0005, 0.1),
        write_track(tmp_path, "empty", 0.1, 0.0),
        write_track(tmp_path, "long", 0.1, 0.1, seconds=0.5),
        write_track(tmp_path, "also good", 0.002, 0.1),
    ]
    good, bad = screening.screen(tracks, 8_000, 2)
    assert [decoded.track.name for decoded in good] == ["good", "also good"]
    assert [problem.name for problem in bad] == ["mute", "empty", "long"]
    assert bad[0].what == "silent vocals (peak below -60 dBFS)"
    assert bad[1].what == "silent accompaniment (peak below -60 dBFS)"
    assert bad[2].what.startswith("stems of 0.10 s and 0.50 s")


@pytest.mark.parametrize("at", [0, 2**20 - 1, 2**20, 2**21 - 1, 2**21 + 4])
def test_a_single_loud_sample_is_found_wherever_it_is(at: int) -> None:
    samples = np.zeros((2, 2**21 + 5), np.float16)
    assert not screening.is_audible(samples)
    samples[1, at] = -0.01
    assert screening.is_audible(samples)


def test_bad_tracks_are_reported_and_only_the_first_ten_are_named() -> None:
    reported: list[str] = []
    screening.report_bad_tracks([], skip=False, report=reported.append)
    lines = [f"song {n}: no drums" for n in range(12)]
    with pytest.raises(DatasetError, match=r"^12 bad tracks: song 0: .* song 9: no drums and 2 more\. .*--skip-bad"):
        screening.report_bad_tracks(lines, skip=False, report=reported.append)
    assert reported == []
    screening.report_bad_tracks(lines[:1], skip=True, report=reported.append)
    assert reported == ["skipped 1 bad track: song 0: no drums"]
