#!/usr/bin/env python3
"""Make the weights of a wider net from those of a narrower one, to go on training from.

    grow.py NARROW RECIPE.toml OUT.safetensors [--seed 0]

NARROW is a `uhnet-hd` (its name, file or run), and RECIPE names the wider one's options. The wider net computes what
the narrower one does, apart from one layer normalisation: its new maps start with random kernels, and nothing reads
them yet (compare Chen, Goodfellow and Shlens, "Net2Net", 2016, which copies maps instead).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from vocalsep import nets, weights
from vocalsep.training.recipes import read_recipe


def grow(name: str, old: Tensor, new: Tensor) -> Tensor:
    """Return a parameter of the wider net: the old values in its corner, and 0 where an old map would read a new one.

    Args:
        name: Its name.
        old: The value in the narrower net.
        new: The initial value in the wider net, of the same number of axes.
    """
    grown = new.clone()
    if old.ndim > 1:
        reader = 1 if name.startswith("up.") else 0  # transposed kernels have their inputs first
        rows, read = old.shape[reader], old.shape[1 - reader]
        grown.narrow(reader, 0, rows).narrow(1 - reader, read, new.shape[1 - reader] - read).zero_()
    grown[tuple(slice(size) for size in old.shape)] = old
    return grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("narrow")
    parser.add_argument("recipe")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    source, recipe = weights.load(given.narrow), read_recipe(given.recipe)
    if not isinstance(source, weights.Model):
        raise SystemExit(f"{given.narrow} is not one of vocalsep's own nets")
    torch.manual_seed(given.seed)
    net = nets.build(recipe.net, recipe.options).eval()
    old, new = source.net.state_dict(), net.state_dict()
    if old.keys() != new.keys() or source.front_end != recipe.front_end:
        raise SystemExit("the two nets differ in more than their widths")
    net.load_state_dict({name: grow(name, old[name], value) for name, value in new.items()})
    weights.save(given.out, net, recipe.front_end, source.metadata)
    print(f"{given.out}: {source.net.parameter_count:,} parameters before, {net.parameter_count:,} now")


if __name__ == "__main__":
    main()
