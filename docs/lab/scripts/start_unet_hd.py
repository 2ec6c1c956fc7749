#!/usr/bin/env python3
"""Make weights of a `unet-hd` from Spleeter's, to start training from.

    start_unet_hd.py SPLEETER OUT.safetensors [--rank 256] [--gain 10] [--frames 128]

SPLEETER is Spleeter's 2-stem model as vocalsep imports it (`vocalsep models import spleeter FILE`): its name or file.
Only the net for the vocals is used.

Kernels of levels with more than `--rank` maps are split in two by their largest singular values. `unet-hd` sees
magnitudes relative to the level of their chunk, Spleeter plain ones, so the first kernels are multiplied by `--gain`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vocalsep import nets, weights
from vocalsep.features import Linear
from vocalsep.nets.spleeter import Spleeter, StemNet


def split(kernel: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Split a kernel by its first axis into a matrix of `rank` columns and a kernel of `rank` maps."""
    left, values, right = torch.linalg.svd(kernel.flatten(1).double(), full_matrices=False)
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).float(), (root[:, None] * right[:rank]).float().view(rank, *kernel.shape[1:])


def convert(stem: StemNet, rank: int, gain: float) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and values of the weights, as a `StemNet` of this rank has them."""
    given = stem.state_dict()
    levels = len(stem.down)
    widths = [layer.out_channels for layer in stem.down]
    for name, values in given.items():
        part, number, kind = name.split(".") if name.count(".") == 2 else (name, "0", "")
        level = {"down": int(number), "up": levels - 1 - int(number)}.get(part)
        scaled = gain * values if name == "down.0.weight" else values
        if level is None or not 0 < rank < widths[level]:
            yield name, scaled
        elif kind == "bias":
            yield f"{part}.{number}.1.bias", values
        else:
            matrix, kernel = split(scaled, rank)
            down = part == "down"  # there, the 1 x 1 kernel comes last
            yield f"{part}.{number}.{int(down)}.weight", (matrix if down else matrix.T)[:, :, None, None].contiguous()
            yield f"{part}.{number}.{int(not down)}.weight", kernel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spleeter")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rank", type=int, default=256)
    parser.add_argument("--gain", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=128)
    given = parser.parse_args()
    source = weights.load(given.spleeter)
    if not isinstance(source, weights.Model) or not isinstance(source.net, Spleeter):
        raise SystemExit(f"{given.spleeter} is not Spleeter's model")
    net = nets.build("unet-hd", {"widths": source.net.options.widths, "rank": given.rank}).eval()
    net.unet.load_state_dict(dict(convert(source.net.vocals, given.rank, given.gain)))
    front_end = Linear(frames=given.frames, compression=0.0)
    about = {key: source.metadata[key] for key in ("licence", "data", "version") if key in source.metadata}
    weights.save(
        given.out, net, front_end, about | {"metrics": {}, "source": "the net for the vocals of Spleeter 2stems"}
    )
    print(f"{given.out}: {net.parameter_count:,} parameters")


if __name__ == "__main__":
    main()
