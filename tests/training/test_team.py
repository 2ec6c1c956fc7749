from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import CPU, make_recipe
from torch import Tensor, distributed, nn

from vocalsep import config, nets, training
from vocalsep.errors import ConfigError, VocalsepError
from vocalsep.training import loop, team
from vocalsep.training.material import Material, open_material
from vocalsep.training.team import SharedBatchNorm, Team
from vocalsep.training.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture
def group() -> Iterator[None]:
    """A group of one process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_single_process_is_a_team_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with team.join_team(CPU) as alone:
        assert (alone.rank, alone.size, alone.leads, alone.broadcast(0.3)) == (0, 1, True, 0.3)
        net = nets.build("unet", {"width": 1})
        module = alone.wrap_loss(net)
        assert isinstance(module, team.LossModule)
        assert module.net is net
        values = torch.tensor([1.0, 2.0])
        assert torch.equal(alone.average(values), values)
    assert not distributed.is_initialized()


def test_the_shares_of_all_processes_make_up_the_batch(dsd100_root: Path) -> None:
    material = open_material(make_recipe(dsd100_root, batch_size=6))
    whole = material.training.draw_batch(3, 6)
    for rank in range(2):
        trainer = Trainer(make_recipe(dsd100_root, batch_size=6), material, Team(device=CPU))
        trainer.team = Team(rank=rank, size=2, device=CPU)
        share = trainer.draw_batch(3)
        assert torch.equal(share.vocals, whole.vocals[rank::2])
        assert torch.equal(share.accompaniment, whole.accompaniment[rank::2])
        assert share.tracks == whole.tracks[rank::2]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("shape", [(4, 3, 8, 6), (4, 3, 8), (9, 3)])
def test_with_one_process_the_shared_norm_equals_the_ordinary_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    kind = {4: nn.BatchNorm2d}.get(len(shape), nn.BatchNorm1d)
    plain, shared = kind(3), SharedBatchNorm(3)
    with torch.no_grad():
        for norm in (plain, shared):
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    for step in range(3):
        maps = 5 + 2 * torch.randn(shape)
        one, two = maps.clone().requires_grad_(), maps.clone().requires_grad_()
        aim = torch.randn(maps.shape)
        for norm, leaf in ((plain, one), (shared, two)):
            norm.zero_grad()
            (norm(leaf) - aim).square().sum().backward()
        torch.testing.assert_close(shared(two), plain(one), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(shared.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(dict(shared.named_buffers()), dict(plain.named_buffers()), rtol=1e-5, atol=1e-5)
        assert int(plain.num_batches_tracked) == 2 * step + 2
    plain.eval(), shared.eval()
    torch.testing.assert_close(shared(maps), plain(maps))


def read_weights(run: Path) -> dict[str, Tensor]:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    return {key: tensor.double() for key, tensor in {**state["net"], **state["mean"]}.items()}


NETS: dict[str, dict[str, Any]] = {
    "unet": {"width": 4, "dropout": 0.0, "spectral": 1.0},
    "dpcl": {"bands": 64, "units": 8, "layers": 2, "dimensions": 4, "dropout": 0.0, "normalised": True},
}


@pytest.mark.parametrize("net", ["unet", pytest.param("dpcl", marks=pytest.mark.slow)])
def test_two_processes_train_as_one_does(net: str, material: Material, dsd100_root: Path, tmp_path: Path) -> None:
    chosen = make_recipe(dsd100_root, steps=3, batch_size=4, validate_steps=2, ema=0.5, warmup_steps=0)
    chosen = replace(chosen, net=net, options=NETS[net])
    (tmp_path / "recipe.toml").write_text(config.dump_toml(config.to_dict(chosen)), encoding="utf-8")
    training.fit(chosen, tmp_path / "one", device=CPU)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "vocalsep", "train", "recipe.toml", "--out", "two", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"two/{net}.safetensors\n"
    assert done.stderr.count("parameters") == 1, "only the leader reports"

    first = Trainer(chosen, material, Team(device=CPU)).net.state_dict()
    fresh = {key: tensor.double() for key, tensor in first.items()}
    one, two = read_weights(tmp_path / "one"), read_weights(tmp_path / "two")
    assert one.keys() == two.keys() >= fresh.keys()
    for key in one:
        moved = (one[key] - fresh[key]).norm()
        assert (two[key] - one[key]).norm() <= 0.02 * moved + 1e-5, key
    logs = [(tmp_path / run / "log.jsonl").read_text(encoding="utf-8").splitlines() for run in ("one", "two")]
    assert len(logs[0]) == len(logs[1]) == 3
    for first, second in zip(*logs, strict=True):
        assert json.loads(first)["loss"] == pytest.approx(json.loads(second)["loss"], rel=1e-3)


def test_a_batch_that_cannot_be_shared_is_refused(
    dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "join_team", lambda device: nullcontext(Team(size=2, device=device)))
    monkeypatch.setattr(Team, "broadcast", lambda _, number: number)
    with pytest.raises(ConfigError, match="expected a multiple of 2, the number of processes"):
        training.fit(make_recipe(dsd100_root, batch_size=3), tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()


def test_the_others_stop_when_the_leader_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[float] = []

    def broadcast(ours: Team, number: float) -> float:
        numbers.append(number)
        return numbers[0]

    monkeypatch.setattr(Team, "broadcast", broadcast)
    leader, other = Team(size=2, device=CPU), Team(rank=1, size=2, device=CPU)
    with pytest.raises(ZeroDivisionError), leader.leader_first():
        _ = 1 / 0
    with pytest.raises(VocalsepError, match="first process failed; see its error"), other.leader_first():
        pytest.fail("the others ran the block")
    numbers.clear()
    with leader.leader_first():
        pass
    with other.leader_first():
        numbers.append(7.0)
    assert numbers == [1.0, 0.0, 7.0]
