"""Decide where the outputs of each song go, and refuse what cannot work, before opening a file or loading a library."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from vocalsep import files
from vocalsep.audio.formats import check_output
from vocalsep.batches.jobs import PIPE, Job, Place, check_existing
from vocalsep.claims import File
from vocalsep.cli.batch.inputs import Song
from vocalsep.cli.batch.naming import Naming
from vocalsep.cli.common import Misuse
from vocalsep.errors import AudioError, VocalsepError, describe_error
from vocalsep.remote import list_names

_IGNORES_CASE = os.name == "nt" or sys.platform == "darwin"  # whether file systems usually treat a and A as the same
_Identify = Callable[[Place], str]


def make(
    songs: Sequence[Song],
    naming: Naming,
    *,
    existing: str = "refuse",
    number: bool = False,
    subtype: str | None = None,
    bitrate: int | None = None,
    shard: tuple[int, int] = (0, 1),
    failed: Collection[str] = (),
) -> list[Job]:
    """Make the plan: one job for each song.

    Songs that were found in a folder and are outputs of other songs are left out. Songs that differ in their file
    extension alone keep it in the names of their outputs.

    Args:
        songs: The songs, each once.
        naming: How outputs are named.
        existing: What to do about outputs that exist: "refuse", "overwrite", or "skip" songs that have all of them.
        number: Whether to number songs whose outputs would have the names of those of another song, rather than to
            refuse them.
        subtype: Sample format of the outputs, a key of `audio.SUBTYPES`; None if the user chose none.
        bitrate: Bit rate of lossy outputs, bits per second; None if the user chose none.
        shard: Which part of the songs to plan, counted from 0, and the number of parts; see `choose_shard`. Outputs
            have the same names as in the plan for all songs.
        failed: Ids of songs to skip because they failed in an earlier call.

    Raises:
        Misuse: If an output cannot have its format, or two outputs of one song would go to one file.
    """
    identify = functools.cache(_identify)
    list_names.cache_clear()
    songs = _leave_out_outputs(songs, naming, identify)
    jobs = _tell_apart(list(songs), naming, identify, number=number)
    jobs = [dataclasses.replace(job, id=name) for job, name in zip(jobs, _choose_ids(songs), strict=True)]
    for job in jobs:
        _check_formats(job, subtype=subtype, bitrate=bitrate)
    inputs = {identify(song.path) for song in songs}
    checked = []
    part, parts = shard
    for song, job in zip(songs, jobs, strict=True):
        if choose_shard(song.relative, parts) == part:
            own = [path for path in job.all_files if identify(path) in inputs]
            if job.song == PIPE:
                own += [path for path in job.files if files.is_same(sys.stdin.buffer, path)]
            done = _check(job, own, existing=existing)
            checked.append(
                dataclasses.replace(done, skipped="failed") if done.is_pending and done.id in failed else done
            )
    return checked


def choose_shard(relative: str, parts: int) -> int:
    """Return which of several parts a song belongs to, counted from 0: the same on all machines, in every version.

    Args:
        relative: Path of the song; see `inputs.Song.relative`.
        parts: The number of parts.
    """
    digest = hashlib.blake2b(os.fsencode(relative), digest_size=8).digest()
    return int.from_bytes(digest, "big") % parts


def _choose_ids(songs: Sequence[Song]) -> list[str]:
    """Return an id for each song: its relative path, or its path as given if another song has that relative path."""
    ids = [song.relative for song in songs]
    while len(set(ids)) < len(ids):
        counts = Counter(ids)
        before, ids = ids, [str(song.path) if counts[name] > 1 else name for song, name in zip(songs, ids, strict=True)]
        if ids == before:
            break  # one file under two names
    return ids


def _plan_job(song: Song, naming: Naming) -> Job:
    try:
        return Job(song=song.path, outputs=naming.name_outputs(song))
    except AudioError as error:
        return Job(song=song.path, outputs={}, refusal=str(error))


def _leave_out_outputs(songs: Sequence[Song], naming: Naming, identify: _Identify) -> list[Song]:
    """Leave out the songs that this call would write itself. Songs that the call names always stay.

    A call without --accompaniment also leaves out accompaniments, which an earlier call may have written.
    """
    if all(song.named for song in songs):
        return list(songs)
    both = dataclasses.replace(naming, places=naming.places | {"accompaniment": naming.places.get("accompaniment", "")})
    makers: dict[str, set[Place]] = {}
    for song in songs:
        for path in _plan_job(song, both).outputs.values():
            makers.setdefault(identify(path), set()).add(song.path)
    return [song for song in songs if song.named or makers.get(identify(song.path), set()) <= {song.path}]


def _tell_apart(songs: list[Song], naming: Naming, identify: _Identify, *, number: bool) -> list[Job]:
    """Plan the jobs so that no two of them write one file. Jobs that cannot be told apart are refused."""
    jobs = [_plan_job(song, naming) for song in songs]
    for job in jobs:
        if len({identify(path) for path in job.outputs.values()}) < len(job.outputs):
            twice = next(iter(job.outputs.values()))
            hint = "give each output a name of its own, as with -o 'out/{song}.{stem}.{ext}'"
            raise Misuse(f"{twice} would be written twice; {hint}")
    if not _find_clashes(jobs, identify):
        return jobs
    # with their extensions, if that is all they differ in
    full = [_plan_job(dataclasses.replace(song, alias=song.full_name), naming) for song in songs]
    clashes = _find_clashes(jobs, identify)
    taken = {identify(path) for index, job in enumerate(jobs) if index not in clashes for path in job.outputs.values()}
    tried = [job if index in clashes else jobs[index] for index, job in enumerate(full)]
    remaining = _find_clashes(tried, identify)
    for index in clashes:
        if index not in remaining and not taken & {identify(path) for path in full[index].outputs.values()}:
            jobs[index], songs[index] = full[index], dataclasses.replace(songs[index], alias=songs[index].full_name)
    clashes = _find_clashes(jobs, identify)
    if number:
        _number(songs, jobs, clashes, naming, identify)
        clashes = _find_clashes(jobs, identify)
    hints: dict[tuple[int, ...], str] = {}
    for index, other in clashes.items():
        pair = tuple(sorted((index, other)))
        hint = hints.setdefault(pair, _find_hint([songs[each] for each in pair], naming, identify))
        path = next(path for path in jobs[index].outputs.values())
        message = f"{songs[index].path}: {path} would also hold the outputs of {songs[other].path}; {hint}"
        jobs[index] = dataclasses.replace(jobs[index], refusal=message)
    return jobs


def _find_clashes(jobs: Sequence[Job], identify: _Identify) -> dict[int, int]:
    """Return the jobs that share an output with another job, and the first of these others."""
    owners: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        for path in job.outputs.values():
            owners.setdefault(identify(path), []).append(index)
    shared = [group for group in owners.values() if len(set(group)) > 1]
    return {index: next(each for each in group if each != index) for group in shared for index in group}


def _number(songs: list[Song], jobs: list[Job], clashes: dict[int, int], naming: Naming, identify: _Identify) -> None:
    """Give the songs that clash numbers, except the first one of each name."""
    taken = {identify(path) for index, job in enumerate(jobs) if index not in clashes for path in job.outputs.values()}
    for index in sorted(clashes):
        for count in range(1, len(songs) + 1):
            alias = songs[index].name + (f"-{count}" if count > 1 else "")
            job = _plan_job(dataclasses.replace(songs[index], alias=alias), naming)
            names = {identify(path) for path in job.outputs.values()}
            if not names & taken:
                jobs[index] = job
                taken |= names
                break


def _find_hint(songs: Sequence[Song], naming: Naming, identify: _Identify) -> str:
    """Return what would tell these songs apart."""
    main = naming.main
    place = naming.places[main]
    folder = place.rstrip("/") if place and "{" not in place else "out"
    template = f"{folder}/{{folder}}/{{song}}.{{stem}}.{{ext}}"
    others = dict.fromkeys([stem for stem in naming.places if stem != main], "")
    found = []
    for hint, choice in ((f"use -o '{template}'", template), ("leave out -o", None)):
        if choice != place:
            jobs = [_plan_job(song, dataclasses.replace(naming, places={main: choice, **others})) for song in songs]
            found += [] if _find_clashes(jobs, identify) else [hint]
    return ", or ".join([*found[:1], "add --number"])


def _check_formats(job: Job, *, subtype: str | None, bitrate: int | None) -> None:
    """Check what the options say about formats, which is the same for all songs."""
    for path in job.recordings:
        try:
            if not job.refusal and not path.is_dir():
                check_output(path, subtype=subtype, bitrate=bitrate)
        except VocalsepError as error:
            raise Misuse(str(error)) from error
        except OSError:
            pass  # `_check` reports it


def _check(job: Job, own: list[File], *, existing: str) -> Job:
    """Return a job with its refusal, if any. `own` lists the outputs of the job that are also songs of the call."""
    if job.refusal:
        return job
    try:
        for path in job.files:
            if path.is_dir():
                raise AudioError(f"{path}: is a folder; expected a file to write")
        if own:
            raise AudioError(f"{own[0]}: is one of the input songs; choose another output")
        if isinstance(job.song, Path) and PIPE in job.outputs.values() and files.is_same(sys.stdout.buffer, job.song):
            raise AudioError(f"{job.song}: standard output goes into this song; choose another output")
        return check_existing(job, existing)
    except VocalsepError as error:
        return dataclasses.replace(job, refusal=str(error))
    except OSError as error:  # the name is too long, or the folder is not accessible
        return dataclasses.replace(job, refusal=f"{error.filename}: cannot be written ({describe_error(error)})")


def _identify(path: Place) -> str:
    """Return the same text for all spellings of a path."""
    if not isinstance(path, Path):
        return str(path)
    real = os.path.realpath(path)
    return real.casefold() if _IGNORES_CASE else real
