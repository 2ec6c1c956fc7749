"""Draw random excerpts for training: true pairs of one song, remixes across songs, lone voices over any accompaniment.

An excerpt depends on nothing but the seed, the number of its step and its own number within the step. Therefore a
resumed run sees the same excerpts, any thread can prepare a step, and several processes can share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from vocalsep.datasets.cache import DecodedTrack
from vocalsep.errors import ConfigError, DatasetError
from vocalsep.shapes import Array, Waveform
from vocalsep.training.excerpts import augment, keys, silence, studio
from vocalsep.training.excerpts.augment import AugmentOptions, check_probability, check_range

_SILENT = 1e-3  # root mean square below which an excerpt of a lone voice counts as a pause
_RETRIES = 8  # how often another excerpt is drawn in place of a pause
_LONG_SECONDS = 60.0  # a longer track counts as this long, so that no album-length file outweighs the rest
_FARTHEST = augment.Change.of_speed(2 ** (keys.MAX_STEPS / keys.STEPS))  # the move that needs the most source samples


@dataclass(frozen=True)
class Pool:
    """Tracks of one kind to draw from.

    Attributes:
        tracks: The tracks. Longer ones are drawn more often, in proportion to their length.
        weight: How often this pool is drawn from, relative to other pools of its kind.
        balanced: Whether all artists or singers are drawn equally often, however long their recordings are.
        remixed: Whether the stems of a song may be drawn and changed independently. Otherwise the song only makes
            true pairs, and both stems get the same changes.
    """

    tracks: Sequence[DecodedTrack]
    weight: float = 1.0
    balanced: bool = False
    remixed: bool = True

    def compute_shares(self, rate: int) -> Array:
        """Return the probability of each track, ``(track,)``; they sum to 1."""
        shares = np.minimum([track.samples for track in self.tracks], _LONG_SECONDS * rate)
        if self.balanced:
            _, group = np.unique([track.track.group for track in self.tracks], return_inverse=True)
            shares = shares / np.bincount(group, weights=shares)[group]
        return np.asarray(shares / shares.sum())


@dataclass(frozen=True, kw_only=True)
class ExcerptOptions:
    """How excerpts are made. Probabilities are shares of all excerpts; levels are in dB.

    Songs of a pool that is not `remixed` (see `Pool`) keep both stems and get no second voice.

    Attributes:
        pairs: Weight of vocals with their own accompaniment.
        remixes: Weight of vocals of one song over an accompaniment drawn independently.
        voices: Weight of lone voices over any accompaniment.
        instrumentals: Probability that a remix or a lone voice gets a lone instrumental, not a song's accompaniment.
        vocal_free: Probability that the vocals are removed.
        voice_only: Probability that the accompaniment is removed. Excerpts with silent vocals keep it.
        second_voice: Probability that another voice, from a song or a lone one, joins the vocals. Silent vocals get
            none.
        second_voice_db: Range of the second voice's level relative to the first.
        cut_silence: Whether to cut stretches without singing from vocals, and from the accompaniment of true pairs.
        silence_db: Level relative to the loudest frame of the vocals, at or below which a frame counts as silent.
        gain_db: Range of the gain of each stem, drawn independently. Lone voices use `voice_level_db` instead.
        voice_level_db: Range of a lone voice's level relative to its accompaniment.
        swap: Probability that left and right are swapped.
        polarity: Probability, for each stem, that its sign is flipped.
        in_key: Probability that the vocals of a remix, or a lone voice, are sped up or slowed down by up to three
            semitones to match the key of the accompaniment. This replaces the change that `augment` would draw.
        augment: Changes of sound.

    Raises:
        ConfigError: If a value is out of range.
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
            raise ConfigError("pairs, remixes and voices are weights: none may be negative, and one must be above 0")
        for name in ("instrumentals", "vocal_free", "voice_only", "second_voice", "swap", "polarity", "in_key"):
            check_probability(name, getattr(self, name))
        if self.vocal_free + self.voice_only > 1:
            raise ConfigError("vocal_free and voice_only are shares of all excerpts: their sum must not exceed 1")
        for name in ("gain_db", "voice_level_db", "second_voice_db"):
            check_range(name, getattr(self, name))
        if self.silence_db >= 0:
            raise ConfigError(f"silence_db = {self.silence_db}: expected a level below 0 dB")


class ExcerptBatch(NamedTuple):
    """A batch of excerpts.

    Attributes:
        vocals: ``(batch, channel, time)``.
        accompaniment: The same shape.
        tracks: For each excerpt, the names of the tracks it was made from.
    """

    vocals: Waveform
    accompaniment: Waveform
    tracks: tuple[tuple[str, ...], ...]

    def pin_memory(self) -> ExcerptBatch:
        """Return the batch in pinned memory, from where CUDA fetches it while the processor goes on."""
        return self._replace(vocals=self.vocals.pin_memory(), accompaniment=self.accompaniment.pin_memory())


@dataclass(frozen=True, kw_only=True)
class ExcerptSampler:
    """Draws batches of excerpts from pools of tracks.

    Attributes:
        songs: Tracks with vocals and accompaniment.
        voices: Lone voices.
        instrumentals: Accompaniments without any voice.
        samples: Length of an excerpt.
        rate: Sample rate of the tracks, Hz.
        options: Probabilities and levels.
        seed: Decides every excerpt, together with the number of the step.

    Raises:
        DatasetError: If a pool is empty, or the options need a kind of track that no pool has.
    """

    songs: Sequence[Pool]
    voices: Sequence[Pool] = ()
    instrumentals: Sequence[Pool] = ()
    samples: int
    rate: int
    options: ExcerptOptions = field(default_factory=ExcerptOptions)
    seed: int = 0
    _sung_frames: dict[int, silence.Frames] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for kind in ("songs", "voices", "instrumentals"):
            if not all(pool.tracks for pool in getattr(self, kind)):
                raise DatasetError(f"a pool of {kind} has no tracks")
        for share, pools, what in (
            (self.options.pairs, self.songs, "songs"),
            (self.options.voices, self.voices, "voices"),
            (self.options.remixes, self.remixed, "songs whose stems may be remixed"),
            (self.options.remixes + self.options.voices, (*self.remixed, *self.instrumentals), "accompaniments"),
            (self.options.second_voice, (*self.remixed, *self.voices), "second voices"),
        ):
            if share and not pools:
                raise DatasetError(
                    f"no {what} to train on, but the recipe asks for some; add a pool or set the share to 0"
                )

    def draw_batch(self, step: int, size: int, *, first: int = 0, every: int = 1) -> ExcerptBatch:
        """Draw the excerpts of a step, or one process's share of them.

        Args:
            step: Number of the step.
            size: Excerpts in the whole step.
            first: Number of the first excerpt to draw.
            every: Draw every Nth excerpt from `first` on.
        """
        draws = [_ExcerptDraw(self, index, step) for index in range(first, size, every)]
        stems = [draw.make_excerpt() for draw in draws]
        vocals, accompaniment = (torch.from_numpy(np.stack(stem)) for stem in zip(*stems, strict=True))
        return ExcerptBatch(vocals, accompaniment, tuple(tuple(draw.tracks) for draw in draws))

    @property
    def remixed(self) -> Sequence[Pool]:
        """Pools of songs whose stems may be drawn and changed independently."""
        return [pool for pool in self.songs if pool.remixed]

    @property
    def excerpts_per_epoch(self) -> int:
        """Excerpts that hold as much sound as all songs, or as all voices if there are no songs."""
        samples = sum(track.samples for pool in self.songs or self.voices for track in pool.tracks)
        return max(1, -(-samples // self.samples))

    def find_sung_frames(self, track: DecodedTrack, frame: int) -> silence.Frames | None:
        """Return the frames of a track with singing, or None to cut nothing because they cannot fill an excerpt."""
        if id(track) not in self._sung_frames:
            found = silence.find_sung_frames(track.stems["vocals"], frame, self.options.silence_db)
            self._sung_frames[id(track)] = found
        frames = self._sung_frames[id(track)]
        return frames if len(frames) * frame >= self.samples else None


class _ExcerptDraw:
    """The state of drawing one excerpt: its random generator, and the tracks drawn so far."""

    def __init__(self, sampler: ExcerptSampler, index: int, step: int) -> None:
        self.sampler, self.options, self.rate = sampler, sampler.options, sampler.rate
        self.rng = np.random.default_rng([sampler.seed, step, index])
        self.tracks: list[str] = []

    def make_excerpt(self) -> tuple[Array, Array]:
        """Return vocals and accompaniment, ``(channel, time)`` each."""
        options, rng = self.options, self.rng
        weights = np.array([options.pairs, options.remixes, options.voices])
        kind = rng.choice(3, p=weights / weights.sum())
        pool = self._choose_pool(self.sampler.songs) if kind == 0 else None
        if pool:
            vocals, accompaniment = self._draw_stems(pool, ("vocals", "accompaniment"))
        else:
            accompaniment = self._draw_accompaniment()
            backing = accompaniment if augment.happens(options.in_key, rng) else None
            if kind == 2:
                vocals = self._draw_lone_voice(backing)
            else:
                vocals = self._draw_stem(self.sampler.remixed, "vocals", backing)
        if pool and not pool.remixed:
            song = augment.equalise(np.concatenate([vocals, accompaniment]), self.rate, rng, options.augment)
            vocals, accompaniment = np.split(song * self._draw_gain(options.gain_db) * self._draw_sign(), 2)
        else:
            vocals, accompaniment = self._change_stems(vocals, accompaniment, lone=kind == 2)
        if rng.random() < options.swap:
            vocals, accompaniment = vocals[::-1], accompaniment[::-1]
        return augment.master(vocals, accompaniment, self.rate, rng, options.augment)

    def _change_stems(self, vocals: Array, accompaniment: Array, *, lone: bool) -> tuple[Array, Array]:
        """Change sound and level of each stem independently; sometimes remove one of the two."""
        options, rng = self.options, self.rng
        vocals = augment.equalise(self._add_second_voice(vocals), self.rate, rng, options.augment)
        accompaniment = augment.equalise(accompaniment, self.rate, rng, options.augment)
        accompaniment = accompaniment * self._draw_gain(options.gain_db) * self._draw_sign()
        if lone:  # the level of the recording says nothing about its place in a mix
            vocals = vocals * np.float32(max(_level(accompaniment), _SILENT) / max(_level(vocals), _SILENT))
        vocals = vocals * self._draw_gain(options.voice_level_db if lone else options.gain_db) * self._draw_sign()
        removed = rng.random()
        if removed < options.vocal_free:
            vocals = np.zeros_like(vocals)
        elif removed < options.vocal_free + options.voice_only and _level(vocals) > _SILENT:
            accompaniment = np.zeros_like(accompaniment)
        return vocals, accompaniment

    def _draw_accompaniment(self) -> Array:
        songs, instrumentals = self.sampler.remixed, self.sampler.instrumentals
        lone = instrumentals and (not songs or self.rng.random() < self.options.instrumentals)
        return self._draw_stem(instrumentals if lone else songs, "accompaniment")

    def _draw_lone_voice(self, backing: Array | None = None) -> Array:
        for _ in range(1 + _RETRIES):
            voice = self._draw_stem(self.sampler.voices, "vocals", backing)
            if _level(voice) > _SILENT:
                break
        return studio.produce(voice, self.rate, self.rng, self.options.augment)

    def _add_second_voice(self, vocals: Array) -> Array:
        if not augment.happens(self.options.second_voice, self.rng) or _level(vocals) <= _SILENT:
            return vocals
        songs, voices = self.sampler.remixed, self.sampler.voices
        lone = voices and (not songs or self.rng.random() < 0.5)
        second = self._draw_lone_voice() if lone else self._draw_stem(songs, "vocals")
        same_level = np.float32(_level(vocals) / max(_level(second), _SILENT))
        return vocals + second * same_level * self._draw_gain(self.options.second_voice_db)

    def _draw_stem(self, pools: Sequence[Pool], name: str, backing: Array | None = None) -> Array:
        return self._draw_stems(self._choose_pool(pools), (name,), backing)[0]

    def _draw_stems(self, pool: Pool, names: Sequence[str], backing: Array | None = None) -> list[Array]:
        """Draw a position in a track. Return the named stems from there, all with the same change of pitch and tempo.

        Args:
            pool: Where to draw the track from.
            names: The stems.
            backing: Accompaniment whose key the stems should match; None to draw the change from the options.
        """
        track = pool.tracks[self.rng.choice(len(pool.tracks), p=pool.compute_shares(self.rate))]
        self.tracks.append(track.track.name)
        samples = self.sampler.samples
        frame, fade = silence.compute_frame_and_fade(self.rate)
        cuts = self.options.cut_silence and "vocals" in names
        frames = self.sampler.find_sung_frames(track, frame) if cuts else None
        available = track.samples if frames is None else len(frames) * frame
        change = augment.draw_change(self.options.augment, self.rng) if backing is None else _FARTHEST
        if change.count_source_samples(samples, self.rate) > available:  # the track is too short to be changed
            change = augment.Change()
        needed = change.count_source_samples(samples, self.rate)
        start = int(self.rng.integers(0, max(1, available - needed + 1)))
        stems = [track.stems[name] for name in names]
        if frames is not None:
            first = start // frame
            wanted, start = frames[first : -(-(start + needed) // frame)], start - first * frame
            stems = [silence.join_frames(stem, wanted, frame, fade) for stem in stems]
        pieces = np.concatenate([stem[:, start : start + needed] for stem in stems]).astype(np.float32)
        pieces = np.pad(pieces, ((0, 0), (0, needed - pieces.shape[1])))
        if backing is not None and change == _FARTHEST:
            change = augment.Change.of_speed(keys.find_matching_ratio(pieces, backing, self.rate))
        return np.split(change.apply(pieces, samples, self.rate), len(names))

    def _choose_pool(self, pools: Sequence[Pool]) -> Pool:
        weights = np.array([pool.weight for pool in pools])
        return pools[self.rng.choice(len(pools), p=weights / weights.sum())]

    def _draw_gain(self, range_db: tuple[float, float]) -> np.float32:
        return np.float32(10 ** (self.rng.uniform(*range_db) / 20))

    def _draw_sign(self) -> np.float32:
        return np.float32(-1 if self.rng.random() < self.options.polarity else 1)


def _level(samples: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples))))
