from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from net_batches import make_batch, noise, overfit, sum_losses
from torch import Tensor, nn

from vocalsep import nets, weights
from vocalsep.errors import ConfigError
from vocalsep.features import Linear
from vocalsep.nets.spleeter import Spleeter, SpleeterOptions
from vocalsep.nets.unet_hd import UNetHD, UNetHDOptions

SMALL = Linear(rate=8_000, n_fft=256, hop=64, freqs=64, frames=32, compression=0.0)
WIDTHS = (4, 6, 8)
START = Path(__file__).parents[2] / "docs/lab/scripts/start_unet_hd.py"


def build(seed: int = 0, **options: Any) -> UNetHD:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNetHD(UNetHDOptions(**{"widths": WIDTHS} | options))


def test_the_mask_is_that_of_spleeters_net_for_the_vocals() -> None:
    net, spleeter, features = build().eval(), Spleeter(SpleeterOptions(widths=WIDTHS)).eval(), noise(2, 2, 64, 32).abs()
    net.unet.load_state_dict(spleeter.vocals.state_dict())
    vocals, _ = spleeter.estimate_magnitudes(features)
    mask = net(features)
    assert mask.shape == features.shape
    torch.testing.assert_close(mask * features, vocals)
    assert mask.std() > 1e-4


def test_training_changes_no_batch_norm_but_its_scale_and_shift() -> None:
    net, batch = build(), make_batch(SMALL, channels=2)
    before = {name: values.clone() for name, values in net.state_dict().items()}
    features = batch.features
    assert torch.equal(net.train()(features), net.eval()(features))
    optimiser = torch.optim.SGD(net.train().parameters(), lr=0.1)
    sum_losses(net, batch).backward()
    optimiser.step()
    after = net.state_dict()
    changed = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"weight", "bias"}
    assert net.training
    assert not any(norm.training for norm in net.modules() if isinstance(norm, nn.BatchNorm2d))


@pytest.mark.parametrize("rank", [0, 5, 6])
def test_wide_levels_have_two_smaller_kernels(rank: int) -> None:
    net = build(rank=rank).eval()
    split = [isinstance(layer, nn.Sequential) for layer in (*net.unet.down, *reversed(net.unet.up))]
    assert split == 2 * [0 < rank < width for width in WIDTHS]
    assert net(noise(1, 2, 64, 32).abs()).shape == (1, 2, 64, 32)


def test_the_shipped_shape_has_two_thirds_of_the_weights() -> None:
    whole, small = (nets.build("unet-hd", {"rank": rank}) for rank in (0, 256))
    assert whole.parameter_count == 19_645_450 // 2
    assert small.parameter_count == 6_808_069


def test_it_overfits_a_handful_of_excerpts() -> None:
    before, after = overfit(build(rank=5, bce=0.1), make_batch(SMALL, channels=2), steps=80)
    assert after < 0.5 * before


def test_the_loss_is_that_of_the_masked_spectrum_and_of_the_mask() -> None:
    batch = make_batch(SMALL, channels=2)
    terms = build(bce=0.3, spectral=0.5).loss(batch)
    assert set(terms) == {"bce", "spectral"}
    single = build(bce=0.0, spectral=1.0).loss(batch)
    torch.testing.assert_close(terms["spectral"], 0.5 * single["spectral"])
    sum(terms.values()).backward()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options",
    [{"widths": ()}, {"widths": (4, 0)}, {"rank": -1}, {"bce": -1.0}, {"spectral": -1.0}, {"spectral": 0.0}],
    ids=str,
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a full-resolution U-Net needs"):
        UNetHDOptions(**options)


@pytest.mark.parametrize("shape", [(1, 1, 64, 32), (1, 2, 60, 32), (1, 2, 64, 30)])
def test_features_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="channels = 2, and freqs and frames that are multiples of 8"):
        build()(torch.zeros(shape))


def test_chunks_may_be_any_multiple_of_the_frame_step() -> None:
    net = build().eval()
    assert net.frame_step == 8
    assert net(noise(1, 2, 64, 24).abs()).shape == (1, 2, 64, 24)


def start(source: Path, out: Path, *options: str, monkeypatch: pytest.MonkeyPatch) -> UNetHD:
    monkeypatch.setattr(sys, "argv", ["start_unet_hd.py", str(source), str(out), "--frames", "32", *options])
    runpy.run_path(str(START), run_name="__main__")
    net = weights.load(out).net
    assert isinstance(net, UNetHD)
    return net


def test_training_can_start_from_spleeters_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    spleeter, features = Spleeter(SpleeterOptions(widths=WIDTHS)).eval(), noise(2, 2, 1024, 32).abs()
    for level in (1, 2):  # kernels of low rank, which a split can keep
        for kernel in (spleeter.vocals.down[level].weight, spleeter.vocals.up[2 - level].weight):
            kernel.data = (low_rank(kernel.data, 4)).detach()
    front_end = Linear(frames=32, compression=0.0, normalised=False)
    weights.save(
        tmp_path / "spleeter.safetensors", spleeter, front_end, {"licence": "MIT", "data": ["songs"]}, half=False
    )
    expected = torch.sigmoid(spleeter.vocals(3 * features))
    for rank in ("0", "5"):
        net = start(
            tmp_path / "spleeter.safetensors",
            tmp_path / "start.safetensors",
            *("--rank", rank, "--gain", "3"),
            monkeypatch=monkeypatch,
        )
        assert net.options.rank == int(rank)
        torch.testing.assert_close(net(features), expected, rtol=0.01, atol=1e-3)
    made = weights.load(tmp_path / "start.safetensors")
    assert made.front_end == Linear(frames=32, compression=0.0)
    assert made.metadata["licence"] == "MIT"


def low_rank(kernel: Tensor, rank: int) -> Tensor:
    left, values, right = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
    return ((left[:, :rank] * values[:rank]) @ right[:rank]).view_as(kernel)
