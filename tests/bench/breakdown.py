"""Measure where the processor time of a command goes, for the tables in docs/speed.md.

    OMP_NUM_THREADS=1 python tests/bench/breakdown.py [--minutes 4] [--model uhnet-hd] [--passes 20]

The first table splits the time of `vocalsep extract song.wav`, in one thread, among the steps of extraction. The second
splits that of the net among kinds of layers: the fastest of several passes of each layer, by ONNX Runtime's profiler.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from speed import make_song

from vocalsep import audio, extraction, masks, stft, weights
from vocalsep.audio import reader
from vocalsep.backends.graphs import INPUT, OUTPUTS
from vocalsep.backends.onnx import OnnxBackend, make_session_options
from vocalsep.extraction import chunks, masking, voice
from vocalsep.extraction.checks import OutputCheck
from vocalsep.features import FRONT_ENDS, FrontEnd
from vocalsep.weights import Model

START = """
import time, sys
laps = [time.process_time()]
import vocalsep.cli, typer._click.core
laps.append(time.process_time())
from vocalsep import audio, extraction, weights
from vocalsep.audio import reader, writer
from vocalsep.backends import onnx
laps.append(time.process_time())
model = weights.load(sys.argv[1])
extraction.Extractor(model, device="cpu", workers=0)._engine._backend._open("forward")
laps.append(time.process_time())
print(*laps)
"""

STEPS: dict[str, list[Any]] = {  # the calls of these functions count as the step; none of them calls another
    "the net": [OnnxBackend.run, OnnxBackend.embed],
    "STFT": [stft.Analysis._transform],
    "inverse STFT": [stft.Synthesis._add, stft.Synthesis._divide],
    "resampling for the net": [audio.Resampler.push],
    "features": [getattr(kind, name) for kind in FRONT_ENDS.values() for name in ("analyse", "normalise")],
    "cutting and joining chunks": [chunks.join, chunks.Stitcher.push],
    "masks": [FrontEnd.project, masks.apply, masks.split_mixture],
    "voice detector and checks": [masking._sum_power, voice.VoiceDetector.push, OutputCheck.push],
    "reading and writing": [reader._SndfileDecoder.read_blocks, audio.Outputs.write],
}


def measure_command(song: Path, model: str) -> float:
    """Return the seconds of processor time that the whole command takes in one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "vocalsep", "extract", str(song), "-m", model, "--threads", "1", "--device", "cpu"]
    subprocess.run(
        [*command, "-o", str(song.with_suffix(".out.wav")), "--overwrite", "-q"], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure_start(model: str) -> dict[str, float]:
    """Return the seconds of processor time that the steps before the first sample take."""
    done = subprocess.run([sys.executable, "-c", START, model], check=True, capture_output=True, text=True)
    laps = [float(lap) for lap in done.stdout.split()]
    names = ("start Python", "import the command line", "import numpy, ONNX Runtime and others", "load the model")
    return {name: end - start for name, start, end in zip(names, [0, *laps], laps, strict=False)}


def measure_steps(song: Path, model: Model) -> dict[str, float]:
    """Return the seconds of processor time of each step, in a process that is warm."""
    extractor = extraction.Extractor(model, device="cpu", workers=0)
    profile = cProfile.Profile(time.process_time)
    extraction.extract(song, song.with_suffix(".out.wav"), extractor=extractor)
    profile.runcall(extraction.extract, song, song.with_suffix(".out.wav"), extractor=extractor)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    found: Counter[str] = Counter()
    for step, functions in STEPS.items():
        for code in {function.__code__ for function in functions}:
            found[step] += stats.get((code.co_filename, code.co_firstlineno, code.co_name), (0, 0, 0, 0))[3]
    return {step: found[step] for step in STEPS if found[step]}


def measure_layers(model: Model, passes: int) -> dict[str, float]:
    """Return the milliseconds that each kind of layer takes in one pass of the net."""
    backend, graph = OnnxBackend(model.name, model.graphs, model.tensors), model.graphs["forward"]
    values = {key: value for key, value in backend._values.items() if key not in graph.unused}
    options = make_session_options()
    options.add_external_initializers(list(values), list(values.values()))
    options.enable_profiling = True
    features = np.random.default_rng(0).random((1, *model.front_end.input_shape), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/layers"
        session = onnxruntime.InferenceSession(graph.onnx, options, providers=["CPUExecutionProvider"])
        for _ in range(passes):
            session.run(OUTPUTS["forward"], {INPUT: features})
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    fastest: dict[tuple[str, str], float] = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"]
            fastest[key] = min(fastest.get(key, np.inf), event["dur"] / 1000)
    total: Counter[str] = Counter()
    for (kind, _), milliseconds in fastest.items():
        total[kind] += milliseconds
    small = sum(total.values()) / 100
    rows = {kind: milliseconds for kind, milliseconds in total.most_common() if milliseconds >= small}
    return rows | {"others": sum(total.values()) - sum(rows.values())}


def print_table(head: str, unit: str, rows: dict[str, float]) -> None:
    whole = sum(rows.values())
    print(f"| {head} | {unit} | share |\n|---|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.2f} | {value / whole:.0%} |")
    print(f"| all | {whole:.2f} | |\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--model", default="uhnet-hd")
    parser.add_argument("--passes", type=int, default=20)
    options = parser.parse_args()
    model = weights.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        make_song(song, options.minutes)
        steps = measure_start(options.model) | measure_steps(song, model)
        steps["everything else"] = measure_command(song, options.model) - sum(steps.values())
    print_table(f"{options.model}, {options.minutes:g} minutes", "seconds", steps)
    print_table("layers of one kind", "milliseconds per chunk", measure_layers(model, options.passes))


if __name__ == "__main__":
    main()
