"""Passages: the ten seconds of a song in which an estimate is worst, ordinary and best, cut out to be listened to.

The first estimate that is compared chooses the passages of a song, and all others are cut at the same places. What was
cut is kept in a folder, so that a stopped run continues, and a page can be made again without separating anything:

    KEY.zip    of a song: mixture and reference; of an estimate: the estimate and its error

Each is a bundle (see `listening.bundle`) in which the passages follow each other, one per piece. The key is a hash of
everything that the content depends on.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from vocalsep import audio, files, listening
from vocalsep.evaluation import metrics
from vocalsep.evaluation.metrics import Floats
from vocalsep.evaluation.scores import WINDOW_SECONDS
from vocalsep.evaluation.songs import Song
from vocalsep.listening import FADE, PIECE, RATE
from vocalsep.shapes import Array, Waveform

SECONDS = PIECE // RATE
"""Length of a passage."""

_FORM = 1  # of what is kept
_POINTS = 800  # of the waveform of a whole song
_LIMIT_DB = 60.0  # of framewise scores: beyond it, there is no error, or nothing else
_QUIET_DB = 50.0
_AUDIBLE_DB = 30.0  # nobody hears how far a score is beyond this
_LARGEST_GAIN_DB = 24.0  # what is still softer would be noise

# Bits per second of mono and of stereo. There are many passages, and errors need no high fidelity.
_BITRATES, _ERROR_BITRATES = (48_000, 72_000), (32_000, 40_000)

# The K-weighting of ITU-R BS.1770-4 at 48 kHz: a shelf for the head, and a high-pass.
_K_WEIGHTING = np.array(
    [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
)


@dataclass(frozen=True)
class Passage:
    """A part of a song.

    Attributes:
        kind: "worst", "median" or "best"; "loudest" if no SDR is defined, and "whole" for a short song.
        start: Its first sample.
        stop: The sample after its last one.
    """

    kind: str
    start: int
    stop: int


def choose(sdr: Floats, estimate: Waveform, rate: int) -> list[Passage]:
    """Choose the passages of a song: at most three, each ten seconds long, that overlap by at most half.

    The level of a passage is the mean over its frames of one second; beyond 30 dB, a frame counts as 30 dB. Passages
    in which fewer than half of the frames have an SDR are left out, unless that leaves none.

    Args:
        sdr: SDR of the vocals in each frame, dB; NaN where nobody sings.
        estimate: The estimated vocals, ``(channel, time)``.
        rate: Their sample rate, Hz.

    Returns:
        The worst, the median and the best passage, as far as there is room for them. Without any SDR, the passage in
        which the estimate is loudest. The whole song, if it is not longer than a passage.
    """
    samples, length, hop = estimate.shape[-1], SECONDS * rate, round(WINDOW_SECONDS * rate)
    if samples <= length:
        return [Passage("whole", 0, samples)]
    frames = round(SECONDS / WINDOW_SECONDS)
    windows = np.lib.stride_tricks.sliding_window_view(sdr, frames)
    counts = (~np.isnan(windows)).sum(axis=1)
    if not counts.any():
        energy = [np.square(estimate[:, at : at + hop], dtype=np.float64).sum() for at in range(0, samples, hop)]
        sums = np.convolve(energy[: len(sdr)], np.ones(frames), "valid")
        start = int(sums.argmax()) * hop
        return [Passage("loudest", start, start + length)]
    left = np.flatnonzero(counts >= min(frames // 2, counts.max()))
    levels = np.nanmean(np.clip(windows[left], -_AUDIBLE_DB, _AUDIBLE_DB), axis=1)
    middle = np.median(levels)
    found = {}
    for kind, goal in (("worst", -np.inf), ("best", np.inf), ("median", middle)):
        if len(left):
            distance = np.abs(levels - np.clip(goal, -_AUDIBLE_DB, _AUDIBLE_DB))
            found[kind] = left[int(distance.argmin())]
            free = np.abs(left - found[kind]) >= frames // 2
            left, levels = left[free], levels[free]
    return [
        Passage(kind, int(found[kind]) * hop, int(found[kind]) * hop + length)
        for kind in ("worst", "median", "best")
        if kind in found
    ]


def measure_loudness(samples: Array) -> float:
    """Return the loudness of a sound by ITU-R BS.1770-4, without its gates.

    Args:
        samples: ``(channel, time)`` at 48 kHz; all channels count alike.

    Returns:
        LKFS, dB; minus infinity for silence.
    """
    count = samples.shape[-1]
    size = fft.next_fast_len(count, real=True)
    delays = np.exp(-2j * np.pi * np.outer(np.arange(3), np.arange(size // 2 + 1) / size))
    weights = np.square(np.abs(np.prod((_K_WEIGHTING[:, :3] @ delays) / (_K_WEIGHTING[:, 3:] @ delays), axis=0)))
    weights[1 : (size + 1) // 2] *= 2  # all but 0 Hz and half the sample rate stand for two bins
    energy = (np.square(np.abs(fft.rfft(samples, size))) * weights).sum() / size  # Parseval
    with np.errstate(divide="ignore"):
        return float(-0.691 + 10 * np.log10(energy / count))


class Store:
    """What is kept of one song.

    Args:
        folder: Folder of the passages of a run.
        track: Name of the song.
    """

    def __init__(self, folder: Path, track: str) -> None:
        self._folder, self._track = folder, track

    def locate_song(self, fingerprint: str) -> Path:
        """Return the file with mixture and reference, for passages that the estimate with a fingerprint chose."""
        return self._locate("song", fingerprint)

    def locate_estimate(self, fingerprint: str, passages: Sequence[Passage]) -> Path:
        """Return the file with the passages of an estimate."""
        return self._locate("estimate", fingerprint, *(f"{passage.start} {passage.stop}" for passage in passages))

    def _locate(self, *parts: str) -> Path:
        text = "\n".join([str(_FORM), self._track, *parts])
        return self._folder / f"{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.zip"

    def read_passages(self, fingerprint: str) -> list[Passage] | None:
        """Return the passages that an estimate chose; None if it has not chosen any."""
        path = self.locate_song(fingerprint)
        return [Passage(**passage) for passage in read_about(path)["passages"]] if path.exists() else None

    def is_complete(self, fingerprints: Sequence[str]) -> bool:
        """Return whether there is everything of these estimates, and the first one chose the passages."""
        passages = self.read_passages(fingerprints[0]) if fingerprints else []
        return passages is not None and all(self.locate_estimate(each, passages).exists() for each in fingerprints)


class Collector:
    """Cuts the passages of one song out of its estimates, one after the other, so only one is in memory at a time.

    Args:
        store: Where they are kept.
        song: The song.
        ceiling: The vocals that an ideal mask finds. Called once, if at all.
    """

    def __init__(self, store: Store, song: Song, ceiling: Callable[[], Waveform]) -> None:
        self._store, self._song, self._ceiling = store, song, ceiling
        self._passages: list[Passage] | None = None
        self._sung = _find_sung_frames(song)

    def needs(self, fingerprint: str) -> bool:
        """Return whether an estimate has to be added. Ask for each estimate in order, before you add it."""
        if self._passages is None:
            self._passages = self._store.read_passages(fingerprint)
        return self._passages is None or not self._store.locate_estimate(fingerprint, self._passages).exists()

    def add(self, fingerprint: str, vocals: Waveform) -> None:
        """Add an estimate of the vocals, ``(channel, time)``. The first one chooses the passages."""
        sdr = self._measure(vocals)
        if self._passages is None:
            self._passages = choose(sdr, vocals, self._song.rate)
            self._write_song(self._store.locate_song(fingerprint))
        pairs = [(self._cut(vocals, passage), self._cut(self._song.vocals, passage)) for passage in self._passages]
        whole = [(self._song.vocals[:, p.start : p.stop], vocals[:, p.start : p.stop]) for p in self._passages]
        _write(
            self._store.locate_estimate(fingerprint, self._passages),
            {"estimate": [made for made, _ in pairs], "error": [made - true for made, true in pairs]},
            frames=_to_list(sdr),
            sdr=_to_list(np.array([metrics.sdr(true, made) for true, made in whole])),
        )

    def _write_song(self, path: Path) -> None:
        assert self._passages is not None
        song, mixture = self._song, self._song.mixture
        _write(
            path,
            {
                "mixture": [self._cut(mixture, passage) for passage in self._passages],
                "reference": [self._cut(song.vocals, passage) for passage in self._passages],
            },
            passages=[asdict(passage) for passage in self._passages],
            songRate=song.rate,
            seconds=round(song.seconds, 3),
            frameSeconds=min(WINDOW_SECONDS, song.seconds),
            frames={"floor": _to_list(self._measure(mixture)), "ceiling": _to_list(self._measure(self._ceiling()))},
            waveform={"mixture": _find_peaks(mixture), "reference": _find_peaks(song.vocals)},
        )

    def _measure(self, vocals: Waveform) -> Floats:
        """Return the SDR of each frame, dB; NaN where nobody sings."""
        song = self._song
        sdr = metrics.framewise_sdr(song.vocals, vocals, song.rate, window_seconds=WINDOW_SECONDS)
        return np.where(self._sung, sdr, np.nan)

    def _cut(self, samples: Waveform, passage: Passage) -> Array:
        """Return a passage at 48 kHz, with short fades, because another passage follows it in the bundle."""
        part = samples[:, passage.start : passage.stop]
        count = min(PIECE, max(1, round(part.shape[-1] * RATE / self._song.rate)))
        cut = audio.resample(part, self._song.rate, RATE)[:, :count]
        cut = np.pad(cut, ((0, 0), (0, count - cut.shape[-1])))
        ramp = np.linspace(0, 1, min(FADE, count), dtype=np.float32)
        cut[:, : len(ramp)] *= ramp
        cut[:, -len(ramp) :] *= ramp[::-1]
        return cut


Levels = dict[str, list[float | None]]
"""``loudness`` and ``peak`` of a stem in each passage, dB; None where it is silent."""


def _find_sung_frames(song: Song) -> npt.NDArray[np.bool_]:
    """Return in which frames the reference is not 50 dB softer than in its loudest one, ``(frame,)``.

    Elsewhere, stems of recordings hold noise instead of silence, and an estimate that leaves out this noise would be
    the worst of all.
    """
    frame = min(round(WINDOW_SECONDS * song.rate), song.vocals.shape[-1])
    count = song.vocals.shape[-1] // frame
    power = np.square(song.vocals[:, : count * frame], dtype=np.float64).reshape(-1, count, frame).sum(axis=(0, 2))
    return np.asarray(power >= power.max() * 10 ** (-_QUIET_DB / 10))


def match_levels(reference: Levels, sources: Sequence[Levels]) -> list[list[float]]:
    """Compute the gains at which all sources are as loud as the reference, passage by passage.

    Args:
        reference: Levels of the reference.
        sources: Levels of each source, in the same passages.

    Returns:
        Gains in dB, ``[source][passage]``, at most 24 dB up or down. If a source would exceed full scale, all are
        lowered by the same amount. Where the reference or a source is silent, levels stay as they are.
    """
    loudness, peaks = (np.array([source[key] for source in sources], float) for key in ("loudness", "peak"))
    gains = np.array(reference["loudness"], float) - loudness
    gains = np.where(np.isnan(gains), 0, np.clip(gains, -_LARGEST_GAIN_DB, _LARGEST_GAIN_DB))
    excess = np.fmax.reduce(gains + peaks, axis=0, initial=0)
    return [[round(float(gain), 2) for gain in row] for row in gains - excess]


def read_about(path: Path) -> dict[str, Any]:
    """Return the ``song.json`` of a bundle."""
    with zipfile.ZipFile(path) as bundle:
        about: dict[str, Any] = json.loads(bundle.read("song.json"))
    return about


def _write(path: Path, stems: dict[str, list[Array]], **about: Any) -> None:
    """Write a bundle of passages, with the loudness and the peak of each stem in each of them."""
    path.parent.mkdir(exist_ok=True)
    levels = {
        name: {
            "loudness": [_to_json(measure_loudness(part)) for part in parts],
            "peak": [_to_json(_to_peak_db(part)) for part in parts],
        }
        for name, parts in stems.items()
    }
    channels = len(next(iter(stems.values()))[0])
    bitrates = [(_ERROR_BITRATES if name == "error" else _BITRATES)[min(channels, 2) - 1] for name in stems]
    with (
        files.write_atomically(path) as temporary,
        listening.BundleWriter(temporary, list(stems), rate=RATE, channels=channels, bitrates=bitrates) as writer,
    ):
        for parts in zip(*stems.values(), strict=True):
            writer.write(parts)
        writer.finish(levels=levels, **about)


def _to_peak_db(samples: Array) -> float:
    with np.errstate(divide="ignore"):
        return float(20 * np.log10(np.abs(samples).max()))


def _to_json(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def _to_list(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else round(float(np.clip(value, -_LIMIT_DB, _LIMIT_DB)), 2) for value in values]


def _find_peaks(samples: Waveform) -> list[int]:
    """Return the waveform of a whole song: square roots of peaks times 255, at most `_POINTS` of them."""
    edges = np.unique(np.linspace(0, samples.shape[-1], min(_POINTS, samples.shape[-1]) + 1).astype(int))
    peaks = np.maximum.reduceat(np.abs(samples).max(axis=0), edges[:-1])
    values: list[int] = np.round(255 * np.sqrt(np.clip(peaks, 0, 1))).astype(int).tolist()
    return values
