from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_songs
import torch
from tiny_recipes import CPU, SMALL, recipe
from torch import Tensor

from vocalsep import masks, nets, training, weights
from vocalsep.errors import ConfigError, DatasetError, VocalsepError
from vocalsep.features import LogMel
from vocalsep.training import recipes, schedule
from vocalsep.training.material import Material
from vocalsep.training.recipes import PoolOptions
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

TIMES = ("seconds", "waited", "validated")


def trainer(material: Material, root: Path, **fit_options: Any) -> Trainer:
    return Trainer(recipe(root, **fit_options), material, Team(device=CPU))


def states(net: torch.nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in net.state_dict().items()}


def parameters(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def same(one: Any, two: Any) -> bool:
    """Whether two nests of dicts, lists, tensors and plain values are the same, bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def log(run: Path) -> list[dict[str, Any]]:
    """The log's lines, strictly JSON, without their times."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line, parse_constant=refuse) for line in lines]
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in entries]


def checkpoint(run: Path) -> dict[str, Any]:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    return {key: value for key, value in state.items() if key not in TIMES}


@pytest.fixture(autouse=True)
def cache() -> None:
    """The session's, in place of one for each test: most of a small run would be decoding the same songs."""


@pytest.fixture(scope="module")
def finished(dsd100_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps that nobody disturbed; not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    training.fit(recipe(dsd100_root), run, device=CPU)
    return run


# The trainer


def test_first_weights_depend_on_the_seed_alone(material: Material, dsd100_root: Path) -> None:
    torch.manual_seed(1)
    one = trainer(material, dsd100_root)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = trainer(material, dsd100_root)
    assert torch.equal(torch.get_rng_state(), before)
    other = trainer(material, dsd100_root, seed=1)
    assert same(states(one.net), states(two.net))
    assert same(states(one.net), states(one.averaged_net))
    assert not same(states(one.net), states(other.net))


def test_a_step_moves_every_parameter_and_tells_what_happened(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root)
    before = states(made.net)
    entry = made.update(material.training.draw_batch(0, 2))
    assert made.step == 1
    assert entry["loss"] == pytest.approx(entry["bce"])
    assert entry["lr"] == pytest.approx(schedule.compute_learning_rate(made.recipe.training, 0, 0.0))
    unmoved = [name for name, tensor in made.net.named_parameters() if torch.equal(tensor, before[name])]
    assert unmoved == []


def test_loss_falls_on_a_small_data_set(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root, steps=30)
    losses = [made.update(material.training.draw_batch(step, 2))["loss"] for step in range(30)]
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3])


def test_the_running_mean_follows_the_weights(material: Material, dsd100_root: Path) -> None:
    def gap(before: dict[str, Tensor]) -> float:
        return sum(float((before[n] - p.detach()).square().sum()) for n, p in made.net.named_parameters())

    made = trainer(material, dsd100_root, ema=0.5)
    for step in range(3):
        before = states(made.averaged_net)
        made.update(material.training.draw_batch(step, 2))
        after = states(made.averaged_net)
        assert 0 < gap(after) < gap(before)
        for name, now in made.net.named_parameters():
            low, high = torch.minimum(before[name], now), torch.maximum(before[name], now)
            assert (low - 1e-6 <= after[name]).all()
            assert (after[name] <= high + 1e-6).all()
    assert not any(parameter.requires_grad for parameter in made.averaged_net.parameters())


def test_without_memory_the_running_mean_is_the_weights(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root, ema=0.0)
    made.update(material.training.draw_batch(0, 2))
    assert same(parameters(made.averaged_net), parameters(made.net))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_without_a_step_of_the_optimiser(
    material: Material, dsd100_root: Path, value: float
) -> None:
    made = trainer(material, dsd100_root)
    made.update(material.training.draw_batch(0, 2))
    net, mean = parameters(made.net), states(made.averaged_net)
    moments = copy.deepcopy(made.optimiser.state_dict()["state"])
    drawn = material.training.draw_batch(1, 2)
    drawn.vocals[1, 0, 4_000] = value
    with pytest.raises(VocalsepError, match="step 1") as error:
        made.update(drawn)
    assert f"Excerpts of: {' with '.join(drawn.tracks[1])}. " in str(error.value)
    assert made.step == 1
    assert same(states(made.averaged_net), mean)
    assert same(made.optimiser.state_dict()["state"], moments)
    assert same(parameters(made.net), net)


def test_validation_is_the_same_each_time_and_moves_no_weight(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root)
    made.update(material.training.draw_batch(0, 2))
    before = copy.deepcopy({**made.state_dict(), "mean": parameters(made.averaged_net)})
    one, settled = made.validate(), states(made.averaged_net)
    two = made.validate()
    assert one == two
    assert set(one) == {"validation_loss", "validation_snr_db"}
    assert all(map(math.isfinite, one.values()))
    assert same(
        before, {**made.state_dict(), "mean": parameters(made.averaged_net)}
    )  # the random generator is part of it
    assert same(settled, states(made.averaged_net))
    assert not any(module.training for module in made.averaged_net.modules())


def test_the_validation_snr_is_the_mean_over_excerpts_with_vocals(
    material: Material, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(material, dsd100_root, validate_excerpts=6)
    gains = iter([0.5, -10.0, 1.0])  # of the vocals' spectrum in what is found, batch by batch of two excerpts
    monkeypatch.setattr(made.averaged_net, "forward", lambda features: features)
    masked, batches = nets.Batch.masked, []

    def known(batch: nets.Batch, mask: Tensor) -> Tensor:
        assert masked(batch, torch.ones_like(mask[:, :1])).shape == batch.vocals.shape
        batches.append(batch)
        return batch.vocals * next(gains)

    monkeypatch.setattr(nets.Batch, "masked", known)
    monkeypatch.setattr(made.averaged_net, "loss", lambda _: {"all": torch.tensor(1.0)})
    scores = made.validate()
    assert len(batches) == 3
    assert scores["validation_snr_db"] == pytest.approx((20 * np.log10(2) - 10 + 30) / 3, abs=1e-3)


def test_validation_settles_the_statistics_of_the_averaged_net(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root, ema=0.0)
    for step in range(3):
        made.update(material.training.draw_batch(step, 2))
    made.validate()
    first, found = made.averaged_net.down[0][0], []
    for step in range(3):  # what the first norm sees, measured on other excerpts
        features = nets.make_batch(SMALL, *material.training.draw_batch(step, 8)[:2]).features
        found.append(first(features))
    seen = torch.cat(found)
    norm = made.averaged_net.down[0][1]
    torch.testing.assert_close(norm.running_var, seen.var(dim=(0, 2, 3)), rtol=0.3, atol=1e-4)
    deviation = seen.std(dim=(0, 2, 3))
    assert ((norm.running_mean - seen.mean(dim=(0, 2, 3))).abs() < 0.3 * deviation).all()


def test_using_a_net_first_does_not_keep_it_from_being_trained() -> None:
    front_end = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=16)  # nobody else has this one
    with torch.inference_mode():  # as when a song's vocals are extracted
        masks.make_row_matrix(tuple(front_end.band_hz.tolist()), tuple(front_end.grid.hz.tolist()))
    net = nets.build("unet", {"width": 1, "spectral": 1.0})
    sound = torch.randn(2, 2, 2, nets.count_excerpt_samples(front_end), generator=torch.Generator().manual_seed(0))
    sum(net.loss(nets.make_batch(front_end, *sound)).values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_other_optimisers_train_too(material: Material, dsd100_root: Path, optimiser: str) -> None:
    made = trainer(material, dsd100_root, steps=20, optimiser=optimiser, learning_rate=2e-3)
    losses = [made.update(material.training.draw_batch(step, 2))["loss"] for step in range(20)]
    assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:3])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_with_autocast_the_step_is_nearly_that_of_full_precision(
    material: Material, dsd100_root: Path, precision: str
) -> None:
    full, half = trainer(material, dsd100_root), trainer(material, dsd100_root, precision=precision)
    drawn = material.training.draw_batch(0, 2)
    one, two = full.update(drawn), half.update(drawn)
    assert two["loss"] == pytest.approx(one["loss"], rel=0.02)
    assert two["loss"] != one["loss"]
    assert {parameter.dtype for parameter in half.net.parameters()} == {torch.float32}
    assert half.scaler.is_enabled() == (precision == "fp16")


def test_losses_are_computed_in_full_precision(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root, precision="bf16")
    terms = made.compute_loss(material.training.draw_batch(0, 2))
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_the_scaler_is_part_of_the_state(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root, precision="fp16")
    made.update(material.training.draw_batch(0, 2))
    made.scaler.update(512.0)
    other = trainer(material, dsd100_root, precision="fp16")
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    assert other.scaler.get_scale() == 512.0
    assert same(other.state_dict(), made.state_dict())


def test_a_run_starts_from_the_weights_it_is_given(
    finished: Path, material: Material, dsd100_root: Path, tmp_path: Path
) -> None:
    name = str(finished / "unet.safetensors")
    made = trainer(material, dsd100_root, init=name)
    made.load_initial_weights()
    assert same(states(made.net), states(weights.load(name).net))
    assert same(states(made.averaged_net), states(made.net))
    other = replace(recipe(dsd100_root, init=name), front_end=replace(SMALL, hop=128))
    with pytest.raises(ConfigError, match="front end is another"):
        training.fit(other, tmp_path / "run", device=CPU)
    other = replace(recipe(dsd100_root, init=name), options={"width": 5})
    with pytest.raises(ConfigError, match=r"training\.init.*other options"):
        training.fit(other, tmp_path / "run", device=CPU)
    again = recipe(dsd100_root, init=name, steps=1, learning_rate=1e-9, ema=0.0)
    result = training.fit(again, tmp_path / "again", device=CPU)
    for key, tensor in parameters(weights.load(str(result)).net).items():
        torch.testing.assert_close(tensor, parameters(made.net)[key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 1e-4])
def test_gradients_are_cut_to_the_limit_if_there_is_one(material: Material, dsd100_root: Path, clip: float) -> None:
    made = trainer(material, dsd100_root, clip=clip)
    made.update(made.draw_batch(0))
    norm = math.sqrt(sum(float(one.grad.square().sum()) for one in made.net.parameters() if one.grad is not None))
    assert norm == pytest.approx(clip, rel=1e-2) if clip else norm > 1e-2


def test_epochs_are_as_much_sound_as_the_songs_have(material: Material, dsd100_root: Path) -> None:
    seconds = sum(decoded.samples for pool in material.training.songs for decoded in pool.tracks) / SMALL.rate
    excerpt = nets.count_excerpt_samples(SMALL) / SMALL.rate
    made = trainer(material, dsd100_root, steps=0, epochs=2.0)
    assert made.steps == pytest.approx(2 * seconds / excerpt / 2, abs=2)
    made.step = made.steps // 2
    assert made.progress == pytest.approx(0.5, abs=0.02)


def test_dropout_of_a_step_depends_on_seed_and_step_alone(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root)
    drawn = material.training.draw_batch(0, 2)
    torch.manual_seed(1)
    one = made.compute_loss(drawn)["bce"]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = made.compute_loss(drawn)["bce"]
    assert torch.equal(torch.get_rng_state(), before)
    made.step = 1
    other = made.compute_loss(drawn)["bce"]
    assert one == two != other


# Runs


def test_a_run_leaves_its_recipe_log_checkpoint_and_weights(finished: Path, dsd100_root: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "recipe.toml",
        "tracks.json",
        "log.jsonl",
        "curves.png",
        "checkpoint.pt",
        "unet.safetensors",
    }
    assert recipes.read_recipe(str(finished / "recipe.toml")) == recipe(dsd100_root)


def test_the_log_has_one_json_line_a_step(finished: Path) -> None:
    entries = log(finished)
    assert [entry["step"] for entry in entries] == [0, 1, 2, 3]
    for entry in entries:
        assert {"loss", "bce", "lr", "validation_loss", "validation_snr_db"} <= set(entry)


def test_tracks_are_listed_as_they_were_used(finished: Path, material: Material) -> None:
    assert json.loads((finished / "tracks.json").read_text(encoding="utf-8")) == {**material.names, "before": {}}


def test_the_weights_of_a_run_are_its_best_ones(finished: Path) -> None:
    model = weights.load(str(finished / "unet.safetensors"))
    best = max(log(finished), key=lambda entry: entry["validation_snr_db"])
    assert model.metadata["steps"] == best["step"] + 1
    metrics = model.metadata["metrics"]
    assert metrics["validation_snr_db"] == pytest.approx(best["validation_snr_db"], abs=1e-4)
    assert checkpoint(finished)["standing"]["best"] == best["validation_snr_db"]
    features = torch.zeros(1, 1, model.front_end.bands, model.front_end.frames)
    assert model.net(features).shape == features.shape


def test_the_weights_say_what_they_are_from_but_not_where_it_lay(finished: Path, dsd100_root: Path) -> None:
    about = weights.load(str(finished / "unet.safetensors")).metadata
    assert (about["licence"], about["data"]) == ("none", ["dsd100"])
    assert about["heard"]["singers"] == ["ada", "brahe", "dirac", "euler"]
    assert "adasong4" in about["heard"]["songs"]
    assert about["recipe"]["training"]["steps"] == 4
    assert str(dsd100_root) not in json.dumps(dict(about))


def test_two_runs_are_the_same_bit_for_bit(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)  # whatever happened before does not matter
    training.fit(recipe(dsd100_root), tmp_path / "run", device=CPU)
    assert log(tmp_path / "run") == log(finished)
    assert same(checkpoint(tmp_path / "run"), checkpoint(finished))


def interrupting(at: int) -> Callable[[str], None]:
    """A report that raises at the line of a step, as Ctrl-C would."""

    def report(line: str) -> None:
        if line.startswith(f"step {at},"):
            raise KeyboardInterrupt

    return report


def test_an_interrupted_run_goes_on_bit_for_bit(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.fit(recipe(dsd100_root), run, device=CPU, report=interrupting(3))
    assert checkpoint(run)["step"] == 2
    torch.manual_seed(1234)
    result = training.fit(recipe(dsd100_root), run, device=CPU, resume=True)
    assert log(run) == log(finished)
    assert same(checkpoint(run), checkpoint(finished))
    ours, theirs = weights.load(str(result)), weights.load(str(finished / "unet.safetensors"))
    assert same(states(ours.net), states(theirs.net))
    assert {**ours.metadata, "hours": 0} == {**theirs.metadata, "hours": 0}


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(
    finished: Path, dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save, calls = tmp_path / "run", torch.save, []

    def fail_the_third(state: Any, file: Any) -> None:
        calls.append(state["step"])
        if len(calls) == 3:
            file.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", fail_the_third)
    with pytest.raises((OSError, VocalsepError)):
        training.fit(recipe(dsd100_root), run, device=CPU)
    assert calls == [1, 2, 3]
    assert checkpoint(run)["step"] == 2
    training.fit(recipe(dsd100_root), run, device=CPU, resume=True)
    assert same(checkpoint(run), checkpoint(finished))
    assert not list(run.glob("*.part")), "half a checkpoint was left"


def test_steps_after_the_last_checkpoint_are_logged_once(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.fit(recipe(dsd100_root), run, device=CPU, report=interrupting(2))
    lines = (finished / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(lines[:3]), encoding="utf-8")  # had it lived a little longer
    training.fit(recipe(dsd100_root), run, device=CPU, resume=True)
    assert log(run) == log(finished)


def test_a_line_that_was_torn_when_the_machine_died_does_not_spoil_the_log(
    finished: Path, dsd100_root: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.fit(recipe(dsd100_root), run, device=CPU, report=interrupting(3))
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "loss": 0.5')
    training.fit(recipe(dsd100_root), run, device=CPU, resume=True)
    assert log(run) == log(finished)


def copied(finished: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in finished.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_going_on_with_a_finished_run_changes_nothing(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    result = training.fit(recipe(dsd100_root), run, device=CPU, resume=True)
    assert log(run) == log(finished)
    assert same(checkpoint(run), checkpoint(finished))
    assert same(weights.load(str(result)).metadata, weights.load(str(finished / "unet.safetensors")).metadata)


def test_resuming_needs_a_checkpoint(dsd100_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        training.fit(recipe(dsd100_root), tmp_path / "run", device=CPU, resume=True)
    assert not (tmp_path / "run").exists()


def test_a_fresh_start_refuses_a_folder_with_a_run(finished: Path, dsd100_root: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(ConfigError, match="holds a run"):
        training.fit(recipe(dsd100_root), finished, device=CPU)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_run_needs_a_folder(dsd100_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for run, why in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "run", "cannot be written")):
        with pytest.raises(ConfigError, match=f"{run}: {why}"):
            training.fit(recipe(dsd100_root), run, device=CPU)


def test_a_run_leaves_the_global_generator_alone(dsd100_root: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    training.fit(recipe(dsd100_root, steps=1), tmp_path / "run", device=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_validation_the_last_weights_are_kept(dsd100_root: Path, tmp_path: Path) -> None:
    result = training.fit(recipe(dsd100_root, hold_out=0, steps=2), tmp_path / "run", device=CPU)
    assert weights.load(str(result)).metadata["steps"] == 2
    assert not any("validation_loss" in entry for entry in log(tmp_path / "run"))


def test_validation_songs_without_any_voice_still_give_weights_and_a_log(tmp_path: Path) -> None:
    for number in (1, 2):
        stems = synthetic_songs.song(number)
        if number == 2:  # the one that is held out: a click far below the accompaniment
            stems["vocals"][:] = 0
            stems["vocals"][40_000] = 200
        for stem, samples in stems.items():
            synthetic_songs.write(tmp_path / "songs" / f"Band {number} - Song" / f"{stem}.wav", samples, 44_100)
    pools = (PoolOptions(layout="stems", root=str(tmp_path / "songs"), hold_out=2),)
    found = replace(recipe(tmp_path, steps=1), pools=pools)
    result = training.fit(found, tmp_path / "run", device=CPU)
    assert [entry["step"] for entry in log(tmp_path / "run")] == [0]
    assert weights.load(str(result)).metadata["steps"] == 1


def test_minutes_end_a_run(dsd100_root: Path, tmp_path: Path) -> None:
    found = recipe(dsd100_root, steps=0, minutes=1e-6)
    training.fit(found, tmp_path / "run", device=CPU)
    assert len(log(tmp_path / "run")) == 1
    assert (tmp_path / "run" / "unet.safetensors").exists()


def test_the_log_says_how_long_the_net_waited(finished: Path) -> None:
    entries = [json.loads(line) for line in (finished / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    waited = [entry["waited"] for entry in entries]
    assert waited == sorted(waited)
    assert all(0 <= entry["waited"] <= entry["seconds"] for entry in entries)


def test_before_it_starts_a_run_says_what_it_will_cost(dsd100_root: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    training.fit(recipe(dsd100_root, steps=1), tmp_path / "run", device=CPU, report=lines.append)
    costs = [place for place, line in enumerate(lines) if "80,933 parameters" in line and "1 steps to go" in line]
    steps = [place for place, line in enumerate(lines) if line.startswith("step 1,")]
    assert costs < steps
    assert "waited for excerpts" in lines[steps[0]]


def test_the_curves_of_a_run_are_drawn(finished: Path) -> None:
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")


def scores(monkeypatch: pytest.MonkeyPatch, *qualities: float) -> None:
    """Makes validations give these SNRs, by the step they come after."""
    monkeypatch.setattr(
        Trainer, "validate", lambda made: {"validation_loss": 0.0, "validation_snr_db": qualities[made.step - 1]}
    )


def test_a_run_stops_early_when_validation_gets_no_better(
    dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, 1.0, 3.0, 2.0, 2.5, 4.0, 5.0)
    chosen = recipe(dsd100_root, steps=6, validate_steps=1, stop_validations=2)
    result = training.fit(chosen, tmp_path / "run", device=CPU)
    assert [entry["step"] for entry in log(tmp_path / "run")] == [0, 1, 2, 3]
    assert weights.load(str(result)).metadata["steps"] == 2
    training.fit(chosen, tmp_path / "run", device=CPU, resume=True)
    assert len(log(tmp_path / "run")) == 4, "it had been given up"


def test_a_plateau_cuts_the_learning_rate_of_a_run(
    dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, 3.0, 2.0, 1.0, 1.0, 1.0)
    options = {"schedule": "plateau", "plateau_validations": 2, "warmup_steps": 0, "learning_rate": 4e-3}
    training.fit(recipe(dsd100_root, steps=5, validate_steps=1, **options), tmp_path / "run", device=CPU)
    assert [entry["lr"] for entry in log(tmp_path / "run")] == pytest.approx([4e-3, 4e-3, 4e-3, 2e-3, 2e-3])


def test_a_run_with_plateaus_goes_on_bit_for_bit(dsd100_root: Path, tmp_path: Path) -> None:
    options = {"schedule": "plateau", "plateau_validations": 1, "stop_validations": 3, "optimiser": "rmsprop"}
    chosen = recipe(dsd100_root, steps=6, validate_steps=1, precision="bf16", **options)
    training.fit(chosen, tmp_path / "whole", device=CPU)
    with pytest.raises(KeyboardInterrupt):
        training.fit(chosen, tmp_path / "parts", device=CPU, report=interrupting(3))
    training.fit(chosen, tmp_path / "parts", device=CPU, resume=True)
    assert log(tmp_path / "parts") == log(tmp_path / "whole")
    assert same(checkpoint(tmp_path / "parts"), checkpoint(tmp_path / "whole"))


@pytest.mark.parametrize("options", [{"schedule": "plateau"}, {"stop_validations": 3}])
def test_what_needs_validation_is_refused_without_it(
    dsd100_root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="need validation"):
        training.fit(recipe(dsd100_root, hold_out=0, **options), tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()


def test_validation_comes_after_so_many_steps(dsd100_root: Path, tmp_path: Path) -> None:
    training.fit(recipe(dsd100_root, steps=5, validate_steps=2), tmp_path / "run", device=CPU)
    validated = [entry["step"] for entry in log(tmp_path / "run") if "validation_loss" in entry]
    assert validated == [1, 3, 4]  # after every second step, and at the end


def test_validation_comes_after_so_many_epochs(dsd100_root: Path, tmp_path: Path) -> None:
    chosen = recipe(dsd100_root, steps=0, epochs=1.5, batch_size=1, validate_epochs=0.5)
    training.fit(chosen, tmp_path / "run", device=CPU)
    entries = log(tmp_path / "run")
    validated = [entry["step"] + 1 for entry in entries if "validation_loss" in entry]
    assert validated[0] == pytest.approx(len(entries) / 3, abs=1)
    assert validated[1] == 2 * validated[0]
    assert validated[-1] == len(entries)


def test_the_recipe_of_a_run_names_the_precision_that_was_found_fastest(dsd100_root: Path, tmp_path: Path) -> None:
    training.fit(recipe(dsd100_root, steps=1, precision="auto"), tmp_path / "run", device=CPU)
    found = recipes.read_recipe(str(tmp_path / "run" / "recipe.toml"))
    assert found.training.precision in ("fp32", "bf16")


def test_a_run_from_given_weights_has_heard_what_they_have(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    name = str(finished / "unet.safetensors")  # trained on all but Curie
    with pytest.raises(DatasetError, match=r"also trained on: .*Brahe"):
        training.fit(recipe(dsd100_root, hold_out=2, init=name), tmp_path / "run", device=CPU)
    result = training.fit(recipe(dsd100_root, steps=1, init=name), tmp_path / "run", device=CPU)
    assert weights.load(str(result)).metadata["heard"] == weights.load(name).metadata["heard"]
    plain = weights.load(name)
    weights.save(tmp_path / "plain.safetensors", plain.net, plain.front_end, {"licence": "none"})
    lines: list[str] = []
    chosen = recipe(dsd100_root, steps=1, init=str(tmp_path / "plain.safetensors"))
    training.fit(chosen, tmp_path / "other", device=CPU, report=lines.append)
    assert "does not tell what it was trained on" in lines[0]


def test_a_run_does_not_go_on_with_other_recordings(dsd100_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "DSD100"
    shutil.copytree(dsd100_root / "Sources", root / "Sources")
    training.fit(recipe(root, steps=1), tmp_path / "run", device=CPU)
    before = (tmp_path / "run" / "tracks.json").read_bytes()
    song = sorted((root / "Sources" / "Dev").iterdir())[0]
    song.rename(song.with_name("009 - Aaa - New"))
    with pytest.raises(ConfigError, match="009 - Aaa - New"):
        training.fit(recipe(root, steps=2), tmp_path / "run", device=CPU, resume=True)
    assert (tmp_path / "run" / "tracks.json").read_bytes() == before


def test_a_run_that_is_stopped_goes_on_bit_for_bit(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    run, lines, asked = tmp_path / "run", list[str](), list[bool]()

    def stopped() -> bool:
        asked.append(True)
        return len(asked) == 2

    chosen = recipe(dsd100_root, validate_minutes=60.0, checkpoint_minutes=60.0)
    result = training.fit(chosen, run, device=CPU, report=lines.append, should_stop=stopped)
    assert (len(log(run)), checkpoint(run)["step"], result.exists()) == (2, 2, False)
    assert "stopped after step 2; vocalsep train --resume" in lines[-1]
    training.fit(chosen, run, device=CPU, resume=True)
    for part in ("net", "mean", "optimiser"):
        ours, theirs = checkpoint(run)[part], checkpoint(finished)[part]
        assert same(ours, theirs) or part == "mean"  # whose norms are measured at validations


def test_a_run_that_is_done_says_so(finished: Path, dsd100_root: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run = copied(finished, tmp_path / "run")
    training.fit(recipe(dsd100_root), run, device=CPU, resume=True, report=lines.append)
    assert lines[-1] == f"{run}: this run is done, after 4 steps"


def test_validation_is_due_across_a_stop(dsd100_root: Path, tmp_path: Path) -> None:
    run, chosen = tmp_path / "run", recipe(dsd100_root, steps=50, validate_minutes=1e-3)
    for _ in range(20):  # each time a single step, far shorter than the time between validations
        training.fit(chosen, run, device=CPU, resume=(run / "checkpoint.pt").exists(), should_stop=lambda: True)
        if any("validation_loss" in entry for entry in log(run)):
            break
    assert any("validation_loss" in entry for entry in log(run))
    assert len(log(run)) > 0


def test_gradients_that_overflow_for_good_stop_a_run_in_half_precision(material: Material, dsd100_root: Path) -> None:
    made = trainer(material, dsd100_root, precision="fp16")
    next(made.net.parameters()).register_hook(lambda gradient: gradient * math.nan)

    def train() -> None:
        for step in range(40):
            made.update(material.training.draw_batch(step, 2))

    with pytest.raises(VocalsepError, match="no finite gradient in fp16"):
        train()
