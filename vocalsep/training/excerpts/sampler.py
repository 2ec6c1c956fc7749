"""Random excerpts for training: true pairs of a song, remixes across songs, lone voices over anything.

An excerpt depends on the seed, the step's number and its own number within the step alone: a resumed run sees what it
would have, any thread may prepare a step, and several processes may share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from vocalsep.datasets.cache import Array, Decoded
from vocalsep.errors import ConfigError, DatasetError
from vocalsep.shapes import Waveform
from vocalsep.training.excerpts import augment, keys, silence, studio
from vocalsep.training.excerpts.augment import AugmentOptions, check_range, check_share

_SILENT = 1e-3  # a lone voice below this root mean square is a pause, and another excerpt is drawn
_TRIES = 8
_FARTHEST = augment.Change.of_speed(2 ** (keys.FARTHEST / keys.STEPS))  # of those that make a voice suit a key


@dataclass(frozen=True, kw_only=True)
class ExcerptOptions:
    """How excerpts are made. Probabilities are shares of all excerpts, levels are in dB.

    Songs that are not to be remixed (see `Pool`) always have both stems and no second voice.

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
        in_key: Probability that vocals of a remix, and lone voices, are played at the speed at which they suit the
            accompaniment's key, up to three semitones away, instead of one drawn by `augment`.
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
    in_key: float = 0.0
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        if min(self.pairs, self.remixes, self.voices) < 0 or self.pairs + self.remixes + self.voices <= 0:
            raise ConfigError("pairs, remixes and voices are weights: none negative, not all 0")
        for name in ("instrumentals", "vocal_free", "voice_only", "second_voice", "swap", "polarity", "in_key"):
            check_share(name, getattr(self, name))
        if self.vocal_free + self.voice_only > 1:
            raise ConfigError("vocal_free and voice_only are shares of all excerpts: together at most 1")
        for name in ("gain_db", "voice_level_db", "second_voice_db"):
            check_range(name, getattr(self, name))
        if self.silence_db >= 0:
            raise ConfigError(f"silence_db = {self.silence_db}: expected a level below 0")


class Drawn(NamedTuple):
    """A batch of excerpts.

    Attributes:
        vocals: ``(batch, channel, time)``.
        accompaniment: The same shape.
        tracks: For each excerpt the names of the tracks that it was made of.
    """

    vocals: Waveform
    accompaniment: Waveform
    tracks: tuple[tuple[str, ...], ...]


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
        for kind in ("songs", "voices", "instrumentals"):
            if not all(pool.tracks for pool in getattr(self, kind)):
                raise DatasetError(f"a pool of {kind} has no tracks")
        for asked, found, what in (
            (self.options.pairs, self.songs, "songs"),
            (self.options.voices, self.voices, "voices"),
            (self.options.remixes, self.remixed, "songs whose stems may be remixed"),
            (self.options.remixes + self.options.voices, (*self.remixed, *self.instrumentals), "accompaniments"),
            (self.options.second_voice, (*self.remixed, *self.voices), "second voices"),
        ):
            if asked and not found:
                raise DatasetError(f"no {what} to train on, but excerpts of them are asked for; set their weight to 0")

    def batch(self, step: int, size: int, *, first: int = 0, every: int = 1) -> Drawn:
        """The excerpts of a step, or a share of them.

        Args:
            step: Number of the step.
            size: Excerpts of the whole step.
            first: The first excerpt wanted.
            every: Every so-many-th is wanted from there on.
        """
        hands = [_Hand(self, index, step) for index in range(first, size, every)]
        drawn = [hand.excerpt() for hand in hands]
        vocals, accompaniment = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        return Drawn(vocals, accompaniment, tuple(tuple(hand.tracks) for hand in hands))

    @property
    def remixed(self) -> Sequence[Pool]:
        """The songs whose stems may be drawn and changed apart from each other."""
        return [pool for pool in self.songs if pool.remixed]

    @property
    def epoch(self) -> int:
        """Excerpts that hold as much sound as the songs have, or the voices where there are no songs."""
        samples = sum(track.samples for pool in self.songs or self.voices for track in pool.tracks)
        return max(1, -(-samples // self.samples))

    def sung_frames(self, track: Decoded, frame: int) -> silence.Frames | None:
        """Frames of a track with singing, or None if they do not fill an excerpt: then nothing is cut."""
        if id(track) not in self._sung:
            self._sung[id(track)] = silence.sung(track.stems["vocals"], frame, self.options.silence_db)
        frames = self._sung[id(track)]
        return frames if len(frames) * frame >= self.samples else None


class _Hand:
    """One excerpt, while it is being drawn."""

    def __init__(self, excerpts: Excerpts, index: int, step: int) -> None:
        self.excerpts, self.options, self.rate = excerpts, excerpts.options, excerpts.rate
        self.rng = np.random.default_rng([excerpts.seed, step, index])
        self.tracks: list[str] = []

    def excerpt(self) -> tuple[Array, Array]:
        """Vocals and accompaniment, ``(channel, time)`` each."""
        options, rng = self.options, self.rng
        weights = np.array([options.pairs, options.remixes, options.voices])
        kind = rng.choice(3, p=weights / weights.sum())
        pool = self._pool(self.excerpts.songs) if kind == 0 else None
        if pool:
            vocals, accompaniment = self._pieces(pool, ("vocals", "accompaniment"))
        else:
            accompaniment = self._accompaniment()
            suits = accompaniment if augment.chance(options.in_key, rng) else None
            vocals = self._lone_voice(suits) if kind == 2 else self._any(self.excerpts.remixed, "vocals", suits)
        if pool and not pool.remixed:
            song = augment.equalise(np.concatenate([vocals, accompaniment]), self.rate, rng, options.augment)
            vocals, accompaniment = np.split(song * self._gain(options.gain_db) * self._sign(), 2)
        else:
            vocals, accompaniment = self._changed_apart(vocals, accompaniment, lone=kind == 2)
        if rng.random() < options.swap:
            vocals, accompaniment = vocals[::-1], accompaniment[::-1]
        return augment.master(vocals, accompaniment, self.rate, rng, options.augment)

    def _changed_apart(self, vocals: Array, accompaniment: Array, *, lone: bool) -> tuple[Array, Array]:
        """Both, each with a sound and a level of its own; sometimes one of them alone."""
        options, rng = self.options, self.rng
        vocals = augment.equalise(self._second_voice(vocals), self.rate, rng, options.augment)
        accompaniment = augment.equalise(accompaniment, self.rate, rng, options.augment)
        accompaniment = accompaniment * self._gain(options.gain_db) * self._sign()
        if lone:  # its own level means nothing
            vocals = vocals * np.float32(max(_level(accompaniment), _SILENT) / max(_level(vocals), _SILENT))
        vocals = vocals * self._gain(options.voice_level_db if lone else options.gain_db) * self._sign()
        alone = rng.random()
        if alone < options.vocal_free:
            vocals = np.zeros_like(vocals)
        elif alone < options.vocal_free + options.voice_only and _level(vocals) > _SILENT:
            accompaniment = np.zeros_like(accompaniment)
        return vocals, accompaniment

    def _accompaniment(self) -> Array:
        songs, lone = self.excerpts.remixed, self.excerpts.instrumentals
        alone = lone and (not songs or self.rng.random() < self.options.instrumentals)
        return self._any(lone if alone else songs, "accompaniment")

    def _lone_voice(self, suits: Array | None = None) -> Array:
        for _ in range(1 + _TRIES):
            voice = self._any(self.excerpts.voices, "vocals", suits)
            if _level(voice) > _SILENT:
                break
        return studio.produce(voice, self.rate, self.rng, self.options.augment)

    def _second_voice(self, vocals: Array) -> Array:
        if not augment.chance(self.options.second_voice, self.rng) or _level(vocals) <= _SILENT:
            return vocals
        songs, lone = self.excerpts.remixed, self.excerpts.voices
        alone = lone and (not songs or self.rng.random() < 0.5)
        second = self._lone_voice() if alone else self._any(songs, "vocals")
        unit = np.float32(_level(vocals) / max(_level(second), _SILENT))
        return vocals + second * unit * self._gain(self.options.second_voice_db)

    def _any(self, pools: Sequence[Pool], stem: str, suits: Array | None = None) -> Array:
        return self._pieces(self._pool(pools), (stem,), suits)[0]

    def _pieces(self, pool: Pool, names: Sequence[str], suits: Array | None = None) -> list[Array]:
        """One place of one track in some of its stems, with one change of pitch and tempo for all of them.

        It is drawn, or what makes them suit the key of what they are to be heard with.
        """
        track = pool.tracks[self.rng.choice(len(pool.tracks), p=pool.shares(self.rate))]
        self.tracks.append(track.track.name)
        samples = self.excerpts.samples
        frame, fade = silence.frame_and_fade(self.rate)
        cuts = self.options.cut_silence and "vocals" in names
        frames = self.excerpts.sung_frames(track, frame) if cuts else None
        room = track.samples if frames is None else len(frames) * frame
        change = augment.draw_change(self.options.augment, self.rng) if suits is None else _FARTHEST
        if change.source_samples(samples, self.rate) > room:  # too short a track to change it
            change = augment.Change()
        needed = change.source_samples(samples, self.rate)
        start = int(self.rng.integers(0, max(1, room - needed + 1)))
        stems = [track.stems[name] for name in names]
        if frames is not None:
            first = start // frame
            wanted, start = frames[first : -(-(start + needed) // frame)], start - first * frame
            stems = [silence.join(stem, wanted, frame, fade) for stem in stems]
        pieces = np.concatenate([stem[:, start : start + needed] for stem in stems]).astype(np.float32)
        pieces = np.pad(pieces, ((0, 0), (0, needed - pieces.shape[1])))
        if suits is not None and change == _FARTHEST:
            change = augment.Change.of_speed(keys.suiting_ratio(pieces, suits, self.rate))
        return np.split(change.apply(pieces, samples, self.rate), len(names))

    def _pool(self, pools: Sequence[Pool]) -> Pool:
        weights = np.array([pool.weight for pool in pools])
        return pools[self.rng.choice(len(pools), p=weights / weights.sum())]

    def _gain(self, range_db: tuple[float, float]) -> np.float32:
        return np.float32(10 ** (self.rng.uniform(*range_db) / 20))

    def _sign(self) -> np.float32:
        return np.float32(-1 if self.rng.random() < self.options.polarity else 1)


def _level(samples: Array) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


_LONG_SECONDS = 60.0  # a track counts in proportion to its length up to this, so that no album outweighs the rest


@dataclass(frozen=True)
class Pool:
    """Tracks of one kind.

    Attributes:
        tracks: The tracks, each drawn in proportion to its length.
        weight: How often they are drawn from, against other pools of their kind.
        balanced: Whether all artists or singers are drawn equally often, however much there is of each.
        remixed: Whether stems of its songs are drawn apart from each other and changed apart; else they make pairs
            alone, and what is done to one is done to the other.
    """

    tracks: Sequence[Decoded]
    weight: float = 1.0
    balanced: bool = False
    remixed: bool = True

    def shares(self, rate: int) -> Array:
        """How often each track is drawn, ``(track,)``, with the sum 1."""
        shares = np.minimum([track.samples for track in self.tracks], _LONG_SECONDS * rate)
        if self.balanced:
            _, group = np.unique([track.track.group for track in self.tracks], return_inverse=True)
            shares = shares / np.bincount(group, weights=shares)[group]
        return np.asarray(shares / shares.sum())
