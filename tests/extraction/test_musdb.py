from __future__ import annotations

from types import SimpleNamespace

import fake_nets
import musdb
import museval
import numpy as np
import pytest

import vocalsep


@pytest.fixture
def track() -> musdb.MultiTrack:
    """A track of musdb with sound in memory instead of files."""
    rate, sources = 8_000, {}
    made = musdb.MultiTrack(path="none", name="Band - Song")
    made.rate = rate
    for seed, name in enumerate(("vocals", "bass", "drums")):
        sources[name] = musdb.Source(made, name=name)
        sources[name].audio = fake_nets.noise(2, 2 * rate, seed).T.astype(float)
    made.sources = sources
    made.audio = np.sum([source.audio for source in sources.values()], axis=0)
    backing = [sources["bass"], sources["drums"]]
    made.targets = {
        "vocals": musdb.Target(made, [sources["vocals"]], "vocals"),
        "accompaniment": musdb.Target(made, backing, "accompaniment"),
    }
    return made


def test_a_track_becomes_estimates_that_museval_scores(track: musdb.MultiTrack) -> None:
    extractor = vocalsep.Extractor(fake_nets.constant(0.25, fake_nets.SMALL))
    estimates = vocalsep.musdb_method(track, model=extractor)
    assert list(estimates) == ["vocals", "accompaniment"]
    assert all(part.shape == track.audio.shape for part in estimates.values())
    np.testing.assert_allclose(estimates["vocals"], track.audio / 4, atol=1e-5)
    np.testing.assert_allclose(sum(estimates.values()), track.audio, rtol=0, atol=1e-12)
    scores = museval.eval_mus_track(track, estimates).df
    medians = scores.groupby(["target", "metric"])["score"].median()
    own = vocalsep.metrics.framewise_sdr(track.targets["vocals"].audio.T, estimates["vocals"].T, 8_000)
    assert medians["vocals", "SDR"] == pytest.approx(np.median(own), abs=1e-3)
    assert medians["accompaniment", "SDR"] > 0


def test_a_model_given_by_name_is_loaded_once(model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = vocalsep.weights.load  # type: ignore[attr-defined]
    monkeypatch.setattr(vocalsep.weights, "load", lambda name: loaded.append(name) or load(name))  # type: ignore[attr-defined]
    stand_in = SimpleNamespace(audio=fake_nets.noise(2, 3_000).T, rate=8_000)
    first, again = (vocalsep.musdb_method(stand_in, model=str(model)) for _ in range(2))
    assert loaded == [str(model)]
    assert np.array_equal(first["vocals"], again["vocals"])


def test_what_is_no_track_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="track must have audio and rate, as tracks of musdb have, not be str"):
        vocalsep.musdb_method("Band - Song")  # type: ignore[arg-type]
