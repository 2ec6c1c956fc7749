#!/usr/bin/env python3
"""Cross-validate over all songs with true stems, and compare models song by song.

    folds.py split FOLDS.tsv ROOT ... [--folds 3] [--first MODEL]
    folds.py lay FOLDS.tsv FOLD OUT ROOT ...
    folds.py score FOLDS.tsv FOLD ROOT ... --models NAME=MODEL ... [--estimates NAME=FOLDER ...] [--means A+B ...]
                   [--against NAME] [--unheard MODEL ...] [--heard] [--likeness] [--scores OUT.tsv] [--cache FOLDER]

Each ROOT is NAME=LAYOUT:FOLDER. LAYOUT is `dsd100` (only the Dev songs; Test is never read) or `stems`:
`dev=dsd100:DSD100 musdb18=stems:STEMS/musdb18`.

`split` assigns songs to folds of about equal size and keeps each artist in one fold. With `--first`, fold 0 contains
all songs that MODEL was not trained on, so that MODEL can be scored there too.

`lay` prepares the training data for a fold: it links all songs outside the fold into OUT/NAME/SONG/, in the layout
`stems`. It also accepts roots that `split` did not see, and leaves out their songs if the fold has the artist or song.

`score` separates the songs of a fold with each model and prints:
- the mean SDR of whole excerpts, and the mean and the median over songs of the median SDR of 1-s frames
- the mean difference from the model named by `--against` (default: the first one), its standard error over songs, and
  the number of songs that are better

`--means a+b` or `--means 0.4*a+0.6*b` also scores weighted means of estimates. `--estimates` reads another separator's
output from FOLDER/SONG.vocals.wav or .flac. `--likeness` prints the cosine between the errors of each pair of models.
`--unheard` keeps only the songs that a model was not trained on. A model that was trained on a song of the fold is
refused, unless `--heard` is given.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

from vocalsep import weights
from vocalsep.datasets import names, splits
from vocalsep.datasets.layouts import LAYOUTS
from vocalsep.datasets.tracks import Track
from vocalsep.evaluation import metrics
from vocalsep.extraction import Extractor
from vocalsep.shapes import Waveform

RATE, FULL_SCALE = 44_100, 2.0**15


def list_songs(given: list[str]) -> dict[str, list[Track]]:
    """Return the tracks of each root, by the root's name."""
    found: dict[str, list[Track]] = {}
    for one in given:
        name, _, place = one.partition("=")
        layout, _, folder = place.partition(":")
        tracks = LAYOUTS[layout].find(Path(folder), "Dev" if layout == "dsd100" else "all").tracks
        found.setdefault(name, []).extend(tracks)  # several roots may share a name
    return found


def artist_of(track: Track) -> str:
    return names.normalise_name(track.group) or track.group


def song_of(track: Track) -> str:
    return names.normalise_name(track.song or track.name)


def folder_of(track: Track) -> str:
    return track.name.replace("/", " - ")


def split(options: argparse.Namespace) -> None:
    tracks = [(root, track) for root, all_of in list_songs(options.roots).items() for track in all_of]
    groups = defaultdict(list)
    for root, track in tracks:
        groups[artist_of(track)].append((root, track))
    first = set()
    if options.first:
        heard = weights.load(options.first).metadata["heard"]
        first = {
            artist_of(t)
            for _, t in tracks
            if not splits.has_heard_song(heard, t) and not splits.has_heard_singer(heard, t)
        }
    sizes, place = [0] * options.folds, {}

    def order(name: str) -> tuple[bool, int, str]:
        return name not in first, -len(groups[name]), hashlib.sha256(name.encode()).hexdigest()

    for name in sorted(groups, key=order):
        place[name] = 0 if name in first else sizes.index(min(sizes))
        sizes[place[name]] += len(groups[name])
    with options.table.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["fold", "root", "artist", "song"])
        writer.writerows(sorted([place[artist_of(t)], root, artist_of(t), t.name] for root, t in tracks))
    print(f"songs in each fold: {', '.join(map(str, sizes))}")


def read_fold(options: argparse.Namespace) -> list[dict[str, str]]:
    with options.table.open(newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if int(row["fold"]) == options.fold]


def lay(options: argparse.Namespace) -> None:
    held = read_fold(options)
    artists, songs = {row["artist"] for row in held}, {names.normalise_name(row["song"]) for row in held}
    for root, tracks in list_songs(options.roots).items():
        kept = [t for t in tracks if artist_of(t) not in artists and song_of(t) not in songs]
        for track in kept:
            folder = options.out / root / folder_of(track)
            folder.mkdir(parents=True, exist_ok=True)
            for source in (*track.vocals, *track.accompaniment):
                link = folder / Path(source.path).name
                link.unlink(missing_ok=True)
                link.symlink_to(Path(source.path).resolve())
        print(f"{root}: {len(kept)} of {len(tracks)} songs")


def load_song(track: Track) -> tuple[Waveform, Waveform]:
    stems = track.load(RATE, 2)
    vocals, rest = (np.round(stems[stem] * FULL_SCALE) / np.float32(FULL_SCALE) for stem in ("vocals", "accompaniment"))
    return vocals, vocals + rest


def estimate(name: str, options: argparse.Namespace, chosen: dict[str, Track]) -> dict[str, Waveform]:
    """Return a model's or another separator's vocals for each song."""
    named = dict(one.split("=", 1) for one in options.estimates)
    if name in named:
        found = {}
        for title, track in chosen.items():
            path = next(p for p in Path(named[name]).iterdir() if p.stem == f"{folder_of(track)}.vocals")
            found[title] = soundfile.read(path, dtype="float32", always_2d=True)[0].T
        return found
    path = dict(one.split("=", 1) for one in options.models)[name]
    model = weights.load(path)
    heard = model.metadata.get("heard", {})
    known = [t.name for t in chosen.values() if splits.has_heard_song(heard, t) or splits.has_heard_singer(heard, t)]
    if known and not options.heard:
        raise SystemExit(f"{name} has heard {splits.join_names(known)}; see --unheard and --heard")
    kept = {}
    if options.cache:
        state = hashlib.sha256(f"{model.front_end} {model.run}".encode())
        for values in model.tensors.values():
            state.update(values.tobytes())
        place = options.cache / f"{state.hexdigest()[:16]}.npz"
        if place.exists():
            kept = dict(np.load(place))
    extractor, found = Extractor(model), {}
    missing = [title for title in chosen if title not in kept]
    for title in chosen:
        if title in kept:
            found[title] = kept[title].astype(np.float32) / np.float32(FULL_SCALE)
        else:
            found[title] = extractor(load_song(chosen[title])[1], RATE).vocals
            kept[title] = np.clip(np.round(found[title] * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    if options.cache and missing:
        options.cache.mkdir(parents=True, exist_ok=True)
        np.savez(place, **kept)
    return found


def parse_mean(mean: str) -> dict[str, float]:
    """Turn `0.4*a+0.6*b` into weights that sum to 1."""
    weighed = {}
    for part in mean.split("+"):
        weight, _, name = part.rpartition("*")
        weighed[name] = float(weight or 1)
    total = sum(weighed.values())
    return {name: weight / total for name, weight in weighed.items()}


def score(options: argparse.Namespace) -> None:
    all_tracks = {(root, t.name): t for root, tracks in list_songs(options.roots).items() for t in tracks}
    held = [(row["root"], row["song"]) for row in read_fold(options)]
    chosen = {f"{root}/{name}": all_tracks[root, name] for root, name in held if (root, name) in all_tracks}
    for name in options.unheard:
        heard = weights.load(name).metadata["heard"]
        chosen = {
            title: t
            for title, t in chosen.items()
            if not splits.has_heard_song(heard, t) and not splits.has_heard_singer(heard, t)
        }
    references = {title: load_song(track)[0] for title, track in chosen.items()}
    singles = [one.split("=", 1)[0] for one in (*options.models, *options.estimates)]
    estimates = {name: estimate(name, options, chosen) for name in singles}
    rows: dict[str, np.ndarray] = {}
    for name in (*singles, *options.means):
        scores = []
        for title, reference in references.items():
            made = sum(weight * estimates[one][title] for one, weight in parse_mean(name).items())
            made = made[:, : reference.shape[1]]
            frames = metrics.framewise_sdr(reference, made, RATE)
            scores.append((float(metrics.sdr(reference, made)), float(np.nanmedian(frames))))
        rows[name] = np.array(scores)
    against = options.against or singles[0]
    print(f"fold {options.fold}: {len(chosen)} songs; differences in whole-excerpt SDR, against {against}\n")
    print("| estimate | whole, mean | mean of medians | median of medians | difference | standard error | better |")
    print("|---|---|---|---|---|---|---|")
    for name, scores in rows.items():
        whole, medians = scores.T
        difference = whole - rows[against][:, 0]
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        told = (
            "| | | |" if name == against else f"| {difference.mean():+.3f} | {error:.3f} | {(difference > 0).sum()} |"
        )
        print(f"| {name} | {whole.mean():.3f} | {np.nanmean(medians):.3f} | {np.nanmedian(medians):.3f} {told}")
    if options.likeness:
        print(
            "\n| cosine of the errors, mean over songs | "
            + " | ".join(singles)
            + " |\n|---"
            + "|---" * len(singles)
            + "|"
        )
        for one in singles:
            cells = []
            for other in singles:
                cosines = []
                for title, reference in references.items():
                    size = reference.shape[1]
                    left, right = ((estimates[name][title][:, :size] - reference).flatten() for name in (one, other))
                    cosines.append(float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right))))
                cells.append(f"{np.mean(cosines):.3f}")
            print(f"| {one} | " + " | ".join(cells) + " |")
    if options.scores:
        with options.scores.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(["song", *(f"{name} {kind}" for name in rows for kind in ("whole", "median"))])
            for place, title in enumerate(chosen):
                writer.writerow([title, *(f"{v:.4f}" for scores in rows.values() for v in scores[place])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("split", "lay", "score"):
        command = commands.add_parser(name)
        command.add_argument("table", type=Path)
        if name != "split":
            command.add_argument("fold", type=int)
        if name == "lay":
            command.add_argument("out", type=Path)
        command.add_argument("roots", nargs="+")
        if name == "split":
            command.add_argument("--folds", type=int, default=3)
            command.add_argument("--first", default="")
        if name == "score":
            command.add_argument("--models", nargs="*", default=[])
            command.add_argument("--estimates", nargs="*", default=[])
            command.add_argument("--means", nargs="*", default=[])
            command.add_argument("--against", default="")
            command.add_argument("--unheard", nargs="*", default=[])
            command.add_argument("--heard", action="store_true")
            command.add_argument("--likeness", action="store_true")
            command.add_argument("--scores", type=Path)
            command.add_argument("--cache", type=Path)
    options = parser.parse_args()
    {"split": split, "lay": lay, "score": score}[options.command](options)


if __name__ == "__main__":
    main()
