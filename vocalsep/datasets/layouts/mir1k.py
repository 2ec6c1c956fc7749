"""MIR-1K: a thousand clips of karaoke, sung by nineteen amateurs (Hsu and Jang, 2010).

There are two ways to split it:

- The literature's split (Huang et al., 2014): abjones and amy for training, the other seventeen singers for testing.
- The DRNN paper's split: 70 % of the clips for training, 20 % for validation and 10 % for testing. These parts share
  singers. The paper does not list the clips. Here all clips of a song stay together, and a hash of the songs' names
  decides where each song goes. Scores from this split say little about new singers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vocalsep.datasets.layouts.folders import list_recordings
from vocalsep.datasets.tracks import Listing, Problem, Source, Track, make_listing
from vocalsep.errors import DatasetError

RATE = 16_000
LABEL_SECONDS = 0.02
COMPLETE = {"train": 175, "test": 825}
"""How many clips each split of the complete data set has."""
TRAINING_SINGERS = ("abjones", "amy")
DRNN_SHARES = {"drnn-train": 0.7, "drnn-validation": 0.2, "drnn-test": 0.1}
SPLITS = (*COMPLETE, *DRNN_SHARES)


def find(root: Path, split: str = "train") -> Listing:
    """List the clips of one split, with their pitch and voicing labels where these exist.

    Args:
        root: The folder that holds ``Wavfile/singer_song_clip.wav``: accompaniment left, voice right. It may also
            hold ``PitchLabel`` and ``vocal-nonvocalLabel``.
        split: "train" or "test" of the literature's split; "drnn-train", "drnn-validation" or "drnn-test" of the
            DRNN paper's split, whose parts share singers.

    Raises:
        DatasetError: If the folder does not have this layout, there is no such split, or the split has no clips.
    """
    if split not in SPLITS:
        raise DatasetError(f"MIR-1K has no split {split!r}; expected one of {', '.join(SPLITS)}")
    folder = root / "Wavfile"
    if not folder.is_dir():
        raise DatasetError(f"{root}: no folder Wavfile; expected the layout of MIR-1K")
    pitch, voicing = _find_labels(root / "PitchLabel"), _find_labels(root / "vocal-nonvocalLabel")
    tracks, problems = [], []
    for path in list_recordings(folder):
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
    is_drnn = split in DRNN_SHARES
    parts = assign_splits(track.song for track in tracks) if is_drnn else {}
    chosen = [track for track in tracks if (parts[track.song] if is_drnn else _choose_split(track)) == split]
    return make_listing(folder, chosen, problems, split=split, shares_singers=is_drnn)


def _choose_split(track: Track) -> str:
    return "train" if track.group in TRAINING_SINGERS else "test"


def assign_splits(songs: Iterable[str]) -> dict[str, str]:
    """Assign each song to a part of the 70/20/10 split, always in the same way.

    Args:
        songs: The song of each clip.

    Returns:
        The part of each song. Shares are counted in clips, and are met to within about the clips of one song.
    """
    clips = Counter(songs)
    wanted = {part: share * clips.total() for part, share in DRNN_SHARES.items()}
    parts = {}
    for song in sorted(clips, key=lambda name: hashlib.sha256(name.encode()).digest()):
        parts[song] = max(wanted, key=lambda part: wanted[part])
        wanted[parts[song]] -= clips[song]
    return parts


def read_labels(path: Path) -> list[float]:
    """Read the pitch or voicing labels of a clip: one number per frame.

    Frames are 40 ms long, one every `LABEL_SECONDS`.

    Pitch is in MIDI semitones, or 0 where there is no voice; voicing is 1 where there is a voice, else 0.

    Raises:
        DatasetError: If the file cannot be read, or is not a list of numbers.
    """
    try:
        return [float(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a label file; expected one number per line ({error})") from error


def _find_labels(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
