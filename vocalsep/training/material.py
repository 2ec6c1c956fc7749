"""Find, screen and open the recordings of a recipe: those a run trains on, and those it holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vocalsep import nets
from vocalsep.datasets import screening, splits
from vocalsep.datasets.screening import ScreenedDataset
from vocalsep.datasets.splits import Heard, SplitDataset
from vocalsep.errors import DatasetError
from vocalsep.training.excerpts.sampler import ExcerptOptions, ExcerptSampler, Pool
from vocalsep.training.recipes import PoolOptions, Recipe

CHANNELS = 2  # excerpts are stereo

_UNCHANGED = ExcerptOptions(  # for validation: true pairs as they were recorded
    pairs=1, remixes=0, voices=0, vocal_free=0, gain_db=(0.0, 0.0), swap=0, polarity=0, instrumentals=0
)


@dataclass(frozen=True, kw_only=True)
class Material:
    """The recordings of a run, ready to draw excerpts from.

    Attributes:
        training: Draws excerpts to train on.
        validation: Draws excerpts of the held-out songs; None if there are none.
        names: The content of ``tracks.json``: the tracks of each part, the pools, what was skipped, and `before`.
        heard: Songs and singers that the net is trained on in this run, and those its initial weights were trained on.
    """

    training: ExcerptSampler
    validation: ExcerptSampler | None
    names: Mapping[str, Any]
    heard: Heard


def open_material(
    recipe: Recipe, report: Callable[[str], None] = lambda _: None, before: Heard | None = None
) -> Material:
    """Find and decode all recordings of a recipe.

    Args:
        recipe: The recipe.
        report: Receives one line per pool.
        before: Songs and singers that the initial weights were trained on, if any.

    Raises:
        DatasetError: If a folder is missing or has another layout; if a held-out song or singer is also trained on; if
            recordings are bad and the recipe does not skip them.
    """
    rate = recipe.front_end.rate
    datasets = [_split_pool(pool) for pool in recipe.pools]
    trained = [track for dataset in datasets for track in dataset.training]
    for dataset in datasets:
        splits.refuse_leaks(trained, dataset.validation, shares_singers=dataset.shares_singers, before=before)
    screened = [screening.screen_dataset(dataset, rate, CHANNELS) for dataset in datasets]
    bad = [
        (f"{pool.layout}/{problem.name}", problem.what)
        for pool, usable in zip(recipe.pools, screened, strict=True)
        for problem in usable.problems
    ]
    lines = [f"{track}: {what}" for track, what in bad]
    screening.report_bad_tracks(lines, skip=recipe.training.skip_bad, report=report)

    pools: dict[str, list[Pool]] = {"songs": [], "voices": [], "instrumentals": []}
    held_out: list[Pool] = []
    names: dict[str, Any] = {"training": [], "validation": [], "pools": []}
    for pool, dataset, usable in zip(recipe.pools, datasets, screened, strict=True):
        if not usable.training:
            raise DatasetError(f"pool {pool.layout}: no tracks left to train on (hold_out = {pool.hold_out})")
        kind = pool.layout if pool.layout in pools else "songs"
        pools[kind].append(Pool(usable.training, pool.weight, pool.balanced, pool.remixed))
        if usable.validation:
            held_out.append(Pool(usable.validation, pool.weight))
        names["training"] += [f"{pool.layout}/{decoded.track.name}" for decoded in usable.training]
        names["validation"] += [f"{pool.layout}/{decoded.track.name}" for decoded in usable.validation]
        names["pools"].append({"layout": pool.layout, "split": dataset.split, "shares_singers": dataset.shares_singers})
        report(_describe_pool(pool, usable, rate) + (" (the split shares singers)" if dataset.shares_singers else ""))
    names["skipped"] = [{"track": track, "problem": what} for track, what in bad]
    names["before"] = before or {}

    samples = nets.count_excerpt_samples(recipe.front_end)
    training = ExcerptSampler(**pools, samples=samples, rate=rate, options=recipe.excerpts, seed=recipe.training.seed)
    validation = None
    if held_out:
        validation = ExcerptSampler(songs=held_out, samples=samples, rate=rate, options=_UNCHANGED, seed=1)
    return Material(
        training=training,
        validation=validation,
        names=names,
        heard=splits.collect_heard((decoded.track for usable in screened for decoded in usable.training), before),
    )


def _split_pool(pool: PoolOptions) -> SplitDataset:
    root = splits.expand_root(pool.root, pool.layout)
    vocals = splits.expand_root(pool.vocals, pool.layout) if pool.vocals else None
    return splits.split_dataset(pool.layout, root, pool.split, pool.hold_out, vocals)


def _describe_pool(pool: PoolOptions, usable: ScreenedDataset, rate: int) -> str:
    count = len(usable.training)
    minutes = sum(decoded.samples for decoded in usable.training + usable.validation) / rate / 60
    tracks = f"{count} track{'s' if count > 1 else ''} to train on"
    return f"{pool.layout}: {tracks}, {len(usable.validation)} held out, {minutes:.1f} minutes"
