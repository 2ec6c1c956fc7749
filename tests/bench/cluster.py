"""Kill parts of a Ray cluster while it separates songs, and check that every song is done once, as `extract` does it.

    python tests/bench/cluster.py [--songs 2000] [--seconds 0.3] [--nodes 3] [--kill worker actor node driver]
                                  [--speed-songs 300] [--model duo]

The cluster is on this machine, with one worker per node. First, `extract --jobs` separates the songs. Then `cluster`
does, while a worker process, an actor and a whole node are killed; then the driver is killed and started again. The
script prints what it found, and exits with status 1 if a song is missing, differs, or was done twice, or if a file is
left over. Two tables follow: memory and open files of the workers over the run, and speed and processor time against
`extract --jobs`, both undisturbed on the first --speed-songs songs.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ |= {"RAY_raylet_start_wait_time_s": "120", "RAY_USAGE_STATS_ENABLED": "0"}  # before Ray is loaded

import ray
from batch import make_songs
from ray.cluster_utils import Cluster

from vocalsep import manifests
from vocalsep.cli.batch.driver import NAMESPACE
from vocalsep.release import DEFAULT_MODEL

PATIENCE_SECONDS = 60
STORE_BYTES = 100_000_000
TICKS = os.sysconf("SC_CLK_TCK")
KILLS = ("worker", "actor", "node", "driver")


def list_processes(word: str) -> list[int]:
    """Return the processes whose command line begins with a word."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if line.startswith(word):
                found.append(int(path.name))
    return sorted(found)


def list_descendants(process: int) -> list[int]:
    """Return a process and all processes that it started, directly or not."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(path.name))
    found = [process]
    for each in found:
        found += parents.get(each, [])
    return found


def read_cpu_seconds(processes: Sequence[int]) -> float:
    total = 0
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def measure(process: int) -> tuple[float, int] | None:
    """Return the memory (MiB) and the number of open files of a process; None if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), files
    except (OSError, StopIteration):
        return None


def count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def make_command(name: str, songs: Path, out: Path, manifest: Path, model: str) -> list[str]:
    command = [sys.executable, "-m", "vocalsep", name, str(songs), "-o", f"{out}/{{song}}.{{stem}}.wav"]
    return [*command, "--stem", "both", "--manifest", str(manifest), "--model", model, "--progress", "none"]


class Machines:
    """A cluster of nodes on this machine, each with one processor."""

    def __init__(self, nodes: int, folder: Path) -> None:
        Path("/tmp/ray").mkdir(exist_ok=True)  # where `Cluster` writes its address, whatever its folder is
        self._arguments = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
        head = self._arguments | {"include_dashboard": False, "temp_dir": str(folder)}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.others = [self.cluster.add_node(**self._arguments) for _ in range(nodes - 1)]
        self.cluster.wait_for_nodes()
        ray.init(address=self.address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")

    @property
    def address(self) -> str:
        return self.cluster.address

    def kill(self, what: str) -> str:
        """Kill a worker process, an actor or a node. Return what was killed, in words."""
        if what == "node":
            self.cluster.remove_node(self.others.pop(), allow_graceful=False)
            return f"a node; {len(self.others) + 1} are left"
        if what == "actor":
            name = sorted(each["name"] for each in ray.util.list_named_actors(all_namespaces=True))[0]
            ray.kill(ray.get_actor(name))
            return f"actor {name}"
        process = list_processes("ray::Actor")[0]
        os.kill(process, signal.SIGKILL)
        return f"worker process {process}"

    def list_services(self) -> list[int]:
        return [pid for pid in list_descendants(os.getpid()) if pid not in list_processes("ray::Actor")]

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


def watch(process: subprocess.Popen[bytes], manifest: Path) -> Iterator[int]:
    """Yield the number of lines of a manifest until a process ends."""
    last, since = -1, time.monotonic()
    while process.poll() is None:
        lines = count_lines(manifest)
        if lines != last:
            last, since = lines, time.monotonic()
        elif time.monotonic() - since > PATIENCE_SECONDS:
            nodes = [node["Alive"] for node in ray.nodes()]
            workers = list_processes("ray::Actor")
            print(f"nothing for {PATIENCE_SECONDS} s: nodes alive {nodes}, workers {workers}", flush=True)
            since = time.monotonic()
        yield lines
        time.sleep(0.2)
    yield count_lines(manifest)


def run_with_kills(
    machines: Machines, command: list[str], manifest: Path, songs: int, kills: Sequence[str]
) -> list[tuple[float, int]]:
    """Separate the songs while things are killed. Return the most memory and files per tenth of the run."""
    waiting = [(songs * (index + 1) // (len(kills) + 2), what) for index, what in enumerate(kills)]
    samples: list[tuple[float, int]] = [(0.0, 0)] * 10
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for lines in watch(process, manifest):
            tenth = min(9, 10 * lines // songs)
            found = [value for value in map(measure, list_processes("ray::Actor")) if value]
            samples[tenth] = tuple(map(max, samples[tenth], *found)) if found else samples[tenth]  # type: ignore[arg-type]
            if waiting and lines >= waiting[0][0] and found and process.poll() is None:
                what = waiting.pop(0)[1]
                if what == "driver":
                    process.kill()
                    print(
                        f"after {lines} songs: killed the driver (status {process.wait()}); started it again",
                        flush=True,
                    )
                    break
                print(f"after {lines} songs: killed {machines.kill(what)}", flush=True)
        else:
            print(f"the driver ended with status {process.returncode}", flush=True)
            return samples


def check(names: Sequence[str], alone: Path, out: Path, manifest: Path) -> bool:
    """Print what became of the songs. Return whether all is well."""
    records = list(manifests.iterate(manifest))
    lines = Counter(record.id for record in records)
    statuses = Counter(record.status for record in records)
    expected = sorted(f"{Path(name).stem}.{stem}.wav" for name in names for stem in ("vocals", "accompaniment"))
    found = sorted(path.name for path in out.iterdir())
    same, different, missing = filecmp.cmpfiles(alone, out, expected, shallow=False)
    print(f"{len(names)} songs; manifest: {len(records)} lines, {dict(statuses)}")
    print(f"songs with one line: {list(lines.values()).count(1)}; with several: {sum(n > 1 for n in lines.values())}")
    print(f"outputs: {len(same)} the same bytes as extract's, {len(different)} different, {len(missing)} missing")
    print(f"other files in the folder of outputs: {sorted(set(found) - set(expected))}")
    return (
        found == expected
        and len(same) == len(expected)
        and set(lines.values()) == {1}
        and sorted(lines) == sorted(names)
    )


def measure_speed(
    command: list[str], manifest: Path, songs: int, groups: Callable[[int], dict[str, list[int]]]
) -> dict[str, float]:
    """Return the songs per second of a command, and the processor time per song of groups of processes, in ms.

    The first fifth of the songs does not count: processes start, and load models.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    started: tuple[int, float, dict[str, float]] | None = None
    last: tuple[int, float, dict[str, float]] | None = None
    members: dict[str, list[int]] = {}
    for lines in watch(process, manifest):
        if process.poll() is None and lines < songs:
            now = (
                lines,
                time.perf_counter(),
                {name: read_cpu_seconds(ids) for name, ids in groups(process.pid).items()},
            )
            if started is None and lines >= songs // 5:
                started, members = now, groups(process.pid)
            if groups(process.pid)["workers"] == members.get("workers"):  # none has ended
                last = now
    assert started
    assert last
    count = last[0] - started[0]
    times = {name: 1000 * (last[2][name] - started[2][name]) / count for name in last[2]}
    return {"songs per second": count / (last[1] - started[1]), **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--kill", nargs="*", default=KILLS, choices=KILLS)
    parser.add_argument("--speed-songs", type=int, default=300)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vs-") as name:
        root = Path(name)
        songs, few, alone, out = (root / each for each in ("songs", "few", "alone", "out"))
        songs.mkdir()
        few.mkdir()
        make_songs(songs, options.songs, options.seconds)
        names = sorted(path.name for path in songs.iterdir())
        for each in names[: options.speed_songs]:
            (few / each).hardlink_to(songs / each)
        jobs = ["--jobs", str(options.nodes), "--threads", "1"]
        extract = [*make_command("extract", songs, alone, root / "alone.jsonl", options.model), *jobs]
        began = time.perf_counter()
        subprocess.run(extract, stdout=subprocess.DEVNULL, check=True)
        print(
            f"extract --jobs {options.nodes}: {options.songs} songs in {time.perf_counter() - began:.0f} s", flush=True
        )
        before = set(Path(tempfile.gettempdir()).glob("vocalsep-*"))
        machines = Machines(options.nodes, root / "ray")
        try:
            address = ["--address", machines.address]
            command = [*make_command("cluster", songs, out, root / "out.jsonl", options.model), *address]
            began = time.perf_counter()
            samples = run_with_kills(machines, command, root / "out.jsonl", options.songs, options.kill)
            print(f"cluster: {time.perf_counter() - began:.0f} s")
            well = check(names, alone, out, root / "out.jsonl")
            print("\n| part of the run | memory of the largest worker | its open files |\n|---|---|---|")
            for tenth, (memory, files) in enumerate(samples):
                print(f"| {10 * tenth} to {10 * tenth + 10} % | {memory:.0f} MiB | {files} |")
            while "node" in options.kill and len(machines.others) < options.nodes - 1:
                machines.others.append(machines.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))
            if options.speed_songs:
                rows = compare_speed(machines, few, root, options.model, jobs, options.speed_songs)
                print(
                    "\n| "
                    + " | ".join(["command", "songs per second", "workers", "driver", "Ray"])
                    + " |\n|---|---|---|---|---|"
                )
                for title, row in rows.items():
                    cells = [
                        f"{row['songs per second']:.1f}",
                        *(f"{row[key]:.1f} ms" if key in row else "-" for key in ("workers", "driver", "Ray")),
                    ]
                    print(f"| {title} | {' | '.join(cells)} |")
        finally:
            machines.close()
        left = sorted(set(Path(tempfile.gettempdir()).glob("vocalsep-*")) - before)
        print(f"\ntemporary folders left on the nodes: {[path.name for path in left]}")
        print(f"Ray processes left: {len(list_processes('ray::'))}")
    if left or not well:
        raise SystemExit(1)


def compare_speed(
    machines: Machines, few: Path, root: Path, model: str, jobs: list[str], count: int
) -> dict[str, dict[str, float]]:
    def group_extract(process: int) -> dict[str, list[int]]:
        return {"driver": [process], "workers": list_descendants(process)[1:]}

    def group_cluster(process: int) -> dict[str, list[int]]:
        services = set(machines.list_services()[1:]) - set(list_descendants(process))
        return {"driver": [process], "workers": list_processes("ray::Actor"), "Ray": sorted(services)}

    speeds = {}
    for title, group, more in (
        (f"extract --jobs {jobs[1]}", group_extract, jobs),
        (f"cluster of {jobs[1]} nodes", group_cluster, ["--address", machines.address]),
    ):
        manifest = root / f"{title}.jsonl"
        command = [*make_command(title.split()[0], few, root / title.replace(" ", "-"), manifest, model), *more]
        speeds[title] = measure_speed(command, manifest, count, group)
    return speeds


if __name__ == "__main__":
    main()
