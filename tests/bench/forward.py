"""Compare ways that torch offers to make a net's forward pass faster.

    python tests/bench/forward.py [--model uhnet-hd] [--passes 12] [--profile]

The table has milliseconds of processor time on one thread per second of a stereo song, if the net sees each frame once:
the best pass and the median, after a warm-up. The variants take turns, so that other load on the machine hits all of
them alike. The first row is how the extractor runs the net. `--profile` shows which operators take that row's time.
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

from models import make_chunk
from vocalsep import weights
from vocalsep.nets import Net

Pass = Callable[[Tensor], object]

_ENOUGH = 10.0  # seconds of passes per variant


def fold_batch_norms(net: Net) -> Net:
    """Return a copy with batch norms folded into the convolutions before them."""
    made = copy.deepcopy(net)
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.Sequential) and any(isinstance(layer, nn.BatchNorm2d) for layer in module):
            parent, _, child = name.rpartition(".")
            setattr(made.get_submodule(parent), child, fuse(module))
    return made


def list_variants(net: Net) -> Iterator[tuple[str, int, Pass]]:
    """Yield the name of each variant, chunks per batch, and the pass."""
    for size in (2, 1, 4, 8):
        yield "as it is", size, torch.inference_mode()(net)
    yield "no_grad in place of inference_mode", 2, torch.no_grad()(net)
    yield "batch norms folded into convolutions", 2, torch.inference_mode()(fold_batch_norms(net))
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


def measure_passes(runs: Sequence[tuple[Pass, Tensor]], passes: int) -> list[list[float]]:
    """Return the seconds of processor time of each pass; the passes take turns."""
    for run, features in runs:
        run(features)
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(passes):
        for (run, features), seconds in zip(runs, taken, strict=True):
            if sum(seconds) < _ENOUGH:
                started = time.process_time()
                run(features)
                seconds.append(time.process_time() - started)
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
    one = make_chunk(model)
    variants = list(list_variants(net))
    batches = [one.repeat(size, 1, 1, 1).contiguous(memory_format=net.memory_format) for _, size, _ in variants]
    passes = measure_passes(
        [(run, batch) for (_, _, run), batch in zip(variants, batches, strict=True)], options.passes
    )
    print("| pass | chunks per batch | ms per second, best | median |")
    print("|---|---|---|---|")
    for (name, size, _), taken in zip(variants, passes, strict=True):
        ms = 1_000 * front_end.rate / (size * front_end.frames * front_end.hop)
        print(f"| {name} | {size} | {ms * min(taken):.1f} | {ms * statistics.median(taken):.1f} |")
    if options.profile:
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as profiled:
            net(one.repeat(2, 1, 1, 1).contiguous(memory_format=net.memory_format))
        print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


if __name__ == "__main__":
    main()
