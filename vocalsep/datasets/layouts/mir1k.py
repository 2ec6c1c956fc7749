"""MIR-1K: a thousand clips of karaoke, sung by nineteen amateurs (Hsu and Jang, 2010).

Two ways to split it:

- the literature's (Huang et al., 2014): abjones and amy train, the other seventeen singers test;
- that of the deep recurrent network's paper: 70 % of the clips train, 20 % validate, 10 % test, with singers in more
  than one part. The paper does not say which clips; here the clips of one song stay together, and the order in which
  songs are dealt out follows from a hash of their names. Scores from it say little about singers not heard before.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vocalsep.datasets.tracks import Listing, Problem, Source, Track, listing, recordings
from vocalsep.errors import DatasetError

RATE = 16_000
LABEL_SECONDS = 0.02
COMPLETE = {"train": 175, "test": 825}
TRAINING_SINGERS = ("abjones", "amy")
DRNN_SHARES = {"drnn-train": 0.7, "drnn-validation": 0.2, "drnn-test": 0.1}
SPLITS = (*COMPLETE, *DRNN_SHARES)


def find(root: Path, split: str = "train") -> Listing:
    """Lists the clips of one part. Pitch and voicing labels are noted where their folders are.

    Args:
        root: The folder that holds ``Wavfile/singer_song_clip.wav``: left accompaniment, right voice; and perhaps
            ``PitchLabel`` and ``vocal-nonvocalLabel``.
        split: "train" or "test" of the literature's split; "drnn-train", "drnn-validation" or "drnn-test" of the
            other, which shares singers.

    Raises:
        DatasetError: If the layout is another, there is no such split, or no clip in it.
    """
    if split not in SPLITS:
        raise DatasetError(f"MIR-1K has no split {split!r}; expected one of {', '.join(SPLITS)}")
    folder = root / "Wavfile"
    if not folder.is_dir():
        raise DatasetError(f"{root}: no folder Wavfile; expected the layout of MIR-1K")
    pitch, voicing = _labels(root / "PitchLabel"), _labels(root / "vocal-nonvocalLabel")
    tracks, problems = [], []
    for path in recordings(folder):
        if path.stem.count("_") != 2:
            problems.append(Problem(path.stem, f"{path}: expected a name like singer_song_clip.wav"))
            continue
        tracks.append(
            Track(
                name=path.stem,
                group=path.stem.split("_")[0],
                song=path.stem.rsplit("_", 1)[0],
                vocals=(Source(path, 1),),
                accompaniment=(Source(path, 0),),
                pitch=pitch.get(path.stem),
                voicing=voicing.get(path.stem),
            )
        )
    drnn = split in DRNN_SHARES
    parts = deal(track.song for track in tracks) if drnn else {}
    chosen = [track for track in tracks if (parts[track.song] if drnn else _standard(track)) == split]
    return listing(folder, chosen, problems, split=split, shares_singers=drnn)


def _standard(track: Track) -> str:
    return "train" if track.group in TRAINING_SINGERS else "test"


def deal(songs: Iterable[str]) -> dict[str, str]:
    """Deals songs out to the parts of the 70/20/10 split, always in the same way.

    Args:
        songs: The song of each clip.

    Returns:
        The part of each song. Shares are of clips, and met to within about a song's clips.
    """
    clips = Counter(songs)
    wanted = {part: share * clips.total() for part, share in DRNN_SHARES.items()}
    parts = {}
    for song in sorted(clips, key=lambda name: hashlib.sha256(name.encode()).digest()):
        parts[song] = max(wanted, key=lambda part: wanted[part])
        wanted[parts[song]] -= clips[song]
    return parts


def read_labels(path: Path) -> list[float]:
    """Reads the pitch or voicing labels of a clip: one number to a frame, frames of 40 ms every `LABEL_SECONDS`.

    Pitch is in MIDI semitones, 0 where there is none; voicing is 1 where there is a voice, else 0.

    Raises:
        DatasetError: If the file cannot be read or holds something else.
    """
    try:
        return [float(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: no labels, one number to a line ({error})") from error


def _labels(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
