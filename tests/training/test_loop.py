from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import synthetic_songs
import torch
from states import are_identical, copy_parameters, copy_state
from tiny_recipes import CPU, SMALL, make_recipe, make_trainer

from vocalsep import training, weights
from vocalsep.errors import ConfigError, DatasetError, VocalsepError
from vocalsep.training import Status, cost, loop, recipes
from vocalsep.training.material import Material
from vocalsep.training.recipes import PoolOptions
from vocalsep.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_norm_batches", "no_pictures")

TIMES = ("seconds", "waited", "validated", "validation_seconds")


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_log(run: Path) -> list[dict[str, Any]]:
    """Read the log as strict JSON, without times."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line, parse_constant=refuse_constant) for line in lines]
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in entries]


def read_checkpoint(run: Path) -> dict[str, Any]:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    return {key: value for key, value in state.items() if key not in TIMES}


@pytest.fixture(scope="module")
def finished(dsd100_root: Path, tmp_path_factory: pytest.TempPathFactory, few_norm_batches: None) -> Path:
    """The folder of an uninterrupted run of four steps. Do not change it."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    training.fit(make_recipe(dsd100_root), run, device=CPU)
    return run


def test_a_run_leaves_its_recipe_log_checkpoint_and_weights(finished: Path, dsd100_root: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "recipe.toml",
        "tracks.json",
        "log.jsonl",
        "curves.png",
        "checkpoint.pt",
        "unet.safetensors",
    }
    assert recipes.read_recipe(str(finished / "recipe.toml")) == make_recipe(dsd100_root)


def test_the_log_has_one_json_line_per_step(finished: Path) -> None:
    entries = read_log(finished)
    assert [entry["step"] for entry in entries] == [0, 1, 2, 3]
    for entry in entries:
        assert {"loss", "bce", "lr", "validation_loss", "validation_snr_db"} <= set(entry)


def test_a_run_lists_its_tracks(finished: Path, material: Material) -> None:
    assert json.loads((finished / "tracks.json").read_text(encoding="utf-8")) == {**material.names, "before": {}}


def test_the_weights_of_a_run_are_the_best_ones(finished: Path) -> None:
    model = weights.load(str(finished / "unet.safetensors"))
    best = max(read_log(finished), key=lambda entry: entry["validation_snr_db"])
    assert model.metadata["steps"] == best["step"] + 1
    metrics = model.metadata["metrics"]
    assert metrics["validation_snr_db"] == pytest.approx(best["validation_snr_db"], abs=1e-4)
    assert read_checkpoint(finished)["standing"]["best"] == best["validation_snr_db"]
    features = torch.zeros(1, 1, model.front_end.bands, model.front_end.frames)
    assert model.net(features).shape == features.shape


def test_the_metadata_names_data_sets_but_no_folders(finished: Path, dsd100_root: Path) -> None:
    metadata = weights.load(str(finished / "unet.safetensors")).metadata
    assert (metadata["licence"], metadata["data"]) == ("none", ["dsd100"])
    assert metadata["heard"]["singers"] == ["ada", "brahe", "dirac", "euler"]
    assert "adasong4" in metadata["heard"]["songs"]
    assert metadata["recipe"]["training"]["steps"] == 4
    assert str(dsd100_root) not in json.dumps(dict(metadata))
    assert str(finished.parent) not in json.dumps(dict(metadata))


def test_the_model_of_a_run_has_the_name_of_the_run_wherever_the_file_is(finished: Path, tmp_path: Path) -> None:
    assert weights.load(finished).name == weights.load(finished / "unet.safetensors").name == "finished"
    shutil.copy(finished / "unet.safetensors", tmp_path)
    assert weights.load(tmp_path / "unet.safetensors").name == "finished"
    shutil.move(tmp_path / "unet.safetensors", tmp_path / "mine.safetensors")
    assert weights.load(tmp_path / "mine.safetensors").name == "mine"
    shutil.copytree(finished, tmp_path / "renamed")
    assert weights.load(tmp_path / "renamed").name == "renamed"


def test_two_runs_are_the_same_bit_for_bit(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)  # the global generator must not matter
    training.fit(make_recipe(dsd100_root), tmp_path / "run", device=CPU)
    assert read_log(tmp_path / "run") == read_log(finished)
    assert are_identical(read_checkpoint(tmp_path / "run"), read_checkpoint(finished))


def make_interrupting_report(at: int) -> Callable[[str], None]:
    """Make a report that raises KeyboardInterrupt at the line of a step."""

    def report(line: str) -> None:
        if line.startswith(f"step {at},"):
            raise KeyboardInterrupt

    return report


def test_an_interrupted_run_continues_bit_for_bit(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = tmp_path / finished.name  # the weights say the name
    with pytest.raises(KeyboardInterrupt):
        training.fit(make_recipe(dsd100_root), run, device=CPU, report=make_interrupting_report(3))
    assert read_checkpoint(run)["step"] == 2
    torch.manual_seed(1234)
    result = training.fit(make_recipe(dsd100_root), run, device=CPU, resume=True)
    assert read_log(run) == read_log(finished)
    assert are_identical(read_checkpoint(run), read_checkpoint(finished))
    resumed, whole = weights.load(str(result)), weights.load(str(finished / "unet.safetensors"))
    assert are_identical(copy_state(resumed.net), copy_state(whole.net))
    assert {**resumed.metadata, "hours": 0} == {**whole.metadata, "hours": 0}


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(
    finished: Path, dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save, calls = tmp_path / "run", torch.save, []

    def fail_the_third(state: Any, file: Any) -> None:
        calls.append(state["step"])
        if len(calls) == 3:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", fail_the_third)
    with pytest.raises((OSError, VocalsepError)):
        training.fit(make_recipe(dsd100_root), run, device=CPU)
    assert calls == [1, 2, 3]
    assert read_checkpoint(run)["step"] == 2
    training.fit(make_recipe(dsd100_root), run, device=CPU, resume=True)
    assert are_identical(read_checkpoint(run), read_checkpoint(finished))
    assert not list(run.glob("*.part")), "a partial checkpoint is left"


def test_steps_after_the_last_checkpoint_are_logged_once(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.fit(make_recipe(dsd100_root), run, device=CPU, report=make_interrupting_report(2))
    lines = (finished / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(lines[:3]), encoding="utf-8")  # as if it had run one step longer
    training.fit(make_recipe(dsd100_root), run, device=CPU, resume=True)
    assert read_log(run) == read_log(finished)


def test_a_truncated_last_line_does_not_spoil_the_log(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.fit(make_recipe(dsd100_root), run, device=CPU, report=make_interrupting_report(3))
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "loss": 0.5')
    training.fit(make_recipe(dsd100_root), run, device=CPU, resume=True)
    assert read_log(run) == read_log(finished)


def copy_run(finished: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in finished.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_resuming_a_finished_run_changes_nothing(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    result = training.fit(make_recipe(dsd100_root), run, device=CPU, resume=True)
    assert read_log(run) == read_log(finished)
    assert are_identical(read_checkpoint(run), read_checkpoint(finished))
    assert are_identical(weights.load(str(result)).metadata, weights.load(str(finished / "unet.safetensors")).metadata)


def test_resuming_needs_a_checkpoint(dsd100_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        training.fit(make_recipe(dsd100_root), tmp_path / "run", device=CPU, resume=True)
    assert not (tmp_path / "run").exists()


def test_a_fresh_start_refuses_a_folder_with_a_run(finished: Path, dsd100_root: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(ConfigError, match="holds a run"):
        training.fit(make_recipe(dsd100_root), finished, device=CPU)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_run_needs_a_folder(dsd100_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for run, why in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "run", "cannot be written")):
        with pytest.raises(ConfigError, match=f"{run}: {why}"):
            training.fit(make_recipe(dsd100_root), run, device=CPU)


def test_a_run_leaves_the_global_generator_alone(dsd100_root: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    training.fit(make_recipe(dsd100_root, steps=1), tmp_path / "run", device=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_validation_the_last_weights_are_kept(dsd100_root: Path, tmp_path: Path) -> None:
    result = training.fit(make_recipe(dsd100_root, hold_out=0, steps=2), tmp_path / "run", device=CPU)
    assert weights.load(str(result)).metadata["steps"] == 2
    assert not any("validation_loss" in entry for entry in read_log(tmp_path / "run"))


def test_validation_songs_without_vocals_still_yield_weights_and_a_log(tmp_path: Path) -> None:
    for number in (1, 2):
        stems = synthetic_songs.make_song(number)
        if number == 2:  # the held-out one: only a click, far below the accompaniment
            stems["vocals"][:] = 0
            stems["vocals"][40_000] = 200
        for stem, samples in stems.items():
            synthetic_songs.write(tmp_path / "songs" / f"Band {number} - Song" / f"{stem}.wav", samples, 44_100)
    pools = (PoolOptions(layout="stems", root=str(tmp_path / "songs"), hold_out=2),)
    found = replace(make_recipe(tmp_path, steps=1), pools=pools)
    result = training.fit(found, tmp_path / "run", device=CPU)
    assert [entry["step"] for entry in read_log(tmp_path / "run")] == [0]
    assert weights.load(str(result)).metadata["steps"] == 1


def test_minutes_end_a_run(dsd100_root: Path, tmp_path: Path) -> None:
    found = make_recipe(dsd100_root, steps=0, minutes=1e-6)
    training.fit(found, tmp_path / "run", device=CPU)
    assert len(read_log(tmp_path / "run")) == 1
    assert (tmp_path / "run" / "unet.safetensors").exists()


@pytest.mark.parametrize(
    ("estimate", "validate_minutes", "validated"),
    [
        (6.0, 0.5, [36.0, 60.0]),
        pytest.param(9.0, 60.0, [57.0], marks=pytest.mark.slow),
        pytest.param(3.0, 60.0, [63.0], marks=pytest.mark.slow),
    ],
)
def test_minutes_include_validations(
    dsd100_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    estimate: float,
    validate_minutes: float,
    validated: list[float],
) -> None:
    now = 0.0

    def take(seconds: float, method: str) -> None:
        plain = getattr(Trainer, method)

        def slow(*arguments: Any) -> Any:
            nonlocal now
            now += seconds
            return plain(*arguments)

        monkeypatch.setattr(Trainer, method, slow)

    take(3, "update")
    take(6, "validate")
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(cost, "estimate_cost", lambda _: SimpleNamespace(validation_seconds=estimate))
    chosen = make_recipe(dsd100_root, steps=0, minutes=1.0, validate_minutes=validate_minutes)
    statuses: list[Status] = []
    training.fit(chosen, tmp_path / "run", device=CPU, on_step=statuses.append)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["seconds"] for entry in log if "validation_loss" in entry] == validated
    assert len(log) == (validated[-1] - 6 * len(validated)) / 3
    assert (statuses[0].seconds_left, statuses[-1].share) == (57.0, 1.0)
    lines: list[str] = []
    training.fit(chosen, tmp_path / "run", device=CPU, resume=True, report=lines.append)
    assert "already finished" in lines[-1]


def test_each_step_is_reported_with_its_loss_and_the_time_left(dsd100_root: Path, tmp_path: Path) -> None:
    statuses: list[Status] = []
    chosen = make_recipe(dsd100_root, validate_minutes=60.0, validate_steps=2)
    training.fit(chosen, tmp_path / "run", device=CPU, on_step=statuses.append)
    assert [status.step for status in statuses] == [1, 2, 3, 4]
    assert [status.share for status in statuses] == [0.25, 0.5, 0.75, 1]
    log = read_log(tmp_path / "run")
    assert statuses[1].loss == pytest.approx((log[0]["loss"] + log[1]["loss"]) / 2)
    snr_db = [log[step]["validation_snr_db"] for step in (1, 3)]
    assert [status.snr_db for status in statuses] == [None, snr_db[0], snr_db[0], snr_db[1]]
    assert all(status.seconds_left > 0 for status in statuses[:3])
    assert statuses[3].seconds_left == 0


def test_the_log_says_how_long_the_net_waited(finished: Path) -> None:
    entries = [json.loads(line) for line in (finished / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    waited = [entry["waited"] for entry in entries]
    assert waited == sorted(waited)
    assert all(0 <= entry["waited"] <= entry["seconds"] for entry in entries)


def test_a_run_reports_its_cost_before_it_starts(dsd100_root: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    training.fit(make_recipe(dsd100_root, steps=1), tmp_path / "run", device=CPU, report=lines.append)
    costs = [place for place, line in enumerate(lines) if "80,933 parameters" in line and "1 steps to go" in line]
    steps = [place for place, line in enumerate(lines) if line.startswith("step 1,")]
    assert costs < steps
    assert "waiting for excerpts" in lines[steps[0]]


def test_the_curves_of_a_run_are_drawn(finished: Path) -> None:
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")


def fake_scores(monkeypatch: pytest.MonkeyPatch, *qualities: float) -> None:
    """Make the validation after each step return the next of these SNRs."""
    monkeypatch.setattr(
        Trainer, "validate", lambda made: {"validation_loss": 0.0, "validation_snr_db": qualities[made.step - 1]}
    )


def test_a_run_stops_early_when_validation_stalls(
    dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_scores(monkeypatch, 1.0, 3.0, 2.0, 2.5, 4.0, 5.0)
    chosen = make_recipe(dsd100_root, steps=6, validate_steps=1, stop_validations=2)
    result = training.fit(chosen, tmp_path / "run", device=CPU)
    assert [entry["step"] for entry in read_log(tmp_path / "run")] == [0, 1, 2, 3]
    assert weights.load(str(result)).metadata["steps"] == 2
    training.fit(chosen, tmp_path / "run", device=CPU, resume=True)
    assert len(read_log(tmp_path / "run")) == 4, "the resumed run continued although it had stopped early"


def test_a_plateau_lowers_the_learning_rate_of_a_run(
    dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_scores(monkeypatch, 3.0, 2.0, 1.0, 1.0, 1.0)
    options = {"schedule": "plateau", "plateau_validations": 2, "warmup_steps": 0, "learning_rate": 4e-3}
    training.fit(make_recipe(dsd100_root, steps=5, validate_steps=1, **options), tmp_path / "run", device=CPU)
    assert [entry["lr"] for entry in read_log(tmp_path / "run")] == pytest.approx([4e-3, 4e-3, 4e-3, 2e-3, 2e-3])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_plateaus_continues_bit_for_bit(dsd100_root: Path, tmp_path: Path, precision: str) -> None:
    options = {"schedule": "plateau", "plateau_validations": 1, "stop_validations": 3, "optimiser": "rmsprop"}
    chosen = make_recipe(dsd100_root, steps=6, validate_steps=1, precision=precision, **options)
    training.fit(chosen, tmp_path / "whole", device=CPU)
    with pytest.raises(KeyboardInterrupt):
        training.fit(chosen, tmp_path / "parts", device=CPU, report=make_interrupting_report(3))
    training.fit(chosen, tmp_path / "parts", device=CPU, resume=True)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    assert are_identical(read_checkpoint(tmp_path / "parts"), read_checkpoint(tmp_path / "whole"))


@pytest.mark.parametrize("options", [{"schedule": "plateau"}, {"stop_validations": 3}])
def test_plateaus_and_early_stopping_need_validation(
    dsd100_root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="need validation"):
        training.fit(make_recipe(dsd100_root, hold_out=0, **options), tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()


def test_validation_follows_the_stated_number_of_steps(dsd100_root: Path, tmp_path: Path) -> None:
    training.fit(make_recipe(dsd100_root, steps=5, validate_steps=2), tmp_path / "run", device=CPU)
    validated = [entry["step"] for entry in read_log(tmp_path / "run") if "validation_loss" in entry]
    assert validated == [1, 3, 4]  # every second step, and the last one


@pytest.mark.slow
def test_validation_follows_the_stated_number_of_epochs(dsd100_root: Path, tmp_path: Path) -> None:
    chosen = make_recipe(dsd100_root, steps=0, epochs=1.5, batch_size=1, validate_epochs=0.5)
    training.fit(chosen, tmp_path / "run", device=CPU)
    entries = read_log(tmp_path / "run")
    validated = [entry["step"] + 1 for entry in entries if "validation_loss" in entry]
    assert validated[0] == pytest.approx(len(entries) / 3, abs=1)
    assert validated[1] == 2 * validated[0]
    assert validated[-1] == len(entries)


def test_the_recipe_of_a_run_names_the_chosen_precision(dsd100_root: Path, tmp_path: Path) -> None:
    training.fit(make_recipe(dsd100_root, steps=1, precision="auto"), tmp_path / "run", device=CPU)
    found = recipes.read_recipe(str(tmp_path / "run" / "recipe.toml"))
    assert found.training.precision in ("fp32", "bf16")


def test_a_run_has_heard_what_its_initial_weights_have_heard(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    name = str(finished / "unet.safetensors")  # trained on everyone but Curie
    with pytest.raises(DatasetError, match=r"also trained on: .*Brahe"):
        training.fit(make_recipe(dsd100_root, hold_out=2, init=name), tmp_path / "run", device=CPU)
    result = training.fit(make_recipe(dsd100_root, steps=1, init=name), tmp_path / "run", device=CPU)
    assert weights.load(str(result)).metadata["heard"] == weights.load(name).metadata["heard"]
    plain = weights.load(name)
    weights.save(tmp_path / "plain.safetensors", plain.net, plain.front_end, {"licence": "none"})
    lines: list[str] = []
    chosen = make_recipe(dsd100_root, steps=1, init=str(tmp_path / "plain.safetensors"))
    training.fit(chosen, tmp_path / "other", device=CPU, report=lines.append)
    assert "does not say what it was trained on" in lines[0]


def test_a_run_refuses_to_resume_with_other_recordings(dsd100_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "DSD100"
    shutil.copytree(dsd100_root / "Sources", root / "Sources")
    training.fit(make_recipe(root, steps=1), tmp_path / "run", device=CPU)
    before = (tmp_path / "run" / "tracks.json").read_bytes()
    song = sorted((root / "Sources" / "Dev").iterdir())[0]
    song.rename(song.with_name("009 - Aaa - New"))
    with pytest.raises(ConfigError, match="009 - Aaa - New"):
        training.fit(make_recipe(root, steps=2), tmp_path / "run", device=CPU, resume=True)
    assert (tmp_path / "run" / "tracks.json").read_bytes() == before


def test_a_stopped_run_continues_bit_for_bit(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run, lines, calls = tmp_path / "run", list[str](), list[bool]()

    def should_stop() -> bool:
        calls.append(True)
        return len(calls) == 2

    chosen = make_recipe(dsd100_root, validate_minutes=60.0, checkpoint_minutes=60.0)
    result = training.fit(chosen, run, device=CPU, report=lines.append, should_stop=should_stop)
    assert (len(read_log(run)), read_checkpoint(run)["step"], result.exists()) == (2, 2, False)
    assert "stopped after step 2; continue with: vocalsep train --resume" in lines[-1]
    training.fit(chosen, run, device=CPU, resume=True)
    for part in ("net", "mean", "optimiser"):
        resumed, whole = read_checkpoint(run)[part], read_checkpoint(finished)[part]
        assert are_identical(resumed, whole) or part == "mean"  # its norms are measured at validations, which differ


def test_a_finished_run_is_reported(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run = copy_run(finished, tmp_path / "run")
    training.fit(make_recipe(dsd100_root), run, device=CPU, resume=True, report=lines.append)
    assert lines[-1] == f"{run}: already finished, after 4 steps"


def test_time_before_a_stop_counts_towards_the_next_validation(dsd100_root: Path, tmp_path: Path) -> None:
    run, chosen = tmp_path / "run", make_recipe(dsd100_root, steps=50, validate_minutes=1e-3)
    for _ in range(20):  # one step each, far shorter than the time between validations
        training.fit(chosen, run, device=CPU, resume=(run / "checkpoint.pt").exists(), should_stop=lambda: True)
        if any("validation_loss" in entry for entry in read_log(run)):
            break
    assert any("validation_loss" in entry for entry in read_log(run))
    assert len(read_log(run)) > 0


def test_a_run_starts_from_the_given_weights(
    finished: Path, material: Material, dsd100_root: Path, tmp_path: Path
) -> None:
    name = str(finished / "unet.safetensors")
    made = make_trainer(material, dsd100_root, init=name)
    made.load_initial_weights()
    assert are_identical(copy_state(made.net), copy_state(weights.load(name).net))
    assert are_identical(copy_state(made.averaged_net), copy_state(made.net))
    of_run = make_trainer(material, dsd100_root, init=str(finished))  # the folder of the run
    of_run.load_initial_weights()
    assert are_identical(copy_state(of_run.net), copy_state(made.net))
    other = replace(make_recipe(dsd100_root, init=name), front_end=replace(SMALL, hop=128))
    with pytest.raises(ConfigError, match=r"cannot start from .*: its front end is"):
        training.fit(other, tmp_path / "run", device=CPU)
    other = replace(make_recipe(dsd100_root, init=name), options={"width": 5})
    with pytest.raises(ConfigError, match=r"training\.init.*other options"):
        training.fit(other, tmp_path / "run", device=CPU)
    again = make_recipe(dsd100_root, init=name, steps=1, learning_rate=1e-9, ema=0.0)
    result = training.fit(again, tmp_path / "again", device=CPU)
    for key, tensor in copy_parameters(weights.load(str(result)).net).items():
        torch.testing.assert_close(tensor, copy_parameters(made.net)[key], rtol=1e-3, atol=1e-6)
