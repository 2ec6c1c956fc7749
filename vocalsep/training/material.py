"""A recipe's recordings, found, screened and opened: what a run trains on, and what it holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vocalsep import nets
from vocalsep.datasets import screening, splits
from vocalsep.datasets.splits import Heard, Parts
from vocalsep.errors import DatasetError
from vocalsep.training.excerpts.sampler import ExcerptOptions, Excerpts, Pool
from vocalsep.training.recipes import PoolOptions, Recipe

CHANNELS = 2  # excerpts are stereo


@dataclass(frozen=True, kw_only=True)
class Material:
    """Opened recordings: what is trained on and what is held out, and a record of it."""

    training: Excerpts
    validation: Excerpts | None
    names: Mapping[str, Sequence[Any]]
    heard: Heard


def open_material(
    recipe: Recipe, report: Callable[[str], None] = lambda _: None, before: Heard | None = None
) -> Material:
    """Finds and decodes all recordings of a recipe.

    Args:
        recipe: The recipe.
        report: Receives a line per pool.
        before: What the net has heard before, where it starts from the weights of another training.

    Raises:
        DatasetError: If a folder is missing or laid out differently, if something would be validated on that is trained
            on, or if recordings are bad and the recipe does not skip them.
    """
    rate = recipe.front_end.rate
    kinds: dict[str, list[Pool]] = {"songs": [], "voices": [], "instrumentals": []}
    held: list[Pool] = []
    names: dict[str, list[Any]] = {"training": [], "validation": [], "pools": [], "skipped": []}
    opened = [_parts(pool) for pool in recipe.pools]
    trained = [track for parts in opened for track in parts.training]
    for parts in opened:
        splits.refuse_leaks(trained, parts.validation, shares_singers=parts.shares_singers, before=before)
    screened = [screening.screen_parts(parts, rate, CHANNELS) for parts in opened]
    bad = [(pool.layout, one) for pool, parts in zip(recipe.pools, screened, strict=True) for one in parts.problems]
    screening.report_bad([f"{layout}/{one}" for layout, one in bad], skip=recipe.training.skip_bad, report=report)
    names["skipped"] = [{"track": f"{layout}/{one.name}", "problem": one.what} for layout, one in bad]
    for pool, parts, found in zip(recipe.pools, opened, screened, strict=True):
        if not found.training:
            raise DatasetError(f"pool {pool.layout}: no track to train on is left (hold_out = {pool.hold_out})")
        kinds[pool.layout if pool.layout in kinds else "songs"].append(
            Pool(found.training, pool.weight, pool.balanced, pool.remixed)
        )
        if found.validation:
            held.append(Pool(found.validation, pool.weight))
        names["training"] += [f"{pool.layout}/{decoded.track.name}" for decoded in found.training]
        names["validation"] += [f"{pool.layout}/{decoded.track.name}" for decoded in found.validation]
        names["pools"].append({"layout": pool.layout, "split": parts.split, "shares_singers": parts.shares_singers})
        minutes = sum(decoded.samples for decoded in found.training + found.validation) / rate / 60
        report(
            f"{pool.layout}: {len(found.training)} tracks to train on, {len(found.validation)} held out, "
            f"{minutes:.1f} minutes" + (" (the split shares singers)" if parts.shares_singers else "")
        )
    samples = nets.count_excerpt_samples(recipe.front_end)
    common = {"samples": samples, "rate": rate}
    plain = ExcerptOptions(
        pairs=1, remixes=0, voices=0, vocal_free=0, gain_db=(0.0, 0.0), swap=0, polarity=0, instrumentals=0
    )
    return Material(
        training=Excerpts(**kinds, **common, options=recipe.excerpts, seed=recipe.training.seed),  # type: ignore[arg-type]
        validation=Excerpts(songs=held, **common, options=plain, seed=1) if held else None,  # type: ignore[arg-type]
        names=names,
        heard=splits.heard((decoded.track for found in screened for decoded in found.training), before),
    )


def _parts(pool: PoolOptions) -> Parts:
    vocals = splits.expanded(pool.vocals, pool.layout) if pool.vocals else None
    return splits.part(pool.layout, splits.expanded(pool.root, pool.layout), pool.split, pool.hold_out, vocals)
