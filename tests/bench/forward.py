"""Prints what a net's forward pass takes under what torch offers to make it faster.

    python tests/bench/forward.py [--model uhnet-hd] [--passes 12] [--profile]

Milliseconds of processor time on one thread for a second of a stereo song, each frame seen once: the best of the
passes, and their median, after a first one that does not count. All that is tried takes turns, so that what else the
machine does meets it alike. The first line is how the extractor does it. `--profile` prints which operators take that
line's time.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.profiler import ProfilerActivity, profile

from models import chunk
from vocalsep import weights
from vocalsep.nets import Net

Pass = Callable[[Tensor], object]

_ENOUGH = 10.0  # seconds of passes of one kind


def folded(net: Net) -> Net:
    """A copy whose batch norms are folded into the convolutions that they follow."""
    made = copy.deepcopy(net)
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.Sequential) and any(isinstance(layer, nn.BatchNorm2d) for layer in module):
            parent, _, child = name.rpartition(".")
            setattr(made.get_submodule(parent), child, fuse(module))
    return made


def ways(net: Net) -> Iterator[tuple[str, int, Pass]]:
    """What is tried: its name, chunks to a batch, and the pass."""
    for size in (2, 1, 4, 8):
        yield "as it is", size, torch.inference_mode()(net)
    yield "no_grad in place of inference_mode", 2, torch.no_grad()(net)
    yield "batch norms folded into convolutions", 2, torch.inference_mode()(folded(net))
    yield "bfloat16 by autocast", 2, torch.inference_mode()(torch.autocast("cpu", torch.bfloat16)(net))
    yield "torch.compile", 2, torch.no_grad()(torch.compile(net))
    last = net.memory_format == torch.channels_last
    other = torch.contiguous_format if last else torch.channels_last
    turned = copy.deepcopy(net).to(memory_format=other)  # type: ignore[call-overload]
    yield (
        "channels first" if last else "channels last",
        2,
        torch.inference_mode()(lambda seen: turned(seen.contiguous(memory_format=other))),
    )


def processor_seconds(runs: Sequence[tuple[Pass, Tensor]], passes: int) -> list[list[float]]:
    """What each pass took, of those that take turns."""
    for run, seen in runs:
        run(seen)
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(passes):
        for (run, seen), its in zip(runs, taken, strict=True):
            if sum(its) < _ENOUGH:
                started = time.process_time()
                run(seen)
                its.append(time.process_time() - started)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=weights.DEFAULT_MODEL)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = weights.load(options.model)
    net, front_end = model.net, model.front_end
    net.to(memory_format=net.memory_format)  # type: ignore[call-overload]
    one = chunk(model)
    tried = list(ways(net))
    batches = [one.repeat(size, 1, 1, 1).contiguous(memory_format=net.memory_format) for _, size, _ in tried]
    passes = processor_seconds([(run, seen) for (_, _, run), seen in zip(tried, batches, strict=True)], options.passes)
    print("| pass | chunks to a batch | ms for a second, best | median |")
    print("|---|---|---|---|")
    for (name, size, _), taken in zip(tried, passes, strict=True):
        ms = 1_000 * front_end.rate / (size * front_end.frames * front_end.hop)
        print(f"| {name} | {size} | {ms * min(taken):.1f} | {ms * statistics.median(taken):.1f} |")
    if options.profile:
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as profiled:
            net(one.repeat(2, 1, 1, 1).contiguous(memory_format=net.memory_format))
        print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


if __name__ == "__main__":
    main()
