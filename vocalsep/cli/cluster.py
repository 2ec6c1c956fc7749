"""``vocalsep cluster``: extract the vocals of many songs on many machines."""

from __future__ import annotations

from typing import Annotated

import typer

from vocalsep.cli import parameters
from vocalsep.cli.common import Misuse, print_note
from vocalsep.release import DEFAULT_MODEL

_CLUSTER = "Cluster"


def cluster(
    songs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SONG",
            help="Audio or video files, folders, patterns such as '*.flac', or addresses such as "
            "s3://bucket/song.flac.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Folder or address for the outputs, or a template as for 'vocalsep extract'.",
            show_default="beside each song",
            rich_help_panel="Outputs",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster to use: HOST:PORT, or auto for the cluster that this machine belongs to.",
            show_default="the variable RAY_ADDRESS; without it, a cluster of this machine alone",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Songs to process at a time, each in its own process. A cluster that adds machines on demand adds "
            "enough for N.",
            show_default="as many as fit on the cluster's processors",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Processors and threads per song.", rich_help_panel=_CLUSTER),
    ] = 1,
    device: parameters.DeviceOption = "auto",
    stem: parameters.StemOption = None,
    output_format: parameters.OutputFormatOption = None,
    subtype: parameters.SubtypeOption = None,
    bitrate: parameters.BitrateOption = None,
    clip: parameters.ClipOption = "clamp",
    overwrite: parameters.OverwriteOption = False,
    model: parameters.ModelOption = None,
    weights: parameters.WeightsOption = None,
    inversion: parameters.InversionOption = "phase",
    masks: parameters.MasksOption = "auto",
    gate: parameters.GateOption = False,
    recursive: parameters.RecursiveOption = False,
    from_file: parameters.FromFileOption = None,
    number: parameters.NumberOption = False,
    shard: parameters.ShardOption = None,
    manifest: parameters.ManifestOption = "manifest.jsonl",
    retry_failed: parameters.RetryFailedOption = False,
    dry_run: parameters.DryRunOption = False,
    as_json: parameters.AsJsonOption = False,
    progress: parameters.ProgressOption = "auto",
    quiet: parameters.QuietOption = False,
) -> None:
    """Extract the vocals of many songs on a Ray cluster, or on all processors of this machine.

    The outputs are the same as those of 'vocalsep extract'. To resume, repeat
    the command: it skips songs whose outputs exist. If a worker or a machine
    is lost, others do its songs.
    """
    from pathlib import Path

    from vocalsep import claims, means
    from vocalsep.batches import work
    from vocalsep.batches.jobs import PIPE
    from vocalsep.cli.batch import connection, driver, inputs, naming, options, plan, processes, recording
    from vocalsep.cli.batch import progress as reporting

    if not songs and from_file is None:
        raise Misuse("no songs given. Name files or folders, or list them in a file for --from-file")
    if quiet and progress in ("bar", "json"):
        raise Misuse(f"--quiet and --progress {progress} cannot be combined")
    assert manifest is not None
    models = tuple(model or [DEFAULT_MODEL])
    for name in models:
        options.check_model(name)
    if songs:
        options.check_songs(songs, output)
    found, problems = inputs.gather(songs or [], from_file, recursive=recursive)
    names = naming.Naming(
        places=options.choose_places(output=output, stem=stem, accompaniment=None, others={}),
        extension=output_format or "wav",
        model="+".join(map(means.name_model, models)),
        many=True,
    )
    if PIPE in names.places.values() or any(song.path == PIPE for song in found):
        raise Misuse("a cluster works on files; for pipes, use 'vocalsep extract'")
    if output_format:
        options.check_format(names)
    options.check_remote_places(names)
    existing = "overwrite" if overwrite else "skip"
    settings = work.Settings(
        models=models,
        shares=options.parse_weights(weights, models),
        device=device,
        inversion=inversion,
        masks=masks,
        subtype=subtype,
        bitrate=options.parse_bitrate(bitrate),
        clip=clip,
        gate=gate,
        threads=threads,
        existing=existing,
        hash_inputs=True,
        run=recording.name_run(manifest),
    )
    part = options.parse_shard(shard)
    recorder = recording.Recorder(manifest, names.model, settings, dry_run=dry_run)
    todo = plan.make(
        found,
        names,
        existing=existing,
        number=number,
        subtype=subtype,
        bitrate=settings.bitrate,
        shard=part,
        failed=() if retry_failed else recorder.failed,
    )
    verbose = progress != "none" and not quiet and not dry_run
    kind = reporting.choose_reporter(progress, todo, verbose=verbose)
    place = connection.Cluster(address=address, actors=jobs, processors=threads, gpus=int(device == "cuda"))
    with recorder, kind(todo, names.model, as_json=as_json, talkative=verbose, overwrite=overwrite) as reporter:
        recorder.watch(reporter, todo)
        if found and not todo and verbose:
            print_note(f"none of the {len(found)} songs belongs to part {shard}")
        for problem in problems:
            reporter.report_error(problem)
        if dry_run:
            reporting.report_plan(todo, reporter, as_json=as_json)
        else:
            try:
                with claims.claim([Path(manifest)]) as held:
                    if not held:
                        busy = "another 'vocalsep cluster' is using this manifest; choose another file"
                        raise work.SetupError(f"{manifest}: {busy}")
                    digest = means.hash_models(settings.models, settings.shares)
                    pending = processes.report_settled(todo, reporter)
                    driver.run(pending, settings, digest, place, reporter, held.renew)
            except work.SetupError as error:
                reporter.report_error(error)
    if reporter.failed:
        raise typer.Exit(1)
