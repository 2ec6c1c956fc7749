"""``vocalsep cluster``: the driver with a stand-in for Ray, and a small cluster."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import command_line
import fake_nets
import fake_ray
import numpy as np
import pytest
import synthetic_songs
from command_line import list_files, read_error, read_misuse

from vocalsep import claims, manifests
from vocalsep.cli.batch import driver
from vocalsep.release import __version__

run = functools.partial(command_line.run, "cluster")

SONGS = [f"{number}.wav" for number in range(6)]


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Songs ``music/0.wav`` to ``music/5.wav``."""
    for seed, name in enumerate(SONGS):
        write(tmp_path / "music" / name, seed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "_PAUSE_SECONDS", 0.0)
    return Path("music")


def write(path: Path, seed: int) -> Path:
    return synthetic_songs.write(path, np.clip(fake_nets.noise(1, 4_000, seed), -0.99, 0.99).T, 8_000)


def use(monkeypatch: pytest.MonkeyPatch, ray: fake_ray.FakeRay) -> fake_ray.FakeRay:
    monkeypatch.setattr(driver, "connect", ray.connect)
    return ray


def read_statuses() -> dict[str, str]:
    lines = list(manifests.iterate(Path("manifest.jsonl")))
    assert len({record.id for record in lines}) == len(lines)
    return {record.id: record.status for record in lines}


def read_outputs(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in list_files(Path(folder))}


def test_a_cluster_writes_what_extract_writes(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch, fake_ray.FakeRay(room=2))
    result = run(music, "-m", model, "-o", "out", "--stem", "both")
    assert result.exit_code == 0, result.output
    assert "6 songs: 6 done, 0 skipped, 0 failed" in result.stderr
    assert len(ray.actors) == 2
    command_line.run("extract", music, "-m", model, "-o", "ref", "--stem", "both", "--manifest", "ref.jsonl")
    assert read_outputs("out") == read_outputs("ref")

    def describe(path: str) -> dict[str, Any]:
        found = manifests.read(Path(path)).items()
        return {name: (each.input, each.outputs.keys(), each.voice, each.input_sha256) for name, each in found}

    assert describe("manifest.jsonl") == describe("ref.jsonl")
    assert manifests.read(Path("manifest.jsonl"))["0.wav"].outputs["vocals"] == "out/0.vocals.wav"


def test_another_actor_does_the_song_of_a_lost_one(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(actor: int, method: str, arguments: Any) -> bool:
        return method == "do" and actor in (0, 1)

    ray = use(monkeypatch, fake_ray.FakeRay(room=2, should_lose=lose))
    assert run(music, "-m", model, "-o", "out").exit_code == 0
    assert read_statuses() == dict.fromkeys(SONGS, "done")
    handed_out = [(arguments[0], arguments[2]) for _, method, arguments in ray.calls if method == "do"]
    assert sorted(index for index, _ in handed_out) == sorted([0, 1, *range(6)])
    assert [again for _, again in handed_out].count(True) == 2


def test_an_output_that_a_lost_actor_finished_is_recorded_as_done(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_after_the_work(actor: int, method: str, arguments: Any) -> bool:
        if method == "do" and actor == 0:
            ray.actors[0].inner.do(*arguments)
        return method == "do" and actor == 0

    ray = use(monkeypatch, fake_ray.FakeRay(room=1, should_lose=lose_after_the_work))
    assert run(music, "-m", model, "-o", "out").exit_code == 0
    assert read_statuses() == dict.fromkeys(SONGS, "done")


def test_a_song_that_ends_every_worker_fails_alone(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(actor: int, method: str, arguments: Any) -> bool:
        return method == "do" and arguments[0] == 3

    use(monkeypatch, fake_ray.FakeRay(room=2, should_lose=lose))
    error = "music/3.wav: its worker process ended, 3 times; is there enough memory?"
    result = run(music, "-m", model, "-o", "out")
    assert (result.exit_code, error in result.stderr) == (1, True)
    assert read_statuses() == dict.fromkeys(SONGS, "done") | {"3.wav": "failed"}


def test_lost_actors_without_a_song_cost_no_song_a_try(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []

    def lose(actor: int, method: str, arguments: Any) -> bool:
        if method == "do" and arguments[0] == 5 and not lost:  # the last song; the other actors are idle, and go too
            lost.extend(range(len(ray.actors)))
        return actor in lost

    ray = use(monkeypatch, fake_ray.FakeRay(room=5, should_lose=lose))
    assert run(music, "-m", model, "-o", "out").exit_code == 0
    assert read_statuses() == dict.fromkeys(SONGS, "done")


def test_a_machine_that_would_give_other_results_gets_no_songs(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(actor: int, method: str, arguments: Any) -> str | None:
        unfit = actor == 0 and method == "check"
        return ray.actors[0].inner.check("0.0", *arguments[1:]) if unfit else None

    ray = use(monkeypatch, fake_ray.FakeRay(room=2, make_answer=answer))
    result = run(music, "-m", model, "-o", "out")
    assert result.exit_code == 0
    assert f"has vocalsep {__version__}, not 0.0; install the same version" in result.stderr
    assert {actor for actor, method, _ in ray.calls if method == "do"} == {1}
    ray = use(monkeypatch, fake_ray.FakeRay(room=1, make_answer=answer))
    again = run(music, "-m", model, "-o", "out", "--overwrite", "-q")
    assert again.exit_code == 1
    assert again.stderr.splitlines()[-1] == "vocalsep: no machine of the cluster can do the work"


def test_a_machine_without_the_folder_of_the_songs_is_unfit(music: Path, model: Path) -> None:
    from vocalsep.batches.actors import Actor
    from vocalsep.batches.work import Settings
    from vocalsep.means import hash_models

    digest = hash_models([str(model)])
    actor = Actor(Settings(models=(str(model),)))
    assert actor.check(__version__, digest, [music]) == ""
    assert "there is no /nowhere; all machines need the same folders" in actor.check(
        __version__, digest, [Path("/nowhere")]
    )
    assert "another file for the model" in actor.check(__version__, "0" * 64, [music])
    assert "nothing" in Actor(Settings(models=("nothing",))).check(__version__, digest, [])


def test_workers_that_never_start_end_the_call(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch, fake_ray.FakeRay(room=1, should_lose=lambda *_: True))
    assert "no worker can start on the cluster (the actor died)" in read_error(
        run(music, "-m", model, "-o", "out", "-q")
    )
    assert len(ray.actors) == 5
    assert list_files(Path("out")) == []


def test_a_call_goes_on_from_its_manifest(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch, fake_ray.FakeRay(room=2))
    (music / "bad.wav").write_text("hello")
    command = (music, "-m", model, "-o", "out")
    assert run(*command).exit_code == 1
    before, ray.calls = Path("manifest.jsonl").read_bytes(), []
    again = run(*command)
    assert (again.exit_code, ray.calls, Path("manifest.jsonl").read_bytes()) == (0, [], before)
    write(music / "bad.wav", 9)
    assert run(*command, "--retry-failed").exit_code == 0
    assert manifests.read(Path("manifest.jsonl"))["bad.wav"].status == "done"


def test_claims_of_a_driver_that_was_killed_do_not_count(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocalsep.cli.batch.recording import name_run

    use(monkeypatch, fake_ray.FakeRay(room=1))
    Path("out").mkdir()
    with claims.claim([Path("out/0.vocals.wav")], name_run("manifest.jsonl")), claims.claim([Path("out/1.vocals.wav")]):
        assert run(music, "-m", model, "-o", "out").exit_code == 0
    assert read_statuses() == dict.fromkeys(SONGS, "done") | {"1.wav": "skipped"}


def test_two_drivers_do_not_share_a_manifest(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch, fake_ray.FakeRay(room=1))
    with claims.claim([Path("manifest.jsonl")]):
        error = read_error(run(music, "-m", model, "-o", "out", "-q"))
    assert "manifest.jsonl: another 'vocalsep cluster' is using this manifest" in error
    assert ray.calls == []


@pytest.mark.slow
def test_ctrl_c_stops_the_actors_and_leaves_no_files(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(actor: int, method: str, arguments: Any) -> bool:
        if method == "do" and arguments[0] == 2:
            raise KeyboardInterrupt
        return False

    use(monkeypatch, fake_ray.FakeRay(room=1, should_lose=interrupt))
    result = run(music, "-m", model, "-o", "out")
    assert result.exit_code in (1, 130)
    assert "stopped after 2 of 6 songs; to go on, repeat the command\n" in result.stderr
    assert list_files(Path("out")) == ["0.vocals.wav", "1.vocals.wav"]
    assert list(read_statuses()) == SONGS[:2]


def test_without_ray_one_line_says_how_to_install_it(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert (
        read_error(run(music, "-m", model, "-o", "out", "-q"))
        == "a cluster needs Ray; run: pip install 'vocalsep[ray]'"
    )


def test_a_cluster_that_is_not_there_is_one_line(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    error = read_error(run(music, "-m", model, "-o", "out", "-q", "--address", "nonsense"))
    assert error.startswith("--address nonsense: cannot be reached (")
    assert error.endswith("); if it needs a token, set RAY_AUTH_MODE=token")
    for address in ("127.0.0.1:1", "127.0.0.1:99999999"):
        error = read_error(run(music, "-m", model, "-o", "out", "-q", "--address", address))
        assert error.startswith(f"--address {address}: no cluster answers there (")


def test_misuse(music: Path, model: Path) -> None:
    assert "no songs given" in read_misuse(run("-o", "out"))
    assert "a cluster works on files" in read_misuse(run(music, "-o", "-"))
    assert "cannot be combined" in read_misuse(run(music, "-q", "--progress", "bar"))
    assert "unknown model" in read_misuse(run(music, "-m", "nothing"))


def test_a_dry_run_needs_no_ray(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(music, "-m", model, "-o", "out", "--dry-run", "--shard", "1/1")
    assert result.stdout.splitlines() == [f"music/{name} -> out/{name[0]}.vocals.wav" for name in SONGS]
    assert not Path("manifest.jsonl").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray has its own
def test_a_real_cluster_survives_the_loss_of_a_worker(
    tmp_path: Path, music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    import signal
    import subprocess
    import threading

    from ray.cluster_utils import Cluster

    for name, value in {"RAY_raylet_start_wait_time_s": "300", "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    for seed in range(6, 12):
        write(music / f"{seed}.wav", seed)
    monkeypatch.setenv("PYTHONPATH", str(command_line.SOURCE))
    nodes: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=nodes | {"include_dashboard": False})
    try:
        cluster.add_node(**nodes)
        command = [sys.executable, "-m", "vocalsep", "cluster", "music", "-m", str(model), "-o", "out"]
        with subprocess.Popen([*command, "--address", cluster.address], stdout=subprocess.PIPE, text=True) as running:
            patience = threading.Timer(240, running.kill)
            patience.daemon = True
            patience.start()
            assert running.stdout is not None
            assert running.stdout.readline(), "the call ended, or did nothing for minutes"
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                if path.read_bytes().startswith(b"ray::Actor"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    break
            assert running.wait() == 0
            patience.cancel()
    finally:
        cluster.shutdown()
    assert sorted(read_statuses()) == sorted(f"{number}.wav" for number in range(12))
    assert set(read_statuses().values()) == {"done"}
    command_line.run("extract", music, "-m", model, "-o", "ref")
    assert read_outputs("out") == read_outputs("ref")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_map_batches_of_ray_data(tmp_path: Path, music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    from vocalsep.cluster import Extract

    (music / "bad.wav").write_text("hello")
    monkeypatch.setenv("PYTHONPATH", str(command_line.SOURCE))
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")
    ray.init(address="local", num_cpus=3, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
    try:
        rows = [{"id": path.name, "uri": str(path.absolute())} for path in sorted(music.iterdir())]
        done = ray.data.from_items(rows).map_batches(
            Extract,
            fn_constructor_kwargs={"output": str(tmp_path / "out"), "model": str(model), "stem": "vocals"},
            batch_size=2,
            concurrency=(1, 2),
            num_cpus=1,
        )
        found = {row["id"]: row for row in done.iter_rows()}
    finally:
        ray.shutdown()
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(SONGS, "done") | {"bad.wav": "failed"}
    command_line.run("extract", *[music / name for name in SONGS], "-m", model, "-o", "ref")
    for name in SONGS:
        assert Path(found[name]["vocals_uri"]).read_bytes() == Path("ref", f"{name[0]}.vocals.wav").read_bytes()
