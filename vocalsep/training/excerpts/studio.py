"""What a studio does to a lone voice: compressor, doubling, echo, room; each off unless asked for.

Lone voices are mostly recorded dry and in the middle; in songs they hardly ever are. All of them are pure functions of
``(channel, time)`` arrays and a generator; they return float32 and never change what they are given.
"""

from __future__ import annotations

import math

import numpy as np

from vocalsep.training.excerpts.augment import Array, AugmentOptions, chance, fft_length, filtered

_BLOCK_SECONDS = 0.01  # of the compressor's level
_SMOOTH = 5  # blocks on either side that its level is the mean of
_RATIO = (2.0, 10.0)  # of the compressor
_DOUBLES = 2  # a copy to the left, one to the right
_DOUBLE_SECONDS = (0.008, 0.035)  # from a voice to its double
_DRIFT_SECONDS = (0.0005, 0.003)  # by which a double comes earlier or later at times
_DRIFT_HZ = (0.2, 0.8)  # how often it does
_PAN = 0.3  # of a double on the far side
_LEAST_ECHO = 0.01
_DELAY_SECONDS = 0.03  # at most, from a voice to its room
_DULL_HZ = 4_000.0  # where a room has lost 6 dB


def produce(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """All that is done to a lone voice, in the order in which a studio does it.

    Args:
        voice: ``(channel, time)``.
        rate: Its rate, Hz.
        rng: What is drawn is drawn from it.
        options: What is done, and how often.

    Returns:
        The same shape.
    """
    for step in (compress, double, echo, reverberate):
        voice = step(voice, rate, rng, options)
    return voice


def compress(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """With probability `compressor`: brings its loudest parts down to where the rest is, by one gain for all channels.

    Above a threshold the level rises by a decibel for every 2 to 10 that it rises without.
    """
    if not chance(options.compressor, rng):
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
    """With probability `double`: it comes again from left and right, a little late, never quite as late."""
    if not chance(options.double, rng):
        return voice
    channels, samples = voice.shape
    gain = 10 ** (rng.uniform(*options.double_db) / 20)
    time = np.arange(samples)
    middle, doubled = voice.mean(axis=0), voice.astype(np.float32)
    for side in range(_DOUBLES):
        late, drift, hz = (rng.uniform(*ends) for ends in (_DOUBLE_SECONDS, _DRIFT_SECONDS, _DRIFT_HZ))
        delay = rate * (late + drift * np.sin(2 * np.pi * (hz * time / rate + rng.random())))
        copy = np.interp(time - delay, time, middle, left=0.0)
        panned = np.full((channels, 1), _PAN)
        panned[side % channels] = 1.0
        doubled = doubled + gain * panned * copy
    return np.asarray(doubled, np.float32)


def echo(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """With probability `echo`: it comes again and again, each time softer, and from the other side."""
    if not chance(options.echo, rng):
        return voice
    delay = max(1, round(rng.uniform(*options.echo_seconds) * rate))
    gain, decay = (10 ** (rng.uniform(*ends) / 20) for ends in (options.echo_db, options.echo_db))
    heard, again = voice.astype(np.float32), voice
    for start in range(delay, voice.shape[1], delay):
        if gain < _LEAST_ECHO:
            break
        again = again[::-1]
        heard[:, start:] += np.float32(gain) * again[:, : voice.shape[1] - start]
        gain *= decay
    return heard


def reverberate(voice: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """With probability `reverb`: adds a room that is heard from all sides, noise that dies away.

    Of a room's sound only its decay and its spread over the channels are taken for typical (Moorer, "About this
    reverberation business", 1979): there are no single echoes.
    """
    if not chance(options.reverb, rng):
        return voice
    seconds = math.exp(rng.uniform(*np.log(options.reverb_seconds)))
    gain = 10 ** (rng.uniform(*options.reverb_db) / 20)
    delay = round(rng.uniform(0, _DELAY_SECONDS) * rate)
    channels, samples = voice.shape
    decay = 10 ** (-3 * np.arange(min(samples, math.ceil(seconds * rate))) / (seconds * rate))
    noise = rng.standard_normal((channels, len(decay)), dtype=np.float32)
    room = filtered(noise, rate, lambda hz: 1 / (1 + hz / _DULL_HZ)) * decay
    room *= gain / np.sqrt(np.square(room).sum(axis=1).mean())
    padded = fft_length(samples + len(decay))
    spectrum = np.fft.rfft(voice.astype(np.float32), padded) * np.fft.rfft(room.astype(np.float32), padded)
    wet = np.fft.irfft(spectrum, padded)[:, :samples]
    return np.asarray(voice + np.pad(wet, ((0, 0), (delay, 0)))[:, :samples], np.float32)
