"""Sessions with simulated devices: time passes in blocks of 10 ms, and the net answers when the test says so."""

from __future__ import annotations

import fake_nets
import numpy as np
import pytest

from vocalsep.extraction import Extractor
from vocalsep.live import Session
from vocalsep.live.playout import Playout
from vocalsep.shapes import Array

RATE, LATENCY, BLOCK = 8_000, 0.2, 80


class Simulation:
    """A session between two devices, with a clock of its own."""

    def __init__(self, value: float = 0.0, keep: str = "accompaniment", channels: tuple[int, int] = (2, 2)) -> None:
        extractor = Extractor(fake_nets.constant(value, fake_nets.SMALL), workers=0, latency=LATENCY)
        self.now, self.heard_channels, self.played_channels = 0.0, *channels
        self.session = Session(
            lambda: extractor.start(RATE, channels[0], low_delay=True),
            rate=RATE,
            played_channels=channels[1],
            keep=keep,
            latency_seconds=LATENCY,
            clock=lambda: self.now,
        )
        self.played: list[Array] = []

    def run(self, sound: Array, *, works: bool = True, extra: int = 0) -> None:
        """Hear ``(time, channel)`` and play as much, block by block. The net answers at once or, if not, later.

        Every tenth block of the output has some extra samples.
        """
        for at in range(0, len(sound), BLOCK):
            self.session.hear(sound[at : at + BLOCK])
            if works:
                self.drain()
            self.tick(BLOCK + extra * (at // BLOCK % 10 == 0))

    def drain(self) -> None:
        while not self.session._waiting.empty():
            self.session.work(0)

    def tick(self, play: int = BLOCK) -> None:
        out = np.full((play, self.played_channels), np.nan, np.float32)
        self.session.play(out)
        assert np.isfinite(out).all()
        self.played.append(out)
        self.now += BLOCK / RATE

    @property
    def output(self) -> Array:
        return np.concatenate(self.played)


def make_clicks(seconds: float, every: float = 0.5, channels: int = 2) -> Array:
    """Return silence with a sample of 1 every so often, from the first `every` on."""
    clicks = np.zeros((round(seconds * RATE), channels), np.float32)
    clicks[round(every * RATE) :: round(every * RATE)] = 1
    return clicks


def find_clicks(output: Array) -> Array:
    return np.flatnonzero(np.abs(output).max(axis=-1) > 0.5)


def test_five_seconds_are_played_as_they_were_heard_one_latency_later() -> None:
    simulation, noise = Simulation(), fake_nets.noise(2, 5 * RATE).T
    simulation.run(noise)
    delay = round(LATENCY * RATE) - BLOCK  # a block is played when the next one is heard
    fade = 40  # at the start
    np.testing.assert_allclose(simulation.output[delay + fade :], noise[fade:-delay], rtol=0, atol=1e-5)
    assert not simulation.output[:delay].any()
    assert (simulation.session.underruns, simulation.session.missing) == (0, 0)
    assert simulation.session.delay_seconds == pytest.approx(LATENCY, abs=0.011)


@pytest.mark.parametrize(("value", "keep", "is_heard"), [(1, "vocals", True), (1, "accompaniment", False)])
def test_the_part_to_keep_is_played(value: float, keep: str, is_heard: bool) -> None:
    simulation = Simulation(value, keep)
    simulation.run(make_clicks(2))
    assert (np.abs(simulation.output).max() > 0.5) == is_heard


@pytest.mark.parametrize("channels", [(1, 2), (2, 1), (1, 1)])
def test_mono_and_stereo_become_each_other(channels: tuple[int, int]) -> None:
    simulation = Simulation(channels=channels)
    simulation.run(make_clicks(1.5, channels=channels[0]))
    assert simulation.output.shape[-1] == channels[1]
    clicks = find_clicks(simulation.output)
    assert clicks.tolist() == [4_000 + 1_520, 8_000 + 1_520]
    np.testing.assert_allclose(simulation.output[clicks], 1, atol=1e-4)


def test_a_net_that_is_late_is_counted_and_the_delay_comes_back() -> None:
    simulation = Simulation()
    simulation.run(make_clicks(2))
    simulation.run(make_clicks(0.5), works=False)
    session = simulation.session
    assert session.underruns == 1
    assert session.missing / RATE == pytest.approx(0.5 - 0.06, abs=0.1)
    simulation.drain()
    simulation.run(make_clicks(1))
    assert session.delay_seconds
    assert session.delay_seconds > LATENCY + 0.3  # nothing was lost
    simulation.run(make_clicks(11))
    assert session.delay_seconds == pytest.approx(LATENCY, abs=0.026)
    assert session.underruns == 1


def test_a_net_that_can_never_catch_up_starts_anew() -> None:
    simulation = Simulation()
    simulation.run(make_clicks(1))
    simulation.run(make_clicks(5), works=False)
    simulation.drain()
    simulation.run(make_clicks(2))
    assert simulation.session.underruns == 1
    assert simulation.session.delay_seconds == pytest.approx(LATENCY, abs=0.026)
    last = simulation.output[-RATE:]
    assert len(find_clicks(last)) == 2


def test_an_input_that_stalls_is_not_the_fault_of_the_net() -> None:
    simulation = Simulation()
    simulation.run(make_clicks(1))
    for _ in range(200):
        simulation.tick()
    assert not simulation.output[-RATE:].any()
    simulation.run(make_clicks(2))
    assert simulation.session.underruns == 0
    assert simulation.session.delay_seconds == pytest.approx(LATENCY, abs=0.011)


@pytest.mark.parametrize("extra", [-1, 1])
def test_clocks_that_differ_do_not_change_the_delay_for_long(extra: int) -> None:
    simulation, tone = Simulation(), fake_nets.tone(300, RATE, 30, 2).T
    for start in range(0, len(tone), RATE):
        simulation.run(tone[start : start + RATE], extra=extra)
        if start >= 10 * RATE:
            assert simulation.session.delay_seconds
            assert -0.06 < simulation.session.delay_seconds - LATENCY < 0.05
    steps = np.abs(np.diff(simulation.output[5 * RATE :], axis=0))
    assert steps.max() < 1.5 * np.abs(np.diff(tone, axis=0)).max()  # no clicks where samples are skipped or missing


def test_gaps_fade_out_and_in() -> None:
    playout = Playout(1, 40)
    playout.put(np.ones((100, 1), np.float32))
    out = np.zeros((160, 1), np.float32)
    assert playout.take(out) == 60
    assert playout.gaps == 1
    np.testing.assert_array_equal(out[:100], 1)
    assert np.all(np.diff(out[99:141, 0]) <= 0)
    np.testing.assert_array_equal(out[140:], 0)
    assert playout.take(out) == 160
    assert playout.gaps == 1
    assert not out.any()
    playout.put_after_gap(np.ones((200, 1), np.float32), silence=10)
    assert playout.take(out) == 0
    assert (playout.written, playout.taken) == (300, 250)
    assert np.all((np.diff(out[:, 0]) >= 0) & (np.diff(out[:, 0]) < 0.03))
