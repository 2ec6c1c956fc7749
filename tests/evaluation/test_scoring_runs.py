from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import synthetic_songs
import torch
from torch import Tensor

from vocalsep import audio, nets, weights
from vocalsep.datasets import splits
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import ConfigError, DatasetError, ModelError
from vocalsep.evaluation import metrics, rows, runs, songs
from vocalsep.evaluation.rows import Row
from vocalsep.evaluation.scores import SCORES, TARGETS, Ruler
from vocalsep.evaluation.songs import Song, set_up
from vocalsep.extraction import Extractor, Parts

MIXTURE = Row(name="mixture", kind="mixture")
IDEAL = Row(name="IRM, linear", kind="irm")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file with a narrow untrained U-Net."""
    return store(tmp_path_factory.mktemp("model") / "narrow.safetensors")


def store(path: Path, seed: int = 0, front_end: Any = fake_nets.SMALL) -> str:
    made = fake_nets.random_unet(front_end, seed)
    weights.save(path, made.net, made.front_end, {"licence": "none"})
    return str(path)


def noises(channels: int = 1, samples: int = 20_000, rate: int = 8_000) -> Song:
    return Song(torch.stack([fake_nets.noise(channels, samples), fake_nets.noise(channels, samples, seed=1)]), rate)


# what is scored on


def test_dsd100_is_scored_on_its_test_songs_in_stereo_at_44100_hz(dsd100_root: Path) -> None:
    setup = set_up("dsd100", dsd100_root)
    tracks = setup.find().tracks
    assert [track.name for track in tracks] == ["001 - Artist 1 - Song 1", "002 - Artist 2 - Song 2"]
    song = songs.load(tracks[0], setup)
    assert (song.rate, song.references.shape) == (44_100, (2, 2, 132_300))
    assert song.seconds == 3
    assert torch.equal(song.mixture, song.references[0] + song.references[1])
    released, _ = audio.read(dsd100_root / "Mixtures" / "Test" / tracks[0].name / "mixture.wav")
    assert torch.equal(song.mixture, released)


def test_mir1k_is_scored_in_mono_at_16000_hz_on_the_singers_not_trained_on(mir1k_root: Path) -> None:
    setup = set_up("mir1k", mir1k_root)
    tracks = setup.find().tracks
    assert {track.group for track in tracks} == {"bobon", "davidson"}
    song = songs.load(tracks[0], setup)
    assert (song.rate, song.references.shape) == (16_000, (2, 1, 48_000))


@pytest.mark.parametrize("level", [None, 0.0, -5.0, 5.0])
def test_mir1k_is_mixed_at_the_level_asked_for(mir1k_root: Path, level: float | None) -> None:
    setup = set_up("mir1k", mir1k_root, snr_db=level)
    track = setup.find().tracks[0]
    vocals, accompaniment = songs.load(track, setup).references
    ratio = 10 * math.log10(vocals.double().square().sum() / accompaniment.double().square().sum())
    assert ratio == pytest.approx(level or 0, abs=1e-5)
    assert torch.equal(vocals, track.load(16_000, 1)["vocals"])


def test_the_split_of_the_recurrent_networks_paper_is_there_on_request(tmp_path: Path) -> None:
    for song in range(20):
        synthetic_songs.write(tmp_path / "Wavfile" / f"singer{song % 3}_{song}_01.wav", np.zeros((80, 2)), 16_000)
    found = set_up("mir1k", tmp_path, "drnn").find()
    assert found.shares_singers
    assert len(found.tracks) == 2


def test_songs_of_ones_own_keep_their_rate_and_channels(tmp_path: Path) -> None:
    for name, rate, shape in (("a", 22_050, (1_000, 2)), ("b", 8_000, (1_000,))):
        for seed, stem in enumerate(("vocals", "accompaniment")):
            synthetic_songs.write(
                tmp_path / name / f"{stem}.wav",
                fake_nets.noise(1, 2_000, seed).numpy().reshape(-1)[: math.prod(shape)].reshape(shape),
                rate,
            )
    setup = set_up("stems", tmp_path)
    loaded = [songs.load(track, setup) for track in setup.find().tracks]
    assert [(song.rate, song.references.shape[1]) for song in loaded] == [(22_050, 2), (8_000, 1)]


def test_stems_are_scored_with_16_bits(tmp_path: Path) -> None:
    fine = 1.5 * fake_nets.noise(1, 900).numpy().T
    for stem in ("vocals", "accompaniment"):
        synthetic_songs.write(tmp_path / "a" / f"{stem}.wav", fine, 8_000, "FLOAT")
    setup = set_up("stems", tmp_path)
    vocals = songs.load(setup.find().tracks[0], setup).vocals
    steps = vocals * 2**15
    assert torch.equal(steps, steps.round())
    torch.testing.assert_close(vocals, torch.from_numpy(fine.T), rtol=0, atol=2**-16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dsd10", Path()), "unknown data set 'dsd10'; did you mean 'dsd100'?"),
        (("dsd100", Path(), "train"), "dsd100: no split 'train' to score on; expected test or dev"),
        (("stems", Path(), "", 5.0), "stems: songs are scored at their own level"),
    ],
)
def test_setups_without_meaning_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        set_up(*arguments)


# the scores


def test_every_score_is_given_for_both_targets() -> None:
    song = noises()
    found = Ruler(song)(Parts(0.9 * song.vocals, song.mixture - 0.9 * song.vocals))
    assert tuple(found) == TARGETS
    for scores in found.values():
        assert tuple(scores) == tuple(SCORES)
        assert None not in scores.values()


def test_scores_are_what_the_functions_give() -> None:
    song = noises(channels=2)
    made = song.vocals + 0.3 * fake_nets.noise(2, 20_000, seed=4)
    found = Ruler(song)(Parts(made, song.mixture - made))["vocals"]
    frames = metrics.framewise_sdr(song.vocals, made, song.rate).numpy()
    gain = metrics.gain_ratios(song.references, made, 0)
    assert found["v4_sdr"] == pytest.approx(np.median(frames), abs=1e-4)
    assert found["v4_sdr_frame_mean"] == pytest.approx(frames.mean(), abs=1e-4)
    assert found["song_sdr"] == pytest.approx(metrics.sdr(song.vocals, made), abs=1e-4)
    assert found["si_sdr"] == found["gain_sdr"] == pytest.approx(gain.sdr, abs=1e-4)
    assert (found["gain_sir"], found["gain_sar"]) == pytest.approx(gain[1:], abs=1e-4)
    floor = metrics.gain_ratios(song.references, song.mixture, 0).sdr
    assert found["gain_nsdr"] == pytest.approx(gain.sdr - floor, abs=2e-4)


def test_the_mixture_improves_nothing() -> None:
    song = noises()
    for scores in Ruler(song)(Parts(song.mixture, song.mixture)).values():
        assert scores["gain_nsdr"] == scores["v3_nsdr"] == 0


def test_the_median_of_two_frames_in_the_middle_is_their_mean_as_musevals_is() -> None:
    song = noises(samples=16_000)
    made = song.vocals.clone()
    made[:, :8_000] *= 0.9
    made[:, 8_000:] *= 0.99
    assert Ruler(song)(Parts(made, song.mixture - made))["vocals"]["v4_sdr"] == pytest.approx(30, abs=1e-3)


def test_infinite_scores_are_limited() -> None:
    song = noises()
    found = Ruler(song)(Parts(song.vocals, song.references[1]))["vocals"]
    assert found["song_sdr"] == found["v4_sdr"] == 300


def silent_in(name: str) -> tuple[Song, Parts]:
    song = noises()
    parts = {"vocals": song.vocals, "accompaniment": song.references[1], "estimate": 0.5 * song.vocals}
    parts[name] = torch.zeros_like(parts[name])
    song = Song(torch.stack([parts["vocals"], parts["accompaniment"]]), song.rate)
    return song, Parts(parts["estimate"], song.mixture - parts["estimate"])


def missing(scores: dict[str, float | None]) -> set[str]:
    return {name for name, value in scores.items() if value is None}


FILTERED = {name for name in SCORES if name.startswith(("v3", "v4"))}
GAIN = {name for name in SCORES if name.startswith("gain")}


def test_scores_of_a_song_without_vocals_are_missing_but_for_the_accompaniments_plain_ones() -> None:
    song, piece = silent_in("vocals")
    found = Ruler(song)(piece)
    assert missing(found["vocals"]) == set(SCORES)
    assert missing(found["accompaniment"]) == FILTERED | GAIN


def test_scores_of_a_song_without_accompaniment_are_missing_but_for_the_vocals_plain_ones() -> None:
    song, piece = silent_in("accompaniment")
    found = Ruler(song)(piece)
    assert missing(found["vocals"]) == FILTERED | GAIN
    assert missing(found["accompaniment"]) == set(SCORES)


def test_silent_vocals_of_a_song_that_has_some_score_0_and_have_no_other_score() -> None:
    song, piece = silent_in("estimate")
    found = Ruler(song)(piece)
    assert found["vocals"]["song_sdr"] == 0
    assert missing(found["vocals"]) == set(SCORES) - {"song_sdr"}
    assert missing(found["accompaniment"]) == FILTERED


# the rows


def test_rows_stand_between_floor_and_ceilings(model: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    found = rows.standard([model], ["phase", "griffin-lim"], [tmp_path / "theirs"])
    assert [row.name for row in found] == [
        "mixture",
        "narrow",
        "narrow, griffin-lim",
        "theirs",
        "IBM, linear",
        "IRM, grid of narrow",
        "IRM, linear",
    ]


def test_models_of_one_grid_share_its_ceiling(model: str, tmp_path: Path) -> None:
    same, other = store(tmp_path / "same.safetensors", 1), store(tmp_path / "other.safetensors", 0, fake_nets.PAPER)
    names = [row.name for row in rows.standard([model, same, other], ["phase"], [])]
    assert [name for name in names if "grid" in name] == ["IRM, grid of narrow", "IRM, grid of other"]


def test_rows_that_cannot_be_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two rows would be called 'narrow'"):
        rows.standard([model, model], ["phase"], [])
    with pytest.raises(ModelError, match="unknown model"):
        rows.standard(["nothing"], ["phase"], [])
    with pytest.raises(DatasetError, match="no such folder of estimates"):
        rows.standard([], ["phase"], [tmp_path / "nowhere"])


def test_rows_of_a_song_are_in_order(model: str) -> None:
    rate, seconds = 44_100, 2.0
    vocals = torch.from_numpy(synthetic_songs.voice(1, seconds, rate)).float()[None]
    other = torch.from_numpy(sum(synthetic_songs.backing(1, seconds, rate).values())).float()[None]
    song = Song(torch.stack([vocals, other]), rate)
    ruler = Ruler(song)
    found = {row.kind: ruler(row.estimate("song", song))["vocals"] for row in rows.standard([model], ["phase"], [])}
    assert found["mixture"]["v4_sdr"] < found["irm-grid"]["v4_sdr"] < found["irm"]["v4_sdr"]  # type: ignore[operator]
    assert found["ibm"]["v4_sdr"] > found["irm-grid"]["v4_sdr"]  # type: ignore[operator]
    assert found["ibm"] != found["irm"]


@pytest.fixture(scope="module")
def clustering(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file with an untrained hybrid clustering net whose head sees voice where one of two places is.

    With one dimension there are two places. The head's softmax is of what the embeddings are the sign of.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.build("hdpcl", {"bands": 16, "units": 8, "layers": 1, "dimensions": 1})
    with torch.no_grad():
        for head, places in zip(net.head.parameters(), net.dense.parameters(), strict=True):
            head[:16], head[16:] = 10 * places, 0
    path = tmp_path_factory.mktemp("clustering") / "hybrid.safetensors"
    weights.save(path, net, fake_nets.SMALL, {"licence": "none"}, half=False)
    return str(path)


def test_models_that_do_not_cluster_have_a_row_only_once(model: str, clustering: str) -> None:
    found = rows.standard([model, clustering], ["phase", "griffin-lim"], [], ["auto", "clusters", "net"])
    compared = [row for row in found if row.kind == "model"]
    assert [row.name for row in compared] == [
        "narrow",
        "hybrid",
        "hybrid, clusters",
        "hybrid, net",
        "narrow, griffin-lim",
        "hybrid, griffin-lim",
        "hybrid, clusters, griffin-lim",
        "hybrid, net, griffin-lim",
    ]
    for row in compared:
        _, *ways = row.name.split(", ")
        assert row.masks_from == next((way for way in ways if way in ("clusters", "net")), "auto")
        assert row.inversion == ("griffin-lim" if "griffin-lim" in ways else "phase")
        assert Path(row.model).stem == row.name.split(", ")[0]
    assert rows.standard([model], ["phase"], [], ["clusters"]) == rows.standard([model], ["phase"], [])


def test_masks_come_from_where_the_net_says_unless_another_place_is_asked_for(model: str, clustering: str) -> None:
    assert rows.standard([model, clustering], ["phase"], []) == rows.standard(
        [model, clustering], ["phase"], [], ["auto"]
    )


NOTHING = Track(name="song", group="nobody")  # without files


def test_fingerprints_tell_where_masks_are_from(clustering: str) -> None:
    chosen = rows.standard([clustering], ["phase", "griffin-lim"], [], ["auto", "clusters", "net"])
    prints = {row.name: row.fingerprint(NOTHING) for row in chosen if row.kind == "model"}
    assert len(set(prints.values())) == len(prints) == 6


def test_fingerprints_tell_a_track_whose_files_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "vocals.wav"
    found = set()
    for content, weight in ((b"one", 1.0), (b"three", 1.0), (b"three", -1.0)):
        path.write_bytes(content)
        os.utime(path, (1, 1))
        found.add(MIXTURE.fingerprint(Track(name="song", group="nobody", vocals=(Source(path, weight=weight),))))
    os.utime(path, (2, 2))
    found.add(MIXTURE.fingerprint(Track(name="song", group="nobody", vocals=(Source(path, weight=-1.0),))))
    assert len(found) == 4


def test_gated_models_have_rows_of_their_own_that_score_what_comes_through(model: str, clustering: str) -> None:
    found = rows.standard([model, clustering], ["phase"], [], ["net"], [False, True])
    compared = {row.name: row for row in found if row.kind == "model"}
    assert list(compared) == ["narrow", "narrow, gate", "hybrid, net", "hybrid, net, gate"]
    assert [row.gate for row in compared.values()] == [False, True, False, True]
    assert len({row.fingerprint(NOTHING) for row in compared.values()}) == 4
    song = noises(samples=20_000)
    extractor = Extractor(weights.load(model), device="cpu", gate=True)
    assert torch.equal(
        compared["narrow, gate"].estimate("song", song).vocals, extractor(song.mixture, song.rate).vocals
    )
    assert rows.standard([model], ["phase"], []) == rows.standard([model], ["phase"], [], ["auto"], [False])


def test_a_row_takes_its_masks_from_where_it_says(model: str, clustering: str) -> None:
    song = noises(samples=8_000)
    found = {row.name: row for row in rows.standard([clustering], ["phase"], [], ["auto", "clusters", "net"])}
    vocals = {name: row.estimate("song", song).vocals for name, row in found.items() if row.kind == "model"}
    assert torch.equal(vocals["hybrid"], vocals["hybrid, net"])  # which it is for
    for source in ("net", "clusters"):
        extractor = Extractor(weights.load(clustering), device="cpu", masks_from=source)
        assert torch.equal(vocals[f"hybrid, {source}"], extractor(song.mixture, song.rate).vocals)
    assert fake_nets.snr_db(vocals["hybrid, net"], vocals["hybrid, clusters"]) < 30
    with pytest.raises(ConfigError, match="does not cluster"):
        Row(name="x", kind="model", model=model, masks_from="clusters").estimate("song", song)


PLACES = ["{}/vocals.wav", "{}.vocals.wav", "{}.wav", "{}/vocals.flac"]


@pytest.mark.parametrize("place", PLACES)
def test_estimates_are_found_by_the_tracks_name(tmp_path: Path, place: str) -> None:
    song = Song(fake_nets.quantise(noises().references, 16), 8_000)
    synthetic_songs.write(tmp_path / place.format("A - B.c"), song.vocals.numpy().T, 8_000)
    row = Row(name="theirs", kind="estimates", folder=tmp_path)
    piece = row.estimate("A - B.c", song)
    assert torch.equal(piece.vocals, song.vocals)
    assert torch.equal(piece.accompaniment, song.mixture - song.vocals)
    assert rows.strangers(tmp_path, ["A - B.c"]) == []


def test_an_accompaniment_beside_the_vocals_is_scored_in_place_of_the_remainder(tmp_path: Path) -> None:
    song = Song(fake_nets.quantise(noises().references, 16), 8_000)
    for stem, samples in (("vocals", song.vocals), ("accompaniment", song.references[1] / 2)):
        synthetic_songs.write(tmp_path / f"song.{stem}.wav", samples.numpy().T, 8_000, "FLOAT")
    row = Row(name="theirs", kind="estimates", folder=tmp_path)
    assert torch.equal(row.estimate("song", song).accompaniment, song.references[1] / 2)
    assert rows.strangers(tmp_path, ["song"]) == []


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (fake_nets.noise(1, 19_999), 8_000, "19999 samples; expected 20000"),
        (fake_nets.noise(2, 20_000), 8_000, "2 channels; expected 1"),
        (fake_nets.noise(1, 20_000), 16_000, "16000 Hz; expected 8000"),
        (torch.full((1, 20_000), torch.nan), 8_000, "not finite"),
        (None, 8_000, "no estimate in"),
    ],
)
def test_estimates_that_do_not_fit_are_named(tmp_path: Path, samples: Tensor | None, rate: int, message: str) -> None:
    if samples is not None:
        synthetic_songs.write(tmp_path / "song" / "vocals.wav", samples.numpy().T, rate, "FLOAT")
    with pytest.raises(DatasetError, match=message):
        Row(name="theirs", kind="estimates", folder=tmp_path).estimate("song", noises())


def test_an_estimate_that_is_no_sound_is_named(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("nothing", encoding="utf-8")
    with pytest.raises(DatasetError, match="not an audio file"):
        Row(name="theirs", kind="estimates", folder=tmp_path).estimate("song", noises())


def test_estimates_without_a_track_are_found(tmp_path: Path) -> None:
    for path in ("one/vocals.wav", "two.wav", "deep/er/vocals.wav", ".hidden.wav", "notes.txt"):
        synthetic_songs.write(tmp_path / "made.wav", np.zeros(4), 8_000)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "made.wav", tmp_path / path)
    assert rows.strangers(tmp_path, ["one", "deep/er"]) == ["two.wav"]
    assert rows.strangers(tmp_path, []) == ["deep", "one", "two.wav"]


# the runs

CLIPS = ["bobon_3_01", "bobon_3_02", "davidson_4_01", "davidson_4_02"]  # that the fixture has in its test part


def evaluate(root: Path, out: Path, wanted: Sequence[Row] = (MIXTURE, IDEAL), **options: Any) -> list[runs.Line]:
    lines, problems = runs.evaluate(set_up("mir1k", root), wanted, out, **options)
    assert not problems
    return lines


def on_disk(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "tracks.jsonl").read_text(encoding="utf-8").splitlines()]


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Fills up with the tracks and rows that are scored."""
    scored: list[tuple[str, list[str]]] = []
    score_track = runs.score_track

    def spy(task: runs.Task) -> runs.Outcome:
        scored.append((task.track.name, [row.name for row, _ in task.rows]))
        return score_track(task)

    monkeypatch.setattr(runs, "score_track", spy)
    return scored


def test_a_run_has_a_line_for_each_row_and_track(mir1k_root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    lines = evaluate(mir1k_root, tmp_path / "run", progress=lambda *state: seen.append(state))
    assert [(line["row"], line["track"]) for line in lines] == [
        (row, track) for row in ("mixture", "IRM, linear") for track in CLIPS
    ]
    assert sorted(map(str, on_disk(tmp_path / "run"))) == sorted(map(str, lines))
    assert {line["song"] for line in lines} == {"bobon_3", "davidson_4"}
    assert {line["seconds"] for line in lines} == {3.0}
    assert seen == [(done, 4) for done in range(5)]


def test_a_run_goes_on_where_it_was_stopped(mir1k_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(mir1k_root, tmp_path / "whole")
    out = tmp_path / "run"
    evaluate(mir1k_root, out, limit=2)
    log = out / "tracks.jsonl"
    kept = log.read_bytes()
    log.write_bytes(kept + b'{"track": "davidson_4_01", "row": "mix')  # stopped in the middle of a line
    scored = spied(monkeypatch)
    assert evaluate(mir1k_root, out) == expected
    assert [track for track, _ in scored] == CLIPS[2:]
    assert log.read_bytes().startswith(kept)
    assert len(on_disk(out)) == 8
    assert evaluate(mir1k_root, out) == expected
    assert len(scored) == 2


def test_only_what_is_new_is_scored(
    mir1k_root: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = spied(monkeypatch)
    ours = tmp_path / "ours.safetensors"
    shutil.copy(model, ours)
    wanted = [MIXTURE, Row(name="ours", kind="model", model=str(ours))]
    evaluate(mir1k_root, tmp_path / "run", wanted[:1])
    before = evaluate(mir1k_root, tmp_path / "run", wanted)
    store(ours, seed=1)
    rows._digest.cache_clear()
    rows._extractor.cache_clear()
    after = evaluate(mir1k_root, tmp_path / "run", wanted)
    assert [names for _, names in scored] == [["mixture"]] * 4 + [["ours"]] * 8
    assert before[:4] == after[:4]
    assert before[4]["vocals"] != after[4]["vocals"]


def test_estimates_that_changed_are_scored_again(mir1k_root: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "theirs", tmp_path / "run"
    setup = set_up("mir1k", mir1k_root)
    for track in setup.find().tracks:
        synthetic_songs.write(folder / track.name / "vocals.wav", songs.load(track, setup).vocals.numpy().T, 16_000)
    row = Row(name="theirs", kind="estimates", folder=folder)
    assert [line["vocals"]["song_sdr"] for line in evaluate(mir1k_root, out, [row])] == [300.0] * 4
    synthetic_songs.write(folder / CLIPS[1] / "vocals.wav", np.zeros(48_000), 16_000, "FLOAT")
    assert [line["vocals"]["song_sdr"] for line in evaluate(mir1k_root, out, [row])] == [300.0, 0.0, 300.0, 300.0]


def test_a_folder_of_another_setup_is_refused(dsd100_root: Path, mir1k_root: Path, tmp_path: Path) -> None:
    evaluate(mir1k_root, tmp_path, [MIXTURE], limit=1)
    with pytest.raises(ConfigError, match=r"another setup \(split test, not train\); choose another --out"):
        runs.evaluate(set_up("mir1k", mir1k_root, "train"), [MIXTURE], tmp_path)
    with pytest.raises(ConfigError, match=r"snr_db 0\.0, not 5\.0"):
        runs.evaluate(set_up("mir1k", mir1k_root, snr_db=5.0), [MIXTURE], tmp_path)
    with pytest.raises(ConfigError, match="dataset mir1k, not dsd100"):
        runs.evaluate(set_up("dsd100", dsd100_root), [MIXTURE], tmp_path)


@pytest.mark.parametrize("text", ["nonsense\n", '{"row": "mixture", "track": "a"}\n', "[1]\n"])
def test_a_file_that_is_no_run_is_refused_and_kept(mir1k_root: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "tracks.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 is not a line of scores"):
        evaluate(mir1k_root, tmp_path)
    assert (tmp_path / "tracks.jsonl").read_text(encoding="utf-8") == text


def test_problems_are_told_and_the_rest_is_scored(dsd100_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(dsd100_root, root)
    first, second = (
        root / "Sources" / "Test" / name for name in ("001 - Artist 1 - Song 1", "002 - Artist 2 - Song 2")
    )
    synthetic_songs.write(first / "vocals.wav", np.zeros((500, 2)), 44_100)
    folder = tmp_path / "theirs"
    vocals, _ = audio.read(second / "vocals.wav")
    synthetic_songs.write(folder / second.name / "vocals.wav", vocals.numpy().T[:-7], 44_100)
    synthetic_songs.write(folder / "stranger.wav", np.zeros(4), 44_100)
    (root / "Sources" / "Test" / "003 - Artist 3 - Song 3").mkdir()
    wanted = [MIXTURE, Row(name="theirs", kind="estimates", folder=folder)]
    lines, problems = runs.evaluate(set_up("dsd100", root), wanted, tmp_path / "run")
    assert [(line["row"], line["track"]) for line in lines] == [("mixture", second.name)]
    told = [str(problem) for problem in problems]
    assert "no bass, drums, other, vocals" in told[0]
    assert told[1] == "theirs: stranger.wav: belongs to no track of the data set"
    assert "stems of" in told[2]
    assert told[3].startswith(f"{second.name}, theirs: ")
    assert told[3].endswith("132293 samples; expected 132300, as the references have")


def test_what_a_model_was_trained_on_is_not_scored(stems_root: Path, dsd100_root: Path, tmp_path: Path) -> None:
    made = fake_nets.random_unet(fake_nets.SMALL)

    def trained(name: str, root: Path, *, songs_of: slice = slice(0), singers_of: slice = slice(0)) -> Row:
        tracks = set_up("stems" if root is stems_root else "dsd100", root).find().tracks
        known = splits.heard(tracks[songs_of])["songs"], splits.heard(tracks[singers_of])["singers"]
        about = {"licence": "none", "heard": dict(zip(("songs", "singers"), known, strict=True))}
        path = tmp_path / f"{name}.safetensors"
        weights.save(path, made.net, made.front_end, about)
        return Row(name=name, kind="model", model=str(path))

    rows_of_stems = [
        MIXTURE,
        trained("song", stems_root, songs_of=slice(0, 1)),
        trained("singer", stems_root, singers_of=slice(1, 2)),
    ]
    lines, problems = runs.evaluate(set_up("stems", stems_root), rows_of_stems, tmp_path / "stems")
    scored = {row.name: [line["track"] for line in lines if line["row"] == row.name] for row in rows_of_stems}
    names = [track.name for track in set_up("stems", stems_root).find().tracks]
    assert scored == {"mixture": names, "song": names[1:], "singer": [names[0], names[2]]}
    assert [problem.name for problem in problems] == [f"{names[0]}, song", f"{names[1]}, singer"]
    assert "the song was trained on" in problems[0].what
    assert "its singer or artist, Band 2, was trained on" in problems[1].what

    shared = trained("shared", dsd100_root, singers_of=slice(0, 2))  # DSD100 shares artists by its own split
    lines, problems = runs.evaluate(set_up("dsd100", dsd100_root), [shared], tmp_path / "dsd100", limit=1)
    assert (len(lines), problems) == (1, [])


def test_tracks_side_by_side_give_the_same(mir1k_root: Path, tmp_path: Path) -> None:
    expected = evaluate(mir1k_root, tmp_path / "one")
    with ThreadPoolExecutor(2) as executor:
        assert evaluate(mir1k_root, tmp_path / "two", executor=executor) == expected


class Dies(Executor):
    """An executor whose process was killed."""

    def submit(self, *_: Any, **__: Any) -> Any:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future


def test_a_process_that_dies_is_told(mir1k_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fewer --jobs"):
        evaluate(mir1k_root, tmp_path, executor=Dies())
