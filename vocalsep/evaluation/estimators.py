"""What is scored: models, files from other separators, and the lower and upper bounds. Each is one row of a table."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vocalsep import audio, extraction, interchange, masks, means, weights
from vocalsep.datasets.layouts.folders import is_recording, list_recordings
from vocalsep.datasets.splits import Heard
from vocalsep.datasets.tracks import Track
from vocalsep.errors import AudioError, ConfigError, DatasetError
from vocalsep.evaluation.oracle import apply_ideal_mask
from vocalsep.evaluation.songs import Song
from vocalsep.extraction import Parts
from vocalsep.shapes import Waveform

MIXTURE = "mixture"
CEILING = "IRM, linear"


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """Something that estimates the vocals and the accompaniment of a song.

    Attributes:
        name: Its name in the tables.
        kind: A key of `KINDS`.
        model: For "model" and "irm-grid": name, weights file or run of a model.
        inversion: For "model": how to turn the masked spectrogram back into audio.
        masks_from: For "model": where masks come from; see `extraction.Extractor`.
        gate: For "model": whether to fade the vocals out where there is no voice; see `extraction.Extractor`.
        folder: For "estimates": the folder of the files.
    """

    name: str
    kind: str
    model: str = ""
    inversion: str = "phase"
    masks_from: str = "auto"
    gate: bool = False
    folder: Path | None = None

    @property
    def is_compared(self) -> bool:
        """Whether this is a model or a folder, not a bound."""
        return self.kind in ("model", "estimates")

    def compute_fingerprint(self, track: Track) -> str:
        """Return a hash that changes when the files of a track change, or when its estimate may change.

        It covers options, weights, and the sizes and modification times of files. Nothing is separated to compute it.
        """
        parts = [self.kind, self.inversion]
        for source in (*track.vocals, *track.accompaniment):
            state = source.path.stat()
            parts.append(f"{source.path.name} {source.channel} {source.weight} {state.st_size} {state.st_mtime_ns}")
        if self.masks_from != "auto":
            parts.append(self.masks_from)
        if self.gate:
            parts.append("gate")
        if self.model:
            parts.append(_hash_model(self.model))
        if self.folder:
            parts.append(str(self.folder))
            for stem in ("vocals", "accompaniment"):
                path = _find_estimate(self.folder, track.name, stem)
                parts.append(f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path else "none")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def read_heard(self) -> Heard:
        """Return what the model was trained on, as far as its weights say; nothing for other kinds."""
        heard: Heard = weights.load(self.model).metadata.get("heard", {}) if self.kind == "model" else {}
        return heard

    def estimate(self, track: str, song: Song) -> Parts:
        """Estimate the vocals and the accompaniment of a song.

        Args:
            track: Name of the track.
            song: The song.

        Raises:
            VocalsepError: If files are missing or do not fit the song, or the model cannot be used.
        """
        return KINDS[self.kind](self, track, song)


def list_estimators(
    models: Sequence[str],
    inversions: Iterable[str],
    folders: Iterable[Path],
    masks_from: Sequence[str] = ("auto",),
    gates: Sequence[bool] = (False,),
) -> list[Estimator]:
    """List the rows of a table: the lower bound (the mixture), what is compared, and the upper bounds.

    The upper bounds are the ideal binary mask (IBM) and the ideal ratio masks (IRM); see `oracle`. Models that share a
    grid share its ideal mask.

    Args:
        models: Names, weights files or folders of runs; each is scored with every inversion, mask source and gate
            setting. Rows have the names of the models; models with the same name appear as they are given here.
        inversions: How to turn the masked spectrogram back into audio.
        folders: Folders of files from other separators.
        masks_from: Where clustering models take their masks from; other models are scored once.
        gates: Whether to fade the vocals out where there is no voice.

    Raises:
        ConfigError: If two rows would have the same name.
        ModelError: If a model cannot be loaded.
        DatasetError: If a folder does not exist.
    """
    loaded = {model: weights.load(model) for model in models}
    shared = Counter(model.name for model in loaded.values())
    labels = {model: found.name if shared[found.name] == 1 else model for model, found in loaded.items()}
    compared: list[Estimator] = []
    for inversion, model in itertools.product(inversions, models):
        own = loaded[model]
        sources = masks_from if isinstance(own, weights.Model) and own.run.embeds else ["auto"]
        for source, gate in itertools.product(sources, gates):
            options = [
                name for name in (source, inversion, "gate" if gate else "") if name not in ("auto", "phase", "")
            ]
            name = ", ".join([labels[model], *options])
            estimator = Estimator(name=name, kind="model", model=model, inversion=inversion)
            compared.append(replace(estimator, masks_from=source, gate=gate))
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder of estimates")
        compared.append(Estimator(name=folder.resolve().name, kind="estimates", folder=folder.resolve()))
    bounds = [Estimator(name="IBM, linear", kind="ibm")]
    front_ends = []
    for model in models:
        own = loaded[model]
        for net in own.models if isinstance(own, means.Mean) else [own]:
            if isinstance(net, weights.Model) and net.front_end not in front_ends:
                front_ends.append(net.front_end)
                label, name = (labels[model], model) if net is own else (net.name, str(net.path))
                bounds.append(Estimator(name=f"IRM, grid of {label}", kind="irm-grid", model=name))
    bounds.append(Estimator(name=CEILING, kind="irm"))
    estimators = [Estimator(name=MIXTURE, kind="mixture"), *compared, *bounds]
    names = [estimator.name for estimator in estimators]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two rows would be called {name!r}; give the weights files or folders different names")
    return estimators


def apply_ceiling(track: str, song: Song) -> Waveform:
    """Return the vocals of the highest upper bound, the ideal ratio mask on the song's STFT: ``(channel, time)``."""
    return Estimator(name=CEILING, kind="irm").estimate(track, song).vocals


def find_unmatched_files(folder: Path, tracks: Iterable[str]) -> list[str]:
    """Return the names of the estimates in a folder that belong to no track, sorted."""
    known = {str(part) for track in tracks for part in (Path(track), *Path(track).parents)}
    unmatched = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or is_recording(path)):
            continue
        name = path.name if path.is_dir() else path.stem
        if not {name, name.removesuffix(".vocals"), name.removesuffix(".accompaniment")} & known:
            unmatched.append(path.name)
    return unmatched


@functools.cache
def _hash_model(model: str) -> str:
    return _compute_fingerprint(weights.load(model))


def _compute_fingerprint(model: weights.AnyModel) -> str:
    if isinstance(model, means.Mean):
        parts = [f"{w!r} {_compute_fingerprint(m)}" for w, m in zip(model.weights, model.models, strict=True)]
        parts += ["led by the first"] if model.led_by_first else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if isinstance(model, interchange.ForeignModel):
        return model.compute_fingerprint()
    assert model.path
    return weights.hash_file(model.path)


@functools.lru_cache(maxsize=8)
def _load_extractor(model: str, inversion: str, masks_from: str, gate: bool) -> extraction.Extractor:
    loaded = weights.load(model)
    return extraction.Extractor(  # without workers: each job has one thread
        loaded, device="cpu", inversion=inversion, masks_from=masks_from, gate=gate, workers=0
    )


def _return_mixture(estimator: Estimator, track: str, song: Song) -> Parts:
    del estimator, track
    return Parts(song.mixture, song.mixture)


def _run_model(estimator: Estimator, track: str, song: Song) -> Parts:
    del track
    extractor = _load_extractor(estimator.model, estimator.inversion, estimator.masks_from, estimator.gate)
    return extractor(song.mixture, song.rate)


def _apply_ideal_mask(estimator: Estimator, track: str, song: Song) -> Parts:
    """Apply the ideal mask on a model's grid, or channel by channel on the linear grid, which saves memory."""
    del track
    if estimator.model:
        model = weights.load(estimator.model)
        assert isinstance(model, weights.Model)
        return apply_ideal_mask(song.mixture, song.vocals, song.rate, model.front_end)
    mask = masks.binary if estimator.kind == "ibm" else masks.ratio
    channels = zip(song.mixture, song.vocals, strict=True)
    estimates = [apply_ideal_mask(mixture[None], vocals[None], song.rate, mask=mask) for mixture, vocals in channels]
    return Parts(*(np.concatenate(part) for part in zip(*estimates, strict=True)))


def _read_estimates(estimator: Estimator, track: str, song: Song) -> Parts:
    assert estimator.folder is not None
    vocals = _read_estimate(estimator.folder, track, "vocals", song)
    if vocals is None:
        expected, inside = f"{track}/vocals.wav or {track}.vocals.wav", estimator.folder / track
        others = [path.name for path in list_recordings(inside)] if inside.is_dir() else []
        found = f"; found {', '.join(others)} in {track}" if others else ""
        raise DatasetError(f"no estimate in {estimator.folder}; expected {expected}{found}")
    accompaniment = _read_estimate(estimator.folder, track, "accompaniment", song)
    return Parts(vocals, song.mixture - vocals if accompaniment is None else accompaniment)


KINDS: dict[str, Callable[[Estimator, str, Song], Parts]] = {
    "mixture": _return_mixture,
    "model": _run_model,
    "estimates": _read_estimates,
    "ibm": _apply_ideal_mask,
    "irm-grid": _apply_ideal_mask,
    "irm": _apply_ideal_mask,
}
"""For each kind of estimator, the function that makes its estimate."""


def _find_estimate(folder: Path, track: str, stem: str) -> Path | None:
    """Return the first existing file of ``TRACK/STEM.*``, ``TRACK.STEM.*`` and, for vocals, ``TRACK.*``."""
    inside, beside = folder / track / stem, folder / f"{track}.{stem}"
    places = [inside, beside, folder / track] if stem == "vocals" else [inside, beside]
    for place in places:
        for suffix in sorted(audio.SUFFIXES):
            path = place.with_name(place.name + suffix)
            if is_recording(path):
                return path
    return None


def _read_estimate(folder: Path, track: str, stem: str, song: Song) -> Waveform | None:
    """Read an estimate; None if there is no file.

    Raises:
        DatasetError: If the file does not fit the song.
    """
    path = _find_estimate(folder, track, stem)
    if path is None:
        return None
    try:
        samples, rate = audio.read(path)
    except AudioError as error:
        raise DatasetError(str(error)) from error
    found, expected = (*samples.shape, rate), (*song.vocals.shape, song.rate)
    for have, want, what in zip(found, expected, ("channels", "samples", "Hz"), strict=True):
        if have != want:
            raise DatasetError(f"{path}: {have} {what}; expected {want}, like the references")
    if not np.isfinite(samples).all():
        raise DatasetError(f"{path}: contains NaN or infinite samples")
    return samples
