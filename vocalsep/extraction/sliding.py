"""The sliding window: vocals that follow the song by a fraction of a second.

The offline engine waits until a chunk of some 3 s is full. Here, a chunk ends at the newest sample, and slides on in
small steps. At each step the net sees the last chunk and the vocals of one step are taken from near its end. Chunks are
shorter than offline, because the net runs on one at every step:

    song     ...-----------------------------------------------|   the newest sample
    net      |<------------------- chunk --------------------->|
    vocals                      ...--------|<- step ->|<future>|

Frames at the end of a chunk reach past the newest sample. They count it as zero there, for the net as for the song's
own spectrum. The inverse STFT divides by the windows of just these frames, so a mask of 1 still returns the song.
Each step's vocals are faded into what the step before foresaw of them.

The song counts as silent after its end. Before its start, the net hears the same frames backwards: silence there would
cost 0.6 dB in the first seconds, because the net was trained on stretches from the middle of songs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vocalsep import audio, masks, stft
from vocalsep.backends import Backend, to_numpy
from vocalsep.errors import ConfigError
from vocalsep.extraction.chunks import Buffer, join
from vocalsep.extraction.estimators import Lookahead
from vocalsep.extraction.masking import estimate_masks
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.features import FrontEnd
from vocalsep.kinds import array_namespace, copy_frame_by_frame, get_device, silence_non_finite
from vocalsep.latency import LATENCIES, check
from vocalsep.shapes import AnyArray, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis, Grid
from vocalsep.weights import Model

_STEP_SHARE = 1 / 3  # of the latency
_MIN_STEP_SECONDS = 0.03  # smaller ones gain little, and the net runs once per step
_COMPUTE_SHARE = 0.31  # of the latency, in which the net has to answer; never more than a step
_PAST_SECONDS = 1.2  # that the net hears before the vocals of a step; more is worth nothing, and costs time
_MARGIN = 1.2  # times the measured seconds that a step needs, because machines have other work
_MAX_FUTURE, _MAX_STEP = 0.5, 0.25  # of a chunk: more future is worth nothing, since the past becomes too short


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How the window slides, in samples of the song.

    Attributes:
        grid: The song's own grid.
        frames: Number of frames that the net sees at each step, on the net's grid.
        step: Samples between steps, a multiple of the grid's hop.
        future: Samples that the net sees after those whose vocals are taken.
        compute_seconds: Seconds that a step may take to compute, so that its vocals are in time.
    """

    grid: Grid
    frames: int
    step: int
    future: int
    compute_seconds: float

    @property
    def fade(self) -> int:
        """Samples over which the vocals of a step are faded into those of the step before."""
        return min(self.grid.hop // 2, self.future)

    @property
    def step_seconds(self) -> float:
        """Seconds between steps."""
        return self.step / self.grid.rate

    @property
    def latency_seconds(self) -> float:
        """The longest time between a sample and its vocals, in seconds: a step, the future and `compute_seconds`."""
        return (self.step + self.future) / self.grid.rate + self.compute_seconds


def choose_pace(front_end: FrontEnd, rate: int, latency_seconds: float, frame_step: int | None) -> Pace:
    """Choose how the window slides so that the vocals are at most `latency_seconds` behind.

    Args:
        front_end: The net's front end.
        rate: The song's sample rate in Hz.
        latency_seconds: See `latency`.
        frame_step: See `RunSettings`.

    Raises:
        ConfigError: If the latency is out of range, or too short for the frames of this model.
    """
    check(latency_seconds)
    grid = front_end.grid.at_rate(rate)
    chunk_seconds = front_end.chunk_samples / front_end.rate
    if (front_end.n_fft / 2 + front_end.hop) / front_end.rate > (1 - _MAX_FUTURE - _MAX_STEP) * chunk_seconds:
        raise ConfigError(f"this model's chunks of {front_end.frames} frames are too short to slide over a song")
    least = -(-_MIN_STEP_SECONDS // grid.frame_seconds)
    most = max(least, _MAX_STEP * chunk_seconds // grid.frame_seconds)
    step = int(min(max(round(_STEP_SHARE * latency_seconds / grid.frame_seconds), least), most)) * grid.hop
    compute_seconds = min(step / rate, _COMPUTE_SHARE * latency_seconds)
    left = latency_seconds - step / rate - compute_seconds
    if left < 0:
        raise ConfigError(f"a latency of {latency_seconds:g} s is too short for this model's frames")
    future = int(min(left, _MAX_FUTURE * chunk_seconds) * rate)
    frames = _choose_frames(front_end, (step + future) / rate + _PAST_SECONDS, frame_step)
    return Pace(grid=grid, frames=frames, step=step, future=future, compute_seconds=compute_seconds)


def _choose_frames(front_end: FrontEnd, seconds: float, frame_step: int | None) -> int:
    """Return the fewest frames that the net takes and that last so many seconds, or those of a whole chunk."""
    step = frame_step or front_end.frames
    return min(-(-math.ceil(seconds / front_end.grid.frame_seconds) // step) * step, front_end.frames)


def choose_latency(nets: Sequence[tuple[Callable[[float], Pace], float]]) -> float:
    """Return the shortest of `LATENCIES` that a machine can hold, or the longest if it can hold none.

    Args:
        nets: For each net, how it chooses its pace for a latency, and the seconds that the machine takes to compute a
            step, for each frame that the net sees. All nets have to answer in the time that each has.
    """
    for seconds in LATENCIES:
        try:
            paces = [choose(seconds) for choose, _ in nets]
        except ConfigError:  # too short for this model
            continue
        taken = sum(per_frame * pace.frames for (_, per_frame), pace in zip(nets, paces, strict=True))
        if _MARGIN * taken <= min(pace.compute_seconds for pace in paces):
            return seconds
    return LATENCIES[-1]


class SlidingEstimator:
    """Estimates the vocals of one song in a sliding window; see `vocalsep.extraction.estimators.Estimator`.

    Args:
        model: The model.
        backend: Runs the model's net.
        pace: How the window slides.
        channels: The song's number of channels.
        ahead: Computes the vocals of steps.
    """

    detector: VoiceDetector | None = None

    def __init__(
        self, model: Model, backend: Backend, pace: Pace, channels: int, *, ahead: Lookahead[Waveform]
    ) -> None:
        front_end = model.front_end
        self._backend, self._front_end, self._pace, self._channels = backend, front_end, pace, channels
        self._ahead = ahead
        self._samples = Buffer()  # of the song, less than a step
        self._song = Analysis(pace.grid)
        self._spectrum = Buffer()  # frames of the song that are complete and still needed
        self._resampler = audio.Resampler(pace.grid.rate, front_end.rate, channels)
        self._net = self._song if pace.grid == front_end.grid else Analysis(front_end.grid)
        self._power = Buffer()  # of the net's last frames that are complete
        self._total = self._returned = 0  # samples of the song and of its vocals so far
        self._foreseen: Waveform = np.zeros((channels, 0), np.float32)  # the next samples, as the last step sees them
        self.is_invalid = False

    def push(self, block: Waveform) -> Waveform:
        """See `Estimator.push`."""
        vocals = self._advance(block)
        self._returned += vocals.shape[-1]
        return vocals

    def finish(self) -> Waveform:
        """See `Estimator.finish`."""
        total, step = self._total, self._pace.step
        steps = -(-(total + self._pace.future) // step)
        silence = np.zeros((self._channels, steps * step - total), np.float32)
        parts = [self._advance(silence), *map(self._fade, self._ahead.collect(last=True))]
        return join(parts)[:, : total - self._returned]

    def _advance(self, block: Waveform) -> Waveform:
        self._total += block.shape[-1]
        self._samples.push(block)
        parts = [self._samples.peek(0, 0)]
        while self._samples.length >= self._pace.step:
            self._submit(self._samples.pop(self._pace.step))
            parts += map(self._fade, self._ahead.collect(last=False))
        return join(parts)

    def _submit(self, block: Waveform) -> None:
        """Take a step: transform the newest samples, and start to estimate the vocals of the next ones in turn."""
        pace, front_end, placed = self._pace, self._front_end, self._backend.place(block)
        complete, begun = _transform(self._song, placed)
        end = self._song.samples
        start, stop = max(0, end - pace.step - pace.future), end - pace.future
        first = max(0, (start - pace.grid.n_fft // 2) // pace.grid.hop)  # the first frame that holds any of them
        self._spectrum.push(complete)
        self._spectrum.drop(first - self._spectrum.start)
        spectrum = join([self._spectrum.peek(), begun])
        if self._net is not self._song:
            complete, begun = _transform(self._net, self._backend.place(self._resampler.push(block)))
        self._power.push(front_end.analyse(complete))
        self._power.drop(max(0, self._power.length - pace.frames))
        last = self._net.samples // front_end.hop  # the last frame of which the net has heard at least half
        half_heard = front_end.analyse(begun[..., : last + 1 - self._power.total])
        chunk = _fill(join([self._power.peek(), half_heard]), pace.frames)
        if stop > 0:
            frames, offset = range(first, first + spectrum.shape[-1]), first * pace.grid.hop

            def estimate() -> Waveform:
                with np.errstate(all="ignore"):
                    mask = self._estimate_mask(chunk, last + 1 - pace.frames, frames)
                    vocals = stft.inverse(masks.apply(mask, spectrum), pace.grid, stop + pace.fade - offset)
                    return silence_non_finite(to_numpy(vocals[..., start - offset :]))

            self._ahead.submit(estimate)

    def _estimate_mask(self, chunk: AnyArray, start: int, frames: range) -> Mask:
        """Estimate the mask of frames of the song.

        Args:
            chunk: What the net sees; see `FrontEnd.analyse`.
            start: Index of the chunk's first frame, on the net's grid.
            frames: Indices of the frames, on the song's grid.
        """
        front_end, grid = self._front_end, self._pace.grid
        found = estimate_masks(self._backend, front_end, chunk[None], 1)
        mask = front_end.ungroup_channels(found, self._channels)[0, ...]
        xp = array_namespace(mask)
        if not bool(xp.all(xp.isfinite(mask))):
            self.is_invalid = True
        needed = int(frames.start * grid.frame_seconds / front_end.grid.frame_seconds) - 1
        skipped = min(max(0, needed - start), mask.shape[-1] - 1)
        mask, start = mask[..., skipped:], start + skipped
        missing = frames.stop - start - mask.shape[-1]
        if missing > 0:  # the last frames are hardly heard yet
            mask = xp.concat([mask, *[mask[..., -1:]] * missing], axis=-1)
        return front_end.project(copy_frame_by_frame(mask), start=start, grid=grid, frames=frames)

    def _fade(self, vocals: Waveform) -> Waveform:
        """Fade the vocals of a step into what the step before foresaw of them, and return those that are final."""
        rise = (np.arange(self._foreseen.shape[-1], dtype=np.float32) + 0.5) / max(1, self._pace.fade)
        vocals[:, : len(rise)] = rise * vocals[:, : len(rise)] + (1 - rise) * self._foreseen
        ready = vocals.shape[-1] - self._pace.fade
        self._foreseen = vocals[:, ready:]
        return vocals[:, :ready]


def _transform(analysis: Analysis, samples: Waveform) -> tuple[Spectrum, Spectrum]:
    """Return the frames that are complete with the next samples, and all frames after them that have begun."""
    return analysis.push(samples), analysis.preview(analysis.grid.parts)


def _fill(power: AnyArray, frames: int) -> AnyArray:
    """Return the last frames for a chunk. If there are too few yet, they are reflected at the start of the song."""
    count, xp = power.shape[-1], array_namespace(power)
    if count >= frames:
        return power[..., count - frames :]
    period = max(1, 2 * (count - 1))
    place = np.abs(np.arange(count - frames, count)) % period
    return xp.take(power, xp.asarray(np.minimum(place, period - place), device=get_device(power)), axis=-1)
