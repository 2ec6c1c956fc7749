"""Average the weights of several models into one model.

    python docs/lab/scripts/mean.py OUT.safetensors PART [PART ...]

A PART is a weights file or the folder of a run. For a run, the script takes the averaged weights of its checkpoint,
which are the last ones; the run's weights file has the best ones.

All parts need the same layers and front end, and should be fine-tuned from one another: the mean of unrelated weights
is noise. OUT gets the metadata of the first part, and the list of songs heard by any part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from vocalsep import weights
from vocalsep.datasets import splits
from vocalsep.training.loop import CHECKPOINT
from vocalsep.weights import Model


def load_part(name: str) -> Model:
    """Load a model, or the last weights of a run."""
    folder = Path(name)
    if not folder.is_dir():
        return weights.load(name)
    model = weights.load(str(next(folder.glob(f"*{weights.SUFFIX}"))))
    model.net.load_state_dict(torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["mean"])
    return model


def average(parts: list[Model]) -> Model:
    """Return the first model with the mean of all weights. Counters of batch norms stay as they are."""
    first, states = parts[0], [model.net.state_dict() for model in parts]
    shapes = [{key: tensor.shape for key, tensor in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes) or any(model.front_end != first.front_end for model in parts):
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
    parts = [load_part(name) for name in options.parts]
    heard = parts[0].metadata.get("heard", {})
    for model in parts[1:]:
        heard = splits.merge_heard(heard, model.metadata.get("heard", {}))
    model = average(parts)
    weights.save(options.out, model.net, model.front_end, model.metadata | {"heard": heard})


if __name__ == "__main__":
    main()
