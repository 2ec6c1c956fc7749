"""Random excerpts for training: true pairs of a song, remixes across songs, lone voices over anything.

Tracks are decoded once, at the net's rate, into a cache of float16 arrays that are memory-mapped afterwards. Excerpts
depend on the seed and the step's number alone: a resumed run sees what it would have, and any thread may prepare them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vocalsep import files
from vocalsep.datasets import augment, silence
from vocalsep.datasets.augment import AugmentOptions, check_range, check_share
from vocalsep.datasets.tracks import Track
from vocalsep.errors import ConfigError, DatasetError
from vocalsep.shapes import Waveform

Array = npt.NDArray[np.floating]

_LONG_SECONDS = 60.0  # a track counts in proportion to its length up to this, so that no album outweighs the rest
_SILENT = 1e-3  # a lone voice below this root mean square is a pause, and another excerpt is drawn
_TRIES = 8


def cache_folder() -> Path:
    """Where decoded tracks are kept: ``VOCALSEP_CACHE``, else the user's cache folder."""
    named = os.environ.get("VOCALSEP_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "vocalsep"


@dataclass(frozen=True, kw_only=True)
class ExcerptOptions:
    """How excerpts are made. Probabilities are shares of all excerpts, levels are in dB.

    Attributes:
        pairs: Weight of vocals with the accompaniment they belong to.
        remixes: Weight of vocals of one song over an accompaniment drawn on its own.
        voices: Weight of lone voices over any accompaniment.
        instrumentals: How often a remix or a lone voice gets a lone instrumental instead of a song's accompaniment.
        vocal_free: Share of excerpts whose vocals are taken away.
        voice_only: Share of excerpts whose accompaniment is taken away; not where the vocals are silent already.
        second_voice: Probability that another voice, of a song or a lone one, is added to vocals that are not silent.
        second_voice_db: Range of its level against the first.
        cut_silence: Whether stretches without singing are left out of vocals, and of the accompaniment of true pairs.
        silence_db: A frame this far below the loudest of its vocals is silent.
        gain_db: Range of the gain that either source gets, each its own; not for lone voices.
        voice_level_db: Range of a lone voice's level against the accompaniment that it is laid over.
        swap: Probability that left and right change places.
        polarity: Probability, for either source, that its sign is turned.
        augment: Changes to their sound.

    Raises:
        ConfigError: For values out of range.
    """

    pairs: float = 0.35
    remixes: float = 0.30
    voices: float = 0.35
    instrumentals: float = 0.4
    vocal_free: float = 0.08
    voice_only: float = 0.0
    second_voice: float = 0.0
    second_voice_db: tuple[float, float] = (-12.0, 0.0)
    cut_silence: bool = False
    silence_db: float = -60.0
    gain_db: tuple[float, float] = (-10.0, 2.0)
    voice_level_db: tuple[float, float] = (-10.0, 4.0)
    swap: float = 0.5
    polarity: float = 0.5
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        if min(self.pairs, self.remixes, self.voices) < 0 or self.pairs + self.remixes + self.voices <= 0:
            raise ConfigError("pairs, remixes and voices are weights: none negative, not all 0")
        for name in ("instrumentals", "vocal_free", "voice_only", "second_voice", "swap", "polarity"):
            check_share(name, getattr(self, name))
        if self.vocal_free + self.voice_only > 1:
            raise ConfigError("vocal_free and voice_only are shares of all excerpts: together at most 1")
        for name in ("gain_db", "voice_level_db", "second_voice_db"):
            check_range(name, getattr(self, name))
        if self.silence_db >= 0:
            raise ConfigError(f"silence_db = {self.silence_db}: expected a level below 0")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A track in the cache: stems as memory-mapped ``(channel, time)`` arrays."""

    track: Track
    stems: dict[str, Array]

    @property
    def samples(self) -> int:
        """Length; stems of one track are equally long."""
        return int(next(iter(self.stems.values())).shape[1])


def decode(track: Track, rate: int, channels: int, folder: Path | None = None) -> Decoded:
    """Brings a track into the cache, unless it is there, and opens it.

    Args:
        track: The track.
        rate: Rate of the cached stems, Hz.
        channels: Their channel count.
        folder: The cache; `cache_folder` by default.

    Raises:
        DatasetError: If the track cannot be read.
    """
    folder = folder or cache_folder()
    try:
        stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in track.paths]
    except OSError as error:
        raise DatasetError(f"track {track.name!r}: {error.filename}: no such file") from error
    what = repr((stamps, track.vocals, track.accompaniment, rate, channels))
    key = hashlib.sha256(what.encode()).hexdigest()[:24]
    names = [name for name in ("vocals", "accompaniment") if getattr(track, name)]
    paths = {name: folder / f"{key}.{name}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        for name, stem in track.load(rate, channels).items():
            with files.whole(paths[name]) as temporary, temporary.open("wb") as file:
                np.save(file, stem.numpy().astype(np.float16))
    try:
        stems = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
    except ValueError as error:
        raise DatasetError(f"{folder}: the cache of track {track.name!r} is damaged; delete {key}.*") from error
    if min(stem.shape[1] for stem in stems.values()) < 1:
        raise DatasetError(f"track {track.name!r}: has no samples")
    return Decoded(track=track, stems=stems)


@dataclass(frozen=True)
class Pool:
    """Tracks of one kind, and how much they weigh against other pools of their kind."""

    tracks: Sequence[Decoded]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Excerpts:
    """Draws batches of excerpts.

    Attributes:
        songs: Tracks with vocals and accompaniment.
        voices: Lone voices.
        instrumentals: Accompaniments without any voice.
        samples: Length of an excerpt.
        rate: Their rate, Hz.
        options: Probabilities and levels.
        seed: Together with the step it decides everything.

    Raises:
        DatasetError: If the options ask for a kind of track that is not there.
    """

    songs: Sequence[Pool]
    voices: Sequence[Pool] = ()
    instrumentals: Sequence[Pool] = ()
    samples: int
    rate: int
    options: ExcerptOptions = field(default_factory=ExcerptOptions)
    seed: int = 0
    _sung: dict[int, silence.Frames] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        needs = {"songs": self.options.pairs + self.options.remixes, "voices": self.options.voices}
        for kind in ("songs", "voices", "instrumentals"):
            if not all(pool.tracks for pool in getattr(self, kind)):
                raise DatasetError(f"a pool of {kind} has no tracks")
        for kind, weight in needs.items():
            if weight and not getattr(self, kind):
                raise DatasetError(f"no {kind} to train on, but excerpts of them are asked for; set their weight to 0")
        if not self.songs and not self.instrumentals:
            raise DatasetError("no accompaniment to train on: neither songs nor instrumentals")

    def batch(self, step: int, size: int) -> tuple[Waveform, Waveform]:
        """The excerpts of a step.

        Args:
            step: Number of the step.
            size: Excerpts wanted.

        Returns:
            Vocals and accompaniment, ``(batch, channel, time)`` each.
        """
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._excerpt(rng) for _ in range(size)]
        vocals, accompaniment = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        return vocals, accompaniment

    def _excerpt(self, rng: np.random.Generator) -> tuple[Array, Array]:
        options = self.options
        weights = np.array([options.pairs, options.remixes, options.voices])
        kind = rng.choice(3, p=weights / weights.sum())
        if kind == 0:
            vocals, accompaniment = self._pieces(self.songs, ("vocals", "accompaniment"), rng)
        else:
            accompaniment = self._accompaniment(rng)
            vocals = self._lone_voice(rng) if kind == 2 else self._any(self.songs, "vocals", rng)
        vocals = self._second_voice(vocals, rng)
        vocals = augment.equalise(vocals, self.rate, rng, options.augment)
        accompaniment = augment.equalise(accompaniment, self.rate, rng, options.augment)
        accompaniment = accompaniment * _gain(options.gain_db, rng) * _sign(options, rng)
        if kind == 2:  # its own level means nothing
            unit = max(_level(accompaniment), _SILENT) / max(_level(vocals), _SILENT)
            vocals = vocals * np.float32(unit) * _gain(options.voice_level_db, rng) * _sign(options, rng)
        else:
            vocals = vocals * _gain(options.gain_db, rng) * _sign(options, rng)
        alone = rng.random()
        if alone < options.vocal_free:
            vocals = np.zeros_like(vocals)
        elif alone < options.vocal_free + options.voice_only and _level(vocals) > _SILENT:
            accompaniment = np.zeros_like(accompaniment)
        if rng.random() < options.swap:
            vocals, accompaniment = vocals[::-1], accompaniment[::-1]
        return augment.master(vocals, accompaniment, self.rate, rng, options.augment)

    def _accompaniment(self, rng: np.random.Generator) -> Array:
        lone = self.instrumentals and (not self.songs or rng.random() < self.options.instrumentals)
        return self._any(self.instrumentals if lone else self.songs, "accompaniment", rng)

    def _lone_voice(self, rng: np.random.Generator) -> Array:
        voice = self._any(self.voices, "vocals", rng)
        for _ in range(_TRIES):
            if _level(voice) > _SILENT:
                break
            voice = self._any(self.voices, "vocals", rng)
        return voice

    def _second_voice(self, vocals: Array, rng: np.random.Generator) -> Array:
        if not augment.chance(self.options.second_voice, rng) or _level(vocals) <= _SILENT:
            return vocals
        lone = self.voices and (not self.songs or rng.random() < 0.5)
        second = self._lone_voice(rng) if lone else self._any(self.songs, "vocals", rng)
        unit = np.float32(_level(vocals) / max(_level(second), _SILENT))
        return vocals + second * unit * _gain(self.options.second_voice_db, rng)

    def _any(self, pools: Sequence[Pool], stem: str, rng: np.random.Generator) -> Array:
        return self._pieces(pools, (stem,), rng)[0]

    def _pieces(self, pools: Sequence[Pool], names: Sequence[str], rng: np.random.Generator) -> list[Array]:
        """One place of one track in some of its stems, with one change of pitch and tempo for all of them."""
        track = _pick(pools, self.rate, rng)
        frame, fade = silence.frame_and_fade(self.rate)
        frames = self._sung_frames(track, frame) if self.options.cut_silence and "vocals" in names else None
        room = track.samples if frames is None else len(frames) * frame
        change = augment.draw_change(self.options.augment, rng)
        if change.source_samples(self.samples, self.rate) > room:  # too short a track to change it
            change = augment.Change()
        needed = change.source_samples(self.samples, self.rate)
        start = int(rng.integers(0, max(1, room - needed + 1)))
        stems = [track.stems[name] for name in names]
        if frames is not None:
            first = start // frame
            wanted, start = frames[first : -(-(start + needed) // frame)], start - first * frame
            stems = [silence.join(stem, wanted, frame, fade) for stem in stems]
        pieces = np.concatenate([_cut(stem, start, needed) for stem in stems])
        return np.split(change.apply(pieces, self.samples, self.rate), len(names))

    def _sung_frames(self, track: Decoded, frame: int) -> silence.Frames | None:
        """Frames with singing, or None if they do not fill an excerpt: then nothing is cut."""
        if id(track) not in self._sung:
            self._sung[id(track)] = silence.sung(track.stems["vocals"], frame, self.options.silence_db)
        frames = self._sung[id(track)]
        return frames if len(frames) * frame >= self.samples else None


def _cut(stem: Array, start: int, samples: int) -> Array:
    piece = stem[:, start : start + samples].astype(np.float32)
    return np.pad(piece, ((0, 0), (0, samples - piece.shape[1])))


def _pick(pools: Sequence[Pool], rate: int, rng: np.random.Generator) -> Decoded:
    weights = np.array([pool.weight for pool in pools])
    pool = pools[rng.choice(len(pools), p=weights / weights.sum())]
    lengths = np.minimum([track.samples for track in pool.tracks], _LONG_SECONDS * rate)
    return pool.tracks[rng.choice(len(pool.tracks), p=lengths / lengths.sum())]


def _level(samples: Array) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def _gain(range_db: tuple[float, float], rng: np.random.Generator) -> np.float32:
    return np.float32(10 ** (rng.uniform(*range_db) / 20))


def _sign(options: ExcerptOptions, rng: np.random.Generator) -> np.float32:
    return np.float32(-1 if rng.random() < options.polarity else 1)
