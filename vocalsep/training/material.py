"""Find, screen and open the recordings of a recipe: those a run trains on, and those it holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vocalsep import nets
from vocalsep.datasets import screening, splits
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
        heard: Songs and singers that the trained net will have heard.
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
        before: What the net has heard before, if it starts from trained weights.

    Raises:
        DatasetError: If a folder is missing or has another layout; if a held-out song or singer is also trained on; if
            recordings are bad and the recipe does not skip them.
    """
    rate = recipe.front_end.rate
    pools_by_kind: dict[str, list[Pool]] = {"songs": [], "voices": [], "instrumentals": []}
    held_out: list[Pool] = []
    names: dict[str, list[Any]] = {"training": [], "validation": [], "pools": [], "skipped": []}
    found = [_find_parts(pool) for pool in recipe.pools]
    trained = [track for parts in found for track in parts.training]
    for parts in found:
        splits.refuse_leaks(trained, parts.validation, shares_singers=parts.shares_singers, before=before)
    screened = [screening.screen_dataset(parts, rate, CHANNELS) for parts in found]
    bad = [(pool.layout, one) for pool, parts in zip(recipe.pools, screened, strict=True) for one in parts.problems]
    lines = [f"{layout}/{problem}" for layout, problem in bad]
    screening.report_bad_tracks(lines, skip=recipe.training.skip_bad, report=report)
    names["skipped"] = [{"track": f"{layout}/{problem.name}", "problem": problem.what} for layout, problem in bad]
    for pool, parts, usable in zip(recipe.pools, found, screened, strict=True):
        if not usable.training:
            raise DatasetError(f"pool {pool.layout}: no tracks left to train on (hold_out = {pool.hold_out})")
        pools_by_kind[pool.layout if pool.layout in pools_by_kind else "songs"].append(
            Pool(usable.training, pool.weight, pool.balanced, pool.remixed)
        )
        if usable.validation:
            held_out.append(Pool(usable.validation, pool.weight))
        names["training"] += [f"{pool.layout}/{decoded.track.name}" for decoded in usable.training]
        names["validation"] += [f"{pool.layout}/{decoded.track.name}" for decoded in usable.validation]
        names["pools"].append({"layout": pool.layout, "split": parts.split, "shares_singers": parts.shares_singers})
        minutes = sum(decoded.samples for decoded in usable.training + usable.validation) / rate / 60
        report(
            f"{pool.layout}: {len(usable.training)} tracks to train on, {len(usable.validation)} held out, "
            f"{minutes:.1f} minutes" + (" (the split shares singers)" if parts.shares_singers else "")
        )
    samples = nets.count_excerpt_samples(recipe.front_end)
    return Material(
        training=ExcerptSampler(
            songs=pools_by_kind["songs"],
            voices=pools_by_kind["voices"],
            instrumentals=pools_by_kind["instrumentals"],
            samples=samples,
            rate=rate,
            options=recipe.excerpts,
            seed=recipe.training.seed,
        ),
        validation=ExcerptSampler(songs=held_out, samples=samples, rate=rate, options=_UNCHANGED, seed=1)
        if held_out
        else None,
        names={**names, "before": before or {}},
        heard=splits.collect_heard((decoded.track for usable in screened for decoded in usable.training), before),
    )


def _find_parts(pool: PoolOptions) -> SplitDataset:
    root = splits.expand_root(pool.root, pool.layout)
    vocals = splits.expand_root(pool.vocals, pool.layout) if pool.vocals else None
    return splits.split_dataset(pool.layout, root, pool.split, pool.hold_out, vocals)
