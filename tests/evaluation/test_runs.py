from __future__ import annotations

import json
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
from fake_songs import save_narrow_model

from vocalsep import audio, weights
from vocalsep.datasets import splits
from vocalsep.errors import ConfigError
from vocalsep.evaluation import estimators, runs, songs
from vocalsep.evaluation.estimators import Estimator
from vocalsep.evaluation.songs import set_up

MIXTURE = Estimator(name="mixture", kind="mixture")
IDEAL = Estimator(name="IRM, linear", kind="irm")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file with a narrow untrained U-Net."""
    return save_narrow_model(tmp_path_factory.mktemp("model") / "narrow.safetensors")


CLIPS = ["bobon_3_01", "bobon_3_02", "davidson_4_01", "davidson_4_02"]  # the test split of the fixture


def evaluate(root: Path, out: Path, wanted: Sequence[Estimator] = (MIXTURE, IDEAL), **options: Any) -> list[runs.Line]:
    lines, problems = runs.evaluate(set_up("mir1k", root), wanted, out, **options)
    assert not problems
    return lines


def read_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "tracks.jsonl").read_text(encoding="utf-8").splitlines()]


def record_jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Collect the names of tracks and estimators as they are scored."""
    scored: list[tuple[str, list[str]]] = []
    score_track = runs.score_track

    def score_and_record(job: runs.Job) -> runs.JobResult:
        scored.append((job.track.name, [task.estimator.name for task in job.tasks if not task.scored]))
        return score_track(job)

    monkeypatch.setattr(runs, "score_track", score_and_record)
    return scored


def test_a_run_has_a_line_for_each_estimator_and_track(mir1k_root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    lines = evaluate(mir1k_root, tmp_path / "run", progress=lambda *state: seen.append(state))
    assert [(line["row"], line["track"]) for line in lines] == [
        (row, track) for row in ("mixture", "IRM, linear") for track in CLIPS
    ]
    assert sorted(map(str, read_lines(tmp_path / "run"))) == sorted(map(str, lines))
    assert {line["song"] for line in lines} == {"bobon_3", "davidson_4"}
    assert {line["seconds"] for line in lines} == {3.0}
    assert seen == [(done, 4) for done in range(5)]


def test_a_run_continues_where_it_was_stopped(
    mir1k_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(mir1k_root, tmp_path / "whole")
    out = tmp_path / "run"
    evaluate(mir1k_root, out, limit=2)
    log = out / "tracks.jsonl"
    kept = log.read_bytes()
    log.write_bytes(kept + b'{"track": "davidson_4_01", "row": "mix')  # stopped in the middle of a line
    scored = record_jobs(monkeypatch)
    assert evaluate(mir1k_root, out) == expected
    assert [track for track, _ in scored] == CLIPS[2:]
    assert log.read_bytes().startswith(kept)
    assert len(read_lines(out)) == 8
    assert evaluate(mir1k_root, out) == expected
    assert len(scored) == 2


def test_only_new_estimators_and_changed_models_are_scored(
    mir1k_root: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = record_jobs(monkeypatch)
    ours = tmp_path / "ours.safetensors"
    shutil.copy(model, ours)
    wanted = [MIXTURE, Estimator(name="ours", kind="model", model=str(ours))]
    evaluate(mir1k_root, tmp_path / "run", wanted[:1])
    before = evaluate(mir1k_root, tmp_path / "run", wanted)
    save_narrow_model(ours, seed=1)
    estimators._hash_model.cache_clear()
    estimators._load_extractor.cache_clear()
    after = evaluate(mir1k_root, tmp_path / "run", wanted)
    assert [names for _, names in scored] == [["mixture"]] * 4 + [["ours"]] * 8
    assert before[:4] == after[:4]
    assert before[4]["vocals"] != after[4]["vocals"]


def test_estimates_that_changed_are_scored_again(mir1k_root: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "other", tmp_path / "run"
    setup = set_up("mir1k", mir1k_root)
    for track in setup.list_tracks().tracks:
        synthetic_songs.write(folder / track.name / "vocals.wav", songs.load(track, setup).vocals.T, 16_000)
    estimator = Estimator(name="other", kind="estimates", folder=folder)
    assert [line["vocals"]["song_sdr"] for line in evaluate(mir1k_root, out, [estimator])] == [300.0] * 4
    synthetic_songs.write(folder / CLIPS[1] / "vocals.wav", np.zeros(48_000), 16_000, "FLOAT")
    assert [line["vocals"]["song_sdr"] for line in evaluate(mir1k_root, out, [estimator])] == [300.0, 0.0, 300.0, 300.0]


def test_a_folder_of_another_setup_is_refused(dsd100_root: Path, mir1k_root: Path, tmp_path: Path) -> None:
    evaluate(mir1k_root, tmp_path, [MIXTURE], limit=1)
    with pytest.raises(ConfigError, match=r"another setup \(split test, not train\); choose another --out"):
        runs.evaluate(set_up("mir1k", mir1k_root, "train"), [MIXTURE], tmp_path)
    with pytest.raises(ConfigError, match=r"snr_db 0\.0, not 5\.0"):
        runs.evaluate(set_up("mir1k", mir1k_root, snr_db=5.0), [MIXTURE], tmp_path)
    with pytest.raises(ConfigError, match="dataset mir1k, not dsd100"):
        runs.evaluate(set_up("dsd100", dsd100_root), [MIXTURE], tmp_path)


@pytest.mark.parametrize("text", ["nonsense\n", '{"row": "mixture", "track": "a"}\n', "[1]\n"])
def test_a_file_that_is_not_a_run_is_refused_and_kept(mir1k_root: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "tracks.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 is not a line of scores"):
        evaluate(mir1k_root, tmp_path)
    assert (tmp_path / "tracks.jsonl").read_text(encoding="utf-8") == text


def test_problems_are_returned_and_the_rest_is_scored(dsd100_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(dsd100_root, root)
    first, second = (
        root / "Sources" / "Test" / name for name in ("001 - Artist 1 - Song 1", "002 - Artist 2 - Song 2")
    )
    synthetic_songs.write(first / "vocals.wav", np.zeros((500, 2)), 44_100)
    folder = tmp_path / "other"
    vocals, _ = audio.read(second / "vocals.wav")
    synthetic_songs.write(folder / second.name / "vocals.wav", vocals.T[:-7], 44_100)
    synthetic_songs.write(folder / "unmatched.wav", np.zeros(4), 44_100)
    (root / "Sources" / "Test" / "003 - Artist 3 - Song 3").mkdir()
    wanted = [MIXTURE, Estimator(name="other", kind="estimates", folder=folder)]
    lines, problems = runs.evaluate(set_up("dsd100", root), wanted, tmp_path / "run")
    assert [(line["row"], line["track"]) for line in lines] == [("mixture", second.name)]
    messages = [str(problem) for problem in problems]
    assert "missing stems: bass, drums, other, vocals" in messages[0]
    assert messages[1] == "other: unmatched.wav: belongs to no track of the data set"
    assert "stems of" in messages[2]
    assert messages[3].startswith(f"{second.name}, other: ")
    assert messages[3].endswith("132293 samples; expected 132300, like the references")


@pytest.mark.slow
def test_a_model_is_not_scored_on_what_it_was_trained_on(stems_root: Path, dsd100_root: Path, tmp_path: Path) -> None:
    made = fake_nets.random_unet(fake_nets.SMALL)

    def trained(name: str, root: Path, *, songs_of: slice = slice(0), singers_of: slice = slice(0)) -> Estimator:
        tracks = set_up("stems" if root is stems_root else "dsd100", root).list_tracks().tracks
        known = splits.collect_heard(tracks[songs_of])["songs"], splits.collect_heard(tracks[singers_of])["singers"]
        about = {"licence": "none", "heard": dict(zip(("songs", "singers"), known, strict=True))}
        path = tmp_path / f"{name}.safetensors"
        weights.save(path, made.net, made.front_end, about)
        return Estimator(name=name, kind="model", model=str(path))

    chosen = [
        MIXTURE,
        trained("song", stems_root, songs_of=slice(0, 1)),
        trained("singer", stems_root, singers_of=slice(1, 2)),
    ]
    lines, problems = runs.evaluate(set_up("stems", stems_root), chosen, tmp_path / "stems")
    scored = {e.name: [line["track"] for line in lines if line["row"] == e.name] for e in chosen}
    names = [track.name for track in set_up("stems", stems_root).list_tracks().tracks]
    assert scored == {"mixture": names, "song": names[1:], "singer": [names[0], names[2]]}
    assert [problem.name for problem in problems] == [f"{names[0]}, song", f"{names[1]}, singer"]
    assert "the model was trained on this song" in problems[0].what
    assert "the model was trained on its singer or artist, Band 2" in problems[1].what

    shared = trained("shared", dsd100_root, singers_of=slice(0, 2))  # the official split of DSD100 shares artists
    lines, problems = runs.evaluate(set_up("dsd100", dsd100_root), [shared], tmp_path / "dsd100", limit=1)
    assert (len(lines), problems) == (1, [])


def test_scores_do_not_depend_on_the_number_of_processes(mir1k_root: Path, tmp_path: Path) -> None:
    expected = evaluate(mir1k_root, tmp_path / "one")
    with ThreadPoolExecutor(2) as executor:
        assert evaluate(mir1k_root, tmp_path / "two", executor=executor) == expected


class BrokenExecutor(Executor):
    """An executor whose process was killed."""

    def submit(self, *_: Any, **__: Any) -> Any:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future


def test_a_process_that_dies_is_one_error(mir1k_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fewer --jobs"):
        evaluate(mir1k_root, tmp_path, executor=BrokenExecutor())
