"""Machines on this one that ssh reaches by name: an sshd each, on a port of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_SBIN = "/usr/sbin:/usr/local/sbin"  # where sshd is; not on the path of ordinary users
_START_SECONDS = 20.0

_SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
SetEnv {variables}
"""
_CLIENT = """
Host *
  HostName 127.0.0.1
  IdentityFile {folder}/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


def _find_server() -> str | None:
    return shutil.which("sshd", path=f"{os.environ['PATH']}:{_SBIN}")


def is_installed() -> bool:
    """Return whether all programs are there."""
    return _find_server() is not None and all(map(shutil.which, ("ssh", "ssh-keygen")))


@contextlib.contextmanager
def run_machines(names: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[Path]:
    """Run machines.

    Args:
        names: What ssh calls them.
        folder: An empty folder for keys and settings.
        variables: Environment of the commands that run on them.

    Yields:
        A folder with a command ``ssh`` that knows them.
    """
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # an sshd of root needs it
    sshd = _find_server()
    assert sshd
    settings = " ".join(f'{name}="{value}"' for name, value in variables.items())
    client = ""
    with contextlib.ExitStack() as stack:
        for name in names:
            port = _find_port()
            path = folder / f"{name}.conf"
            path.write_text(_SERVER.format(port=port, folder=folder, variables=settings), encoding="utf-8")
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            server = subprocess.Popen([sshd, "-D", "-e", "-f", str(path)], stderr=log)
            stack.callback(server.wait)
            stack.callback(server.terminate)
            _wait_for(port, folder / f"{name}.log")
            client += f"Host {name}\n  Port {port}\n"
        (folder / "config").write_text(client + _CLIENT.format(folder=folder), encoding="utf-8")
        programs = folder / "bin"
        programs.mkdir()
        write_program(programs / "ssh", f'exec {shutil.which("ssh")} -F "{folder}/config" "$@"')
        yield programs


def write_program(path: Path, line: str) -> None:
    """Write a shell script that can be run."""
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def _find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        else:
            return
