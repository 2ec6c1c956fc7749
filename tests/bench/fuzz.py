"""Feeds vocalsep with damaged and hostile files for as long as you say, and counts what it does not survive.

    python tests/bench/fuzz.py --minutes 10
    python tests/bench/fuzz.py --total 50000
    python tests/bench/fuzz.py --only checkpoints --seed 7 --first 1234 --cases 1     # one case again

A case passes if vocalsep gives a result or one of its own errors, in one line, in time and within its memory. Cases run
one after another in a child process, which a crash ends; the next child goes on behind the case. A case depends on its
kind, its number and the seed alone. Ctrl-C ends the script, which then prints what it has done. The exit status is 1 if
a case failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import damage
import fake_nets
import foreign_graphs
import hostile_manifests
import hostile_names
import hostile_requests
import hostile_tags
import synthetic_songs
import tiny_recipes
import torch
from cases import Case, require_clean

from vocalsep import audio, extraction, means, weights
from vocalsep.audio import tags
from vocalsep.evaluation import runs
from vocalsep.interchange import mdx
from vocalsep.training import checkpoints, guards, recipes, record
from vocalsep.training.material import open_material
from vocalsep.training.team import Team

SLICE_SECONDS = 20.0  # at most, before the next kind has its turn
CASE_SECONDS = 60  # a case that takes longer hangs, even on a busy machine
MEMORY = 2**31  # bytes that cases may take beyond what the libraries take
MOST_SECONDS = 60  # of sound; a damaged header may claim hours

CPU = torch.device("cpu")


def set_up_decoding(folder: Path) -> Case:
    """Damaged recordings, from files and from pipes."""
    originals = damage.make_recordings()

    def read(source: Path | io.BytesIO) -> None:
        with audio.open_song(source) as reader:
            samples = 0
            for block in reader:
                assert block.shape[0] == reader.channels
                samples += block.shape[1]
                if samples > MOST_SECONDS * 48_000:
                    break

    def case(rng: random.Random, folder: Path) -> None:
        content = damage.damage(rng, originals[rng.choice(sorted(originals))])
        path = folder / "song"
        path.write_bytes(content)
        require_clean(lambda: read(path))
        found, _ = tags.read_tags(path)
        assert all(isinstance(value, str) for values in found.fields.values() for value in values)
        if content[:4] == b"RIFF":
            require_clean(lambda: read(io.BytesIO(content)))

    return case


def set_up_models(folder: Path) -> Case:
    """Weights files with damaged bytes or hostile metadata; those that load separate a sound."""
    path, made = folder / "narrow.safetensors", fake_nets.random_unet()
    weights.save(path, made.net, made.front_end, {"licence": "none", "heard": {"songs": ["a"]}})
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["vocalsep"])
    sound = fake_nets.noise(2, 3_000)

    def use(path: Path) -> None:
        model = weights.load(path)
        extraction.Extractor(model, workers=0, device="cpu").separate(sound, 8_000)
        assert isinstance(model, weights.Model)
        _ = model.net

    def case(rng: random.Random, folder: Path) -> None:
        damaged = folder / "damaged.safetensors"
        if rng.random() < 0.5:
            damaged.write_bytes(damage.damage(rng, content))
        else:
            changed = damage.change_value(rng, {key: value for key, value in metadata.items() if key != "tensors"})
            inner = json.dumps(changed)
            if rng.random() < 0.05:
                inner = "[" * 10**5 + "]" * 10**5
            outer = json.dumps(header | {"__metadata__": {"vocalsep": inner}}).encode()
            outer += b" " * (-len(outer) % 8)
            damaged.write_bytes(len(outer).to_bytes(8, "little") + outer + content[8 + size :])
        require_clean(lambda: use(damaged))

    return case


def set_up_recipes(folder: Path) -> Case:
    """Hostile settings of recipes."""
    known = [recipes.config.to_dict(recipes.read_recipe(name)) for name in recipes.list_presets()]
    team = Team(device=CPU)

    def check(path: Path, overrides: list[str]) -> None:
        guards.check_recipe(recipes.read_recipe(str(path), overrides), team)

    def case(rng: random.Random, folder: Path) -> None:
        values = rng.choice(known)
        for _ in range(rng.randint(1, 3)):
            values = damage.change_value(rng, values)
        overrides = []
        if rng.random() < 0.5:
            key = rng.choice(["training.batch_size", "options.width", "front_end.n_fft", "front_end.frames", "a.b"])
            overrides = [f"{key}={rng.choice(damage.HOSTILE)}"]
        path = folder / "recipe.toml"
        try:
            path.write_text(recipes.config.dump_toml(values), "utf-8", "surrogatepass")
        except (TypeError, ValueError, AttributeError, RecursionError, OverflowError):  # not to be said in TOML
            path.write_bytes(damage.damage(rng, recipes.config.dump_toml(rng.choice(known)).encode()))
        require_clean(lambda: check(path, overrides))

    return case


def set_up_checkpoints(folder: Path) -> Case:
    """Checkpoints with damaged bytes or hostile states."""
    root = synthetic_songs.write_dsd100(folder / "dsd100")
    trainers = []
    for optimiser in ("adamw", "rmsprop", "muon"):
        material = open_material(tiny_recipes.make_recipe(root))
        trainer = tiny_recipes.make_trainer(material, root, optimiser=optimiser)
        trainer.update(trainer.draw_batch(0))
        checkpoints.write(folder / f"{optimiser}.pt", trainer)
        trainers.append((trainer, (folder / f"{optimiser}.pt").read_bytes()))

    def resume(path: Path, trainer: object) -> None:
        fresh = tiny_recipes.make_trainer(trainer.material, root, optimiser=trainer.recipe.training.optimiser)
        fresh.load_state_dict(checkpoints.read(path, fresh))
        fresh.update(fresh.draw_batch(fresh.step))

    def case(rng: random.Random, folder: Path) -> None:
        trainer, content = rng.choice(trainers)
        path = folder / "checkpoint.pt"
        if rng.random() < 0.5:
            path.write_bytes(damage.damage(rng, content))
        else:
            state = damage.change_value(rng, trainer.state_dict())
            if rng.random() < 0.3 and isinstance(state, dict) and isinstance(state.get("net"), dict) and state["net"]:
                key = rng.choice(list(state["net"]))
                state["net"] = {**state["net"], key: rng.choice([torch.zeros(3), torch.tensor(float("nan")), -1, {}])}
            try:
                torch.save(state, path)
            except RecursionError:  # torch cannot write such a state, so nobody else can
                path.write_bytes(damage.damage(rng, content))
        require_clean(lambda: resume(path, trainer))

    return case


def set_up_runs(folder: Path) -> Case:
    """Hostile files in the folders of training runs and evaluations, and means of models."""
    track = {"training": ["a/b"], "validation": [], "before": {"songs": ["c"]}, "pools": [], "skipped": []}
    score = {"v4_sdr": 1.0}
    line = {"track": "t", "song": "s", "row": "r", "fingerprint": "f", "seconds": 1.0, "vocals": score}
    line |= {"accompaniment": score}
    originals = {
        "tracks.json": (track, guards._read_tracks),
        "log.jsonl": ({"step": 0, "loss": 0.5, "seconds": 1.0}, record.read_log),
        "lines.jsonl": (line, runs._read_lines),
        "mean.toml": ({"models": ["uhnet-hd", "unet"], "weights": [0.5, 0.5]}, means.read),
    }

    def case(rng: random.Random, folder: Path) -> None:
        name = rng.choice(list(originals))
        original, read = originals[name]
        if name.endswith(".toml"):
            content = recipes.config.dump_toml(original).encode()
        else:
            changed = damage.change_value(rng, original) if rng.random() < 0.6 else original
            content = (json.dumps(changed) + "\n").encode()
        if rng.random() < 0.5:
            content = damage.damage(rng, content)
        path = folder / name
        path.write_bytes(content)
        require_clean(lambda: read(path))

    return case


def set_up_graphs(folder: Path) -> Case:
    """Damaged ONNX graphs of other programs, and hostile parameters; those that load separate a sound."""
    models = [foreign_graphs.write_mdx(folder / "mdx.onnx", mixes=True)]
    models.append(foreign_graphs.write_waveform(folder / "waveform.onnx", mixes=True))
    contents = [path.read_bytes() for path in models]
    sound = fake_nets.noise(2, 30_000)
    beside = folder / "mdx_model_data.json"
    entries = {"compensate": 1.03, "mdx_dim_f_set": 2_048, "mdx_dim_t_set": 8, "mdx_n_fft_scale_set": 4_096}
    entries |= {"primary_stem": "Vocals"}

    def use(path: Path, data: str | None) -> None:
        extraction.Extractor(weights.load(path, data=data), workers=0).separate(sound, 44_100)

    def case(rng: random.Random, folder: Path) -> None:
        path = folder / "damaged.onnx"
        content = rng.choice(contents)
        path.write_bytes(damage.damage(rng, content) if rng.random() < 0.8 else content)
        fields = [f"{rng.choice(['n_fft', 'dim_f', 'dim_t', 'samples', 'compensate'])}={rng.choice(damage.HOSTILE)}"]
        usual = "n_fft=4096,primary_stem=vocals"
        data = rng.choice([usual, ",".join([usual, *fields]), fields[0], None])
        beside.unlink(missing_ok=True)
        if rng.random() < 0.2:
            entry = damage.change_value(rng, entries)
            beside.write_bytes(json.dumps({mdx.compute_md5(path): entry}).encode("utf-8", "surrogatepass"))
        require_clean(lambda: use(path, data))

    return case


KINDS: dict[str, tuple[Callable[[Path], Case], int]] = {  # and the share of each in 100 cases
    "decoding": (set_up_decoding, 15),
    "tags": (hostile_tags.set_up, 3),
    "models": (set_up_models, 5),
    "recipes": (set_up_recipes, 3),
    "checkpoints": (set_up_checkpoints, 1),
    "runs": (set_up_runs, 17),
    "graphs": (set_up_graphs, 8),
    "names": (hostile_names.set_up, 12),
    "requests": (hostile_requests.set_up, 16),
    "manifests": (hostile_manifests.set_up, 20),
}


def run_cases(
    kind: str, case: Case, seed: int, first: int, count: int, folder: Path, seconds: float = SLICE_SECONDS
) -> tuple[int, list[str]]:
    """Run cases in a child process. Return the number of the next case, and a report of each failure."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            _serve(kind, case, seed, range(first, first + count), folder, pipe, seconds)
        os._exit(0)
    os.close(writer)
    reached, failures = first - 1, []
    with os.fdopen(reader) as pipe:
        for line in pipe:
            event = json.loads(line)
            reached = event["case"]
            if "failure" in event:
                failures.append(f"{kind} {reached}: {event['failure']}")
    _, status = os.waitpid(child, 0)
    if status:
        how = os.waitstatus_to_exitcode(status)
        what = f"it took more than {CASE_SECONDS} s" if how == -signal.SIGALRM else f"the process ended with {how}"
        failures.append(f"{kind} {reached}: {what}")
    return reached + 1, failures


def _serve(kind: str, case: Case, seed: int, numbers: range, folder: Path, pipe: io.TextIOBase, seconds: float) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # C libraries complain about damaged files
    warnings.simplefilter("ignore")
    ends = time.monotonic() + seconds
    for number in numbers:
        pipe.write(json.dumps({"case": number}) + "\n")
        pipe.flush()
        signal.alarm(CASE_SECONDS)
        try:
            case(random.Random(f"{seed} {kind} {number}"), folder)
        except BaseException:
            pipe.write(json.dumps({"case": number, "failure": traceback.format_exc()}) + "\n")
        signal.alarm(0)
        if time.monotonic() > ends:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--cases", type=int, default=0, help="of each kind; instead of --minutes")
    parser.add_argument("--total", type=int, default=0, help="cases of all kinds; instead of --minutes")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", choices=KINDS, action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name) / kind for kind in given.only or KINDS}
        cases, failures = {}, []
        os.environ["VOCALSEP_CACHE"] = f"{name}/cache"
        for kind, folder in folders.items():
            folder.mkdir()
            cases[kind] = KINDS[kind][0](folder)
        following = dict.fromkeys(cases, given.first)
        ends = time.monotonic() + 60 * given.minutes
        left = dict.fromkeys(cases, given.cases or sys.maxsize)
        if given.total:
            shares = {kind: KINDS[kind][1] for kind in cases}
            left = {kind: -(-given.total * share // sum(shares.values())) for kind, share in shares.items()}
        bounded, most = bool(given.cases or given.total), SLICE_SECONDS
        if not bounded:
            most = min(most, 60 * given.minutes / len(cases))
        with contextlib.suppress(KeyboardInterrupt):
            while any(left.values()) and (bounded or time.monotonic() < ends):
                for kind, case in cases.items():
                    if not left[kind] or not (bounded or time.monotonic() < ends):
                        continue
                    at, count = following[kind], min(left[kind], 10**6)
                    following[kind], found = run_cases(kind, case, given.seed, at, count, folders[kind], most)
                    left[kind] -= following[kind] - at
                    for failure in found:
                        print(failure, flush=True)
                    failures += found
    for kind, number in following.items():
        print(f"{kind:12} {number - given.first:8,} cases")
    total = sum(following.values()) - given.first * len(following)
    print(f"{total:,} cases, {len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
