"""``vocalsep extract``: extract the vocals of songs."""

from __future__ import annotations

import typer

from vocalsep.cli import parameters
from vocalsep.cli.common import ARGUMENTS, Misuse, print_note
from vocalsep.cores import count_cores
from vocalsep.release import DEFAULT_MODEL


def extract(
    context: typer.Context,
    songs: parameters.SongsArgument = None,
    output: parameters.OutputOption = None,
    stem: parameters.StemOption = None,
    instrumental: parameters.InstrumentalOption = False,
    accompaniment: parameters.AccompanimentOption = None,
    labels: parameters.LabelsOption = None,
    picture: parameters.PictureOption = None,
    page: parameters.PageOption = None,
    output_format: parameters.OutputFormatOption = None,
    subtype: parameters.SubtypeOption = None,
    bitrate: parameters.BitrateOption = None,
    preset: parameters.PresetOption = None,
    clip: parameters.ClipOption = "clamp",
    overwrite: parameters.OverwriteOption = False,
    skip_existing: parameters.SkipExistingOption = False,
    model: parameters.ModelOption = None,
    weights: parameters.WeightsOption = None,
    model_data: parameters.ModelDataOption = None,
    as_original: parameters.AsOriginalOption = False,
    inversion: parameters.InversionOption = "phase",
    masks: parameters.MasksOption = "auto",
    gate: parameters.GateOption = False,
    latency: parameters.LatencyOption = None,
    strict: parameters.StrictOption = False,
    raw: parameters.RawOption = None,
    device: parameters.DeviceOption = "auto",
    threads: parameters.ThreadsOption = None,
    recursive: parameters.RecursiveOption = False,
    from_file: parameters.FromFileOption = None,
    number: parameters.NumberOption = False,
    jobs: parameters.JobsOption = 1,
    shard: parameters.ShardOption = None,
    manifest: parameters.ManifestOption = None,
    retry_failed: parameters.RetryFailedOption = False,
    dry_run: parameters.DryRunOption = False,
    as_json: parameters.AsJsonOption = False,
    progress: parameters.ProgressOption = "auto",
    quiet: parameters.QuietOption = False,
) -> None:
    """Extract the vocals of one or more songs.

    The vocals keep the song's sample rate, channels, length, level and tags.
    vocalsep does not replace existing files unless you add --overwrite.
    """
    from vocalsep import means
    from vocalsep.batches import work
    from vocalsep.batches.jobs import LABELS, PICTURE, PIPE
    from vocalsep.cli.batch import inputs, naming, options, pages, plan, processes, recording
    from vocalsep.cli.batch import progress as reporting

    songs = songs or []
    optional = {"accompaniment": accompaniment, LABELS: labels, PICTURE: picture, "page": page}
    if not songs and from_file is None:
        songs, optional = options.find_swallowed_song(optional)
    page = optional.pop("page")
    if overwrite and skip_existing:
        raise Misuse("--overwrite and --skip-existing cannot be combined")
    if page is not None and (skip_existing or (manifest is not None and not overwrite)):
        other = "--skip-existing" if skip_existing else "--manifest, unless you add --overwrite"
        raise Misuse(f"--page needs all songs, so it cannot be combined with {other}")
    if retry_failed and manifest is None:
        raise Misuse("--retry-failed needs --manifest FILE, which says what failed")
    if quiet and progress in ("bar", "json"):
        raise Misuse(f"--quiet and --progress {progress} cannot be combined")
    if instrumental and stem not in (None, "accompaniment"):
        raise Misuse(f"--instrumental and --stem {stem} cannot be combined")
    models = tuple(model or [DEFAULT_MODEL])
    for name in models:
        options.check_model(name)
    if songs:
        options.check_songs(songs, output)
    chosen = naming.PRESETS[preset] if preset else naming.Preset(names={}, extension="wav")
    places = options.choose_places(
        output=output,
        stem="accompaniment" if instrumental else stem or ("both" if preset else None),
        accompaniment=optional.pop("accompaniment"),
        others=optional,
    )
    bits_per_second = options.parse_bitrate(bitrate)
    part = options.parse_shard(shard)
    layout = None if raw is None else options.parse_raw(raw)
    found, problems = inputs.gather(songs, from_file, recursive=recursive)
    if preset == "ultrastar":
        found = inputs.leave_out_videos(found)
    seconds = None if latency is None else options.parse_latency(latency)
    if seconds is not None:
        options.check_live(models, inversion=inversion, masks=masks, gate=gate, as_original=as_original)
    names = naming.Naming(
        places=places,
        extension=output_format or chosen.extension,
        model="+".join(map(means.name_model, models)),
        many=len(found) > 1 or not (from_file is shard is None) or not all(song.named for song in found),
        names=chosen.names,
    )
    if output_format:
        options.check_format(names)
    options.check_remote_places(names)
    options.check_pipes(found, names, raw=raw is not None, clip=clip, processes=jobs, bitrate=bits_per_second)
    if manifest is not None and any(song.path == PIPE for song in found):
        raise Misuse("--manifest needs songs with a name, and standard input has none")
    existing = "overwrite" if overwrite else "skip" if skip_existing or manifest is not None else "refuse"
    settings = work.Settings(
        models=models,
        shares=options.parse_weights(weights, models),
        model_data=model_data,
        as_original=as_original,
        device=device,
        inversion=inversion,
        masks=masks,
        subtype=subtype,
        bitrate=bits_per_second,
        clip=clip,
        gate=gate,
        latency=seconds,
        raw=layout,
        threads=threads or max(1, count_cores() // jobs),
        mute=progress == "json",
        strict=strict,
        existing=existing,
        hash_inputs=manifest is not None,
    )
    recorder = recording.Recorder(manifest, names.model, settings, dry_run=dry_run)
    todo = plan.make(
        found,
        names,
        existing=existing,
        number=number,
        subtype=subtype,
        bitrate=bits_per_second,
        shard=part,
        failed=() if retry_failed else recorder.failed,
    )
    page_path = None if page is None else pages.choose_path(page, todo)
    verbose = progress != "none" and not quiet and not dry_run
    kind = reporting.choose_reporter(progress, todo, verbose=verbose)
    with recorder, kind(todo, names.model, as_json=as_json, talkative=verbose, overwrite=overwrite) as reporter:
        recorder.watch(reporter, todo)
        if found and not todo and verbose:
            print_note(f"none of the {len(found)} songs belongs to part {shard}")
        for problem in problems:
            reporter.report_error(problem)
        if dry_run:
            reporting.report_plan(todo, reporter, as_json=as_json)
            if page_path:
                reporter.report_page(page_path)
        elif page_path:
            opened = pages.open_page(page_path, context.meta[ARGUMENTS], overwrite=overwrite)
            pages.run_plan(opened, todo, settings, jobs, reporter)
        else:
            processes.run_plan(todo, settings, jobs, reporter)
    if reporter.failed:
        raise typer.Exit(1)
