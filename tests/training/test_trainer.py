from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from states import are_identical, copy_parameters, copy_state
from tiny_recipes import SMALL, make_trainer
from torch import Tensor

from vocalsep import nets
from vocalsep.errors import VocalsepError
from vocalsep.features import LogMel
from vocalsep.training import schedule
from vocalsep.training.material import Material


def test_first_weights_depend_on_the_seed_alone(material: Material, dsd100_root: Path) -> None:
    torch.manual_seed(1)
    one = make_trainer(material, dsd100_root)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = make_trainer(material, dsd100_root)
    assert torch.equal(torch.get_rng_state(), before)
    other = make_trainer(material, dsd100_root, seed=1)
    assert are_identical(copy_state(one.net), copy_state(two.net))
    assert are_identical(copy_state(one.net), copy_state(one.averaged_net))
    assert not are_identical(copy_state(one.net), copy_state(other.net))


def test_a_step_moves_every_parameter_and_returns_loss_and_rate(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root)
    before = copy_state(made.net)
    entry = made.update(material.training.draw_batch(0, 2))
    assert made.step == 1
    assert entry["loss"] == pytest.approx(entry["bce"])
    assert entry["lr"] == pytest.approx(schedule.compute_learning_rate(made.recipe.training, 0, 0.0))
    unmoved = [name for name, tensor in made.net.named_parameters() if torch.equal(tensor, before[name])]
    assert unmoved == []


def test_loss_falls_on_a_small_data_set(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, steps=30)
    losses = [made.update(material.training.draw_batch(step, 2))["loss"] for step in range(30)]
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3])


def test_the_moving_average_follows_the_weights(material: Material, dsd100_root: Path) -> None:
    def gap(before: dict[str, Tensor]) -> float:
        return sum(float((before[n] - p.detach()).square().sum()) for n, p in made.net.named_parameters())

    made = make_trainer(material, dsd100_root, ema=0.5)
    for step in range(3):
        before = copy_state(made.averaged_net)
        made.update(material.training.draw_batch(step, 2))
        after = copy_state(made.averaged_net)
        assert 0 < gap(after) < gap(before)
        for name, now in made.net.named_parameters():
            low, high = torch.minimum(before[name], now), torch.maximum(before[name], now)
            assert (low - 1e-6 <= after[name]).all()
            assert (after[name] <= high + 1e-6).all()
    assert not any(parameter.requires_grad for parameter in made.averaged_net.parameters())


def test_a_moving_average_without_memory_equals_the_weights(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, ema=0.0)
    made.update(material.training.draw_batch(0, 2))
    assert are_identical(copy_parameters(made.averaged_net), copy_parameters(made.net))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_optimiser_steps(
    material: Material, dsd100_root: Path, value: float
) -> None:
    made = make_trainer(material, dsd100_root)
    made.update(material.training.draw_batch(0, 2))
    net, mean = copy_parameters(made.net), copy_state(made.averaged_net)
    moments = copy.deepcopy(made.optimiser.state_dict()["state"])
    drawn = material.training.draw_batch(1, 2)
    drawn.vocals[1, 0, 4_000] = value
    with pytest.raises(VocalsepError, match="step 1") as error:
        made.update(drawn)
    assert f"Excerpts of: {' with '.join(drawn.tracks[1])}. " in str(error.value)
    assert made.step == 1
    assert are_identical(copy_state(made.averaged_net), mean)
    assert are_identical(made.optimiser.state_dict()["state"], moments)
    assert are_identical(copy_parameters(made.net), net)


def test_validation_is_the_same_each_time_and_moves_no_weight(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root)
    made.update(material.training.draw_batch(0, 2))
    before = copy.deepcopy({**made.state_dict(), "mean": copy_parameters(made.averaged_net)})
    one, measured = made.validate(), copy_state(made.averaged_net)
    two = made.validate()
    assert one == two
    assert set(one) == {"validation_loss", "validation_snr_db"}
    assert all(map(math.isfinite, one.values()))
    assert are_identical(before, {**made.state_dict(), "mean": copy_parameters(made.averaged_net)})
    assert are_identical(measured, copy_state(made.averaged_net))
    assert not any(module.training for module in made.averaged_net.modules())


def test_the_validation_snr_is_the_mean_over_excerpts_with_vocals(
    material: Material, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_trainer(material, dsd100_root, validate_excerpts=6)
    gains = iter([0.5, -10.0, 1.0])  # estimate over vocals, one per batch of two excerpts
    monkeypatch.setattr(made.averaged_net, "forward", lambda features: features)
    apply_mask, batches = nets.Batch.apply_mask, []

    def estimate(batch: nets.Batch, mask: Tensor) -> Tensor:
        assert apply_mask(batch, torch.ones_like(mask[:, :1])).shape == batch.vocals.shape
        batches.append(batch)
        return batch.vocals * next(gains)

    monkeypatch.setattr(nets.Batch, "apply_mask", estimate)
    monkeypatch.setattr(made.averaged_net, "loss", lambda _: {"all": torch.tensor(1.0)})
    scores = made.validate()
    assert len(batches) == 3
    assert scores["validation_snr_db"] == pytest.approx((20 * np.log10(2) - 10 + 30) / 3, abs=1e-3)


def test_validation_measures_the_batch_norms_of_the_averaged_net(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, ema=0.0)
    for step in range(3):
        made.update(material.training.draw_batch(step, 2))
    made.validate()
    first, found = made.averaged_net.down[0][0], []
    for step in range(3):  # the input of the first norm, on other excerpts
        features = nets.make_batch(SMALL, *material.training.draw_batch(step, 8)[:2]).features
        found.append(first(features))
    seen = torch.cat(found)
    norm = made.averaged_net.down[0][1]
    torch.testing.assert_close(norm.running_var, seen.var(dim=(0, 2, 3)), rtol=0.3, atol=1e-4)
    deviation = seen.std(dim=(0, 2, 3))
    assert ((norm.running_mean - seen.mean(dim=(0, 2, 3))).abs() < 0.3 * deviation).all()


def test_validation_leaves_batch_norms_alone_that_the_net_freezes(
    material: Material, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_trainer(material, dsd100_root)
    switch = made.net.train

    def train(mode: bool = True) -> nets.Net:
        switch(mode)
        made.net.down[0][1].eval()
        return made.net

    monkeypatch.setattr(made.net, "train", train)
    made.update(material.training.draw_batch(0, 2))
    made.validate()
    frozen, other = made.averaged_net.down[0][1], made.averaged_net.down[1][1]
    assert torch.equal(frozen.running_mean, torch.zeros_like(frozen.running_mean))
    assert torch.equal(frozen.running_var, torch.ones_like(frozen.running_var))
    assert not torch.equal(other.running_mean, torch.zeros_like(other.running_mean))


def test_a_net_can_be_trained_after_it_was_used() -> None:
    front_end = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=16)  # used by no other test
    with torch.inference_mode():  # as during extraction
        front_end.spread(torch.ones(1, 32, 1))
    net = nets.build("unet", {"width": 1, "spectral": 1.0})
    sound = torch.randn(2, 2, 2, nets.count_excerpt_samples(front_end), generator=torch.Generator().manual_seed(0))
    sum(net.loss(nets.make_batch(front_end, *sound)).values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "muon"])
def test_other_optimisers_train_too(material: Material, dsd100_root: Path, optimiser: str) -> None:
    made = make_trainer(material, dsd100_root, steps=20, optimiser=optimiser, learning_rate=2e-3)
    losses = [made.update(material.training.draw_batch(step, 2))["loss"] for step in range(20)]
    assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:3])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_with_autocast_the_step_is_nearly_that_of_full_precision(
    material: Material, dsd100_root: Path, precision: str
) -> None:
    full, half = make_trainer(material, dsd100_root), make_trainer(material, dsd100_root, precision=precision)
    drawn = material.training.draw_batch(0, 2)
    one, two = full.update(drawn), half.update(drawn)
    assert two["loss"] == pytest.approx(one["loss"], rel=0.02)
    assert two["loss"] != one["loss"]
    assert {parameter.dtype for parameter in half.net.parameters()} == {torch.float32}
    assert half.scaler.is_enabled() == (precision == "fp16")


def test_losses_are_computed_in_full_precision(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, precision="bf16")
    terms = made.compute_loss(material.training.draw_batch(0, 2))
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_a_checkpoint_keeps_its_format(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root)
    state = made.state_dict()
    assert set(state) == {
        *("net", "mean", "optimiser", "scaler", "step", "standing"),
        *("seconds", "waited", "validated", "validation_seconds"),
    }
    assert state["mean"].keys() == state["net"].keys() == made.net.state_dict().keys()
    assert state["standing"] == {"best": -math.inf, "stale": 0, "factor": 1.0}


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_restored_trainer_continues_bit_for_bit(material: Material, dsd100_root: Path, optimiser: str) -> None:
    made, restored = (make_trainer(material, dsd100_root, optimiser=optimiser) for _ in range(2))
    for step in range(3):
        made.update(material.training.draw_batch(step, 2))
    restored.load_state_dict(copy.deepcopy(made.state_dict()))
    for one in (made, restored):
        one.update(material.training.draw_batch(3, 2))
    assert are_identical(restored.state_dict(), made.state_dict())


def test_the_scaler_is_part_of_the_state(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, precision="fp16")
    made.update(material.training.draw_batch(0, 2))
    made.scaler.update(512.0)
    other = make_trainer(material, dsd100_root, precision="fp16")
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    assert other.scaler.get_scale() == 512.0
    assert are_identical(other.state_dict(), made.state_dict())


@pytest.mark.parametrize("clip", [0.0, 1e-4])
def test_gradients_are_clipped_if_there_is_a_limit(material: Material, dsd100_root: Path, clip: float) -> None:
    made = make_trainer(material, dsd100_root, clip=clip)
    made.update(made.draw_batch(0))
    norm = math.sqrt(sum(float(one.grad.square().sum()) for one in made.net.parameters() if one.grad is not None))
    assert norm == pytest.approx(clip, rel=1e-2) if clip else norm > 1e-2


def test_an_epoch_is_as_much_sound_as_the_songs_hold(material: Material, dsd100_root: Path) -> None:
    seconds = sum(decoded.samples for pool in material.training.songs for decoded in pool.tracks) / SMALL.rate
    excerpt = nets.count_excerpt_samples(SMALL) / SMALL.rate
    made = make_trainer(material, dsd100_root, steps=0, epochs=2.0)
    assert made.steps == pytest.approx(2 * seconds / excerpt / 2, abs=2)
    made.step = made.steps // 2
    assert made.progress == pytest.approx(0.5, abs=0.02)


def test_dropout_of_a_step_depends_on_seed_and_step_alone(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root)
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


def test_persistent_overflow_stops_a_run_in_half_precision(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, precision="fp16")
    next(made.net.parameters()).register_hook(lambda gradient: gradient * math.nan)

    def train() -> None:
        for step in range(40):
            made.update(material.training.draw_batch(step, 2))

    with pytest.raises(VocalsepError, match="no finite gradient in fp16"):
        train()
