"""Treat lone voices as a studio would: compressor, doubling, echo, reverb.

Most lone voices are recorded dry and in the middle; voices in songs hardly ever are. Every effect is off by default.
Each is a pure function of a ``(channel, time)`` array and a random generator. It returns float32 and never changes its
input.
"""

from __future__ import annotations

import math

import numpy as np

from vocalsep.shapes import Array
from vocalsep.stft import next_fast_length
from vocalsep.training.excerpts.augment import FFT_STEP, AugmentOptions, apply_curve, happens

_BLOCK_SECONDS = 0.01  # resolution of the compressor's level
_SMOOTH = 5  # blocks on either side over which that level is averaged
_RATIO = (2.0, 10.0)  # compression ratio
_DOUBLES = 2  # one to the left, one to the right
_DOUBLE_SECONDS = (0.008, 0.035)  # mean delay of a double
_DRIFT_SECONDS = (0.0005, 0.003)  # by which that delay varies up and down
_DRIFT_HZ = (0.2, 0.8)  # how fast it varies
_PAN = 0.3  # gain of a double on its far side
_MIN_ECHO = 0.01  # gain below which an echo is dropped
_DELAY_SECONDS = 0.03  # longest pre-delay of a room
_DULL_HZ = 4_000.0  # frequency at which a room has lost 6 dB


def produce(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """Apply compressor, doubling, echo and reverb in this order, each with its probability.

    Args:
        voice: ``(channel, time)``.
        rate: Sample rate, Hz.
        rng: Source of every random choice.
        options: Probabilities and ranges.

    Returns:
        The same shape.
    """
    for effect in (compress, double, echo, reverberate):
        voice = effect(voice, rate, rng, options)
    return voice


def compress(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """Compress the voice with probability `compressor`, using one gain for all channels.

    Above the threshold, 2 to 10 dB more at the input become 1 dB more at the output.
    """
    if not happens(options.compressor, rng):
        return voice
    samples = voice.shape[1]
    size = max(1, round(_BLOCK_SECONDS * rate))
    count = -(-samples // size)
    power = np.pad(np.square(voice).mean(axis=0), (0, count * size - samples)).reshape(count, size).mean(axis=1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(power, _SMOOTH, mode="edge"), 2 * _SMOOTH + 1)
    level = around.mean(axis=1)
    threshold = float(level.max()) * 10 ** (-rng.uniform(*options.compressor_db) / 10)
    ratio = rng.uniform(*_RATIO)
    if threshold <= 0:
        return voice
    gain = (np.maximum(level, threshold) / threshold) ** ((1 / ratio - 1) / 2)
    curve = np.interp(np.arange(samples), (np.arange(count) + 0.5) * size, gain)
    return np.asarray(voice * curve, np.float32)


def double(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """Double the voice to the left and to the right with probability `double`. Each double lags by a drifting delay."""
    if not happens(options.double, rng):
        return voice
    channels, samples = voice.shape
    gain = 10 ** (rng.uniform(*options.double_db) / 20)
    time = np.arange(samples)
    middle, output = voice.mean(axis=0), voice.astype(np.float32)
    for side in range(_DOUBLES):
        lag, drift, hz = (rng.uniform(*ends) for ends in (_DOUBLE_SECONDS, _DRIFT_SECONDS, _DRIFT_HZ))
        delay = rate * (lag + drift * np.sin(2 * np.pi * (hz * time / rate + rng.random())))
        copy = np.interp(time - delay, time, middle, left=0.0)
        pan = np.full((channels, 1), _PAN)
        pan[side % channels] = 1.0
        output = output + gain * pan * copy
    return np.asarray(output, np.float32)


def echo(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """Repeat the voice with probability `echo`: each repeat is softer and swaps left and right."""
    if not happens(options.echo, rng):
        return voice
    delay = max(1, round(rng.uniform(*options.echo_seconds) * rate))
    gain, decay = (10 ** (rng.uniform(*ends) / 20) for ends in (options.echo_db, options.echo_db))
    output, repeat = voice.astype(np.float32), voice
    for start in range(delay, voice.shape[1], delay):
        if gain < _MIN_ECHO:
            break
        repeat = repeat[::-1]
        output[:, start:] += np.float32(gain) * repeat[:, : voice.shape[1] - start]
        gain *= decay
    return output


def reverberate(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """Add a room with probability `reverb`: decaying noise, different in each channel.

    The model keeps only the decay of a room and its spread over the channels; it has no early reflections. Source:
    Moorer, "About this reverberation business", 1979.
    """
    if not happens(options.reverb, rng):
        return voice
    seconds = math.exp(rng.uniform(*np.log(options.reverb_seconds)))
    gain = 10 ** (rng.uniform(*options.reverb_db) / 20)
    delay = round(rng.uniform(0, _DELAY_SECONDS) * rate)
    channels, samples = voice.shape
    decay = 10 ** (-3 * np.arange(min(samples, math.ceil(seconds * rate))) / (seconds * rate))
    noise = rng.standard_normal((channels, len(decay)), dtype=np.float32)
    room = apply_curve(noise, rate, lambda hz: 1 / (1 + hz / _DULL_HZ)) * decay
    room *= gain / np.sqrt(np.square(room).sum(axis=1).mean())
    padded = next_fast_length(samples + len(decay), multiple_of=FFT_STEP)
    spectrum = np.fft.rfft(voice.astype(np.float32), padded) * np.fft.rfft(room.astype(np.float32), padded)
    wet = np.fft.irfft(spectrum, padded)[:, :samples]
    return np.asarray(voice + np.pad(wet, ((0, 0), (delay, 0)))[:, :samples], np.float32)
