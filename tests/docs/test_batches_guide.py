"""Runs the loop of docs/batches.md that divides songs between two machines, over ssh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import command_line
import fake_nets
import numpy as np
import pytest
import ssh
import synthetic_songs
from command_line import list_files

from vocalsep import manifests
from vocalsep.cli.batch.plan import choose_shard

GUIDE = Path(__file__).parents[2] / "docs" / "batches.md"
NAMES = ["0.wav", "1.wav", "cd/2.wav", "cd/3 of 4.wav", "cd/it's 4.wav"]


def read_loop() -> str:
    """Return the shell commands of the guide."""
    (loop,) = [
        text for text in re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S) if "for host" in text
    ]
    return str(loop)


@pytest.mark.slow
@pytest.mark.skipif(not ssh.is_installed(), reason="needs sshd, ssh and ssh-keygen")
def test_two_machines_divide_the_songs_over_ssh(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for seed, name in enumerate(NAMES):
        synthetic_songs.write(data / "music" / name, np.clip(fake_nets.noise(1, 4_000, seed), -0.99, 0.99).T, 8_000)
    keys, programs = tmp_path / "ssh", tmp_path / "programs"
    keys.mkdir()
    programs.mkdir()
    ssh.write_program(programs / "vocalsep", f'exec {sys.executable} -m vocalsep "$@"')
    path = f"{programs}:{os.environ['PATH']}"
    variables = {"PATH": path, "PYTHONPATH": str(command_line.SOURCE)}
    with ssh.run_machines(["anna", "bert"], keys, variables) as clients:
        environment = os.environ | variables | {"PATH": f"{clients}:{path}"}
        loop = read_loop().replace("/data/", f"{data}/")
        done = subprocess.run(["sh", "-c", loop], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {name: each.status for name, each in manifests.read(data / "all.jsonl").items()} == dict.fromkeys(
        NAMES, "done"
    )
    for part in (1, 2):
        expected = [name for name in NAMES if choose_shard(name, 2) == part % 2]
        assert list(manifests.read(data / f"vocals-{part}.jsonl")) == expected != []
    command_line.run("extract", data / "music", "-r", "-o", f"{tmp_path}/ref/{{folder}}/{{song}}.wav")
    assert list_files(data / "vocals") == list_files(tmp_path / "ref") == ["0.wav", "1.wav", "cd", *NAMES[2:]]
    for name in NAMES:
        assert (data / "vocals" / name).read_bytes() == (tmp_path / "ref" / name).read_bytes()
