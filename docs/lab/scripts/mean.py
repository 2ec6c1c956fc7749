"""Writes the mean of several models' weights as a model.

    python docs/lab/scripts/mean.py OUT.safetensors PART [PART ...]

A part is a weights file or a run's folder, which stands for the running mean that its checkpoint holds: its last
weights, where its weights file has the best. All have one net and front end, and should come from one another: means of
strangers are noise. OUT tells what the first part tells of itself, and has heard what any of them has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from vocalsep import weights
from vocalsep.datasets import splits
from vocalsep.training.loop import CHECKPOINT
from vocalsep.weights import Model


def part(name: str) -> Model:
    """A part: a model, or a run's last weights in its net."""
    folder = Path(name)
    if not folder.is_dir():
        return weights.load(name)
    model = weights.load(str(next(folder.glob(f"*{weights.SUFFIX}"))))
    model.net.load_state_dict(torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["mean"])
    return model


def mean(parts: list[Model]) -> Model:
    """The first part with the mean of all weights; what is counted, and not measured, stays the first one's."""
    first, states = parts[0], [model.net.state_dict() for model in parts]
    if any((model.front_end, model.net.options) != (first.front_end, first.net.options) for model in parts):
        raise SystemExit("the parts have different nets or front ends")
    state = {
        key: sum(state[key] for state in states) / len(states) if tensor.is_floating_point() else tensor
        for key, tensor in states[0].items()
    }
    first.net.load_state_dict(state)
    return first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+")
    options = parser.parse_args()
    parts = [part(name) for name in options.parts]
    heard = parts[0].metadata.get("heard", {})
    for model in parts[1:]:
        heard = splits.merge_heard(heard, model.metadata.get("heard", {}))
    model = mean(parts)
    weights.save(options.out, model.net, model.front_end, model.metadata | {"heard": heard})


if __name__ == "__main__":
    main()
