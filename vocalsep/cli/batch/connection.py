"""Reach a Ray cluster, or start Ray on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vocalsep import cores, remote
from vocalsep.batches.jobs import Job
from vocalsep.batches.work import SetupError
from vocalsep.cli import streams

if TYPE_CHECKING:
    from types import ModuleType

_STORE_BYTES: Final = 100_000_000  # of Ray on this machine; songs do not pass through it
_VARIABLES: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # otherwise Ray reports its use over the network
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise it warns of how it treats GPUs
    "RAY_raylet_start_wait_time_s": "300",  # on a busy machine, 30 s are not enough
}
_PATIENCE_SECONDS: Final = 20.0  # for a cluster to answer
_LONGEST_FOLDER: Final = 40  # Ray puts sockets into its folder, and their names are short


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to work.

    Attributes:
        address: Address of the cluster, as for `ray.init`; None to start Ray on this machine.
        actors: How many songs to process at a time; None for as many as the cluster has processors or GPUs for.
        processors: Processors for each song.
        gpus: GPUs for each song.
    """

    address: str | None = None
    actors: int | None = None
    processors: int = 1
    gpus: int = 0


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[ModuleType]:
    """Connect to a cluster, or start Ray on this machine, until the ``with`` block ends.

    Raises:
        SetupError: If Ray is not installed, or the cluster does not answer.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise SetupError("a cluster needs Ray; run: pip install 'vocalsep[ray]'") from error
    address = cluster.address or os.environ.get("RAY_ADDRESS") or None
    _check_address(address or "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        try:
            if address:
                with streams.silence_c_libraries():  # they complain every second if they have no token
                    ray.init(address=address, **quiet)
            else:
                folder = stack.enter_context(remote.Workspace()).folder
                quiet |= {"_temp_dir": str(folder)} if len(str(folder)) <= _LONGEST_FOLDER else {}
                ray.init(
                    address="local",
                    num_cpus=(cluster.actors or cores.count_cores() // cluster.processors or 1) * cluster.processors,
                    object_store_memory=_STORE_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
        except Exception as error:  # Ray has no common type for what may go wrong
            reason = " ".join(str(error).split())[:300]
            where = f"--address {address}" if address else "Ray on this machine"
            may_need_token = address and "RAY_AUTH_MODE" not in os.environ
            hint = "; if it needs a token, set RAY_AUTH_MODE=token" if may_need_token else ""
            raise SetupError(f"{where}: cannot be reached ({reason or type(error).__name__}){hint}") from error
        stack.callback(ray.shutdown)
        stack.enter_context(contextlib.redirect_stdout(_OwnThread(sys.stdout)))
        yield ray


def _check_address(address: str) -> None:
    """Check that a cluster answers. Ray itself would try for minutes.

    Raises:
        SetupError: If nobody answers.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_SECONDS).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SetupError(f"--address {address}: no cluster answers there ({reason})") from error


class _OwnThread:
    """Standard output for one thread. What others write there is dropped: Ray's long messages about lost machines."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def make_probe(jobs: Sequence[Job], run: str) -> Iterator[list[Path]]:
    """Yield what machines need to see if the songs or outputs are local files: a folder of songs, and a hidden file.

    The file is beside the first outputs, and no other machine has one of the same name by chance. If the driver is
    killed, the next one of the same run deletes it.
    """
    shared = [Path(os.path.abspath(job.song.parent)) for job in jobs if isinstance(job.song, Path)][:1]  # noqa: PTH100
    outputs = [path for job in jobs for path in job.files][:1]
    with contextlib.ExitStack() as stack:
        if outputs:
            folder = Path(os.path.abspath(outputs[0])).parent  # noqa: PTH100
            try:
                folder.mkdir(parents=True, exist_ok=True)
                prefix = f".vocalsep-{run}-"
                for path in folder.glob(f"{prefix}*.probe"):
                    path.unlink(missing_ok=True)
                probe = stack.enter_context(tempfile.NamedTemporaryFile(prefix=prefix, suffix=".probe", dir=folder))
            except OSError as error:
                raise SetupError(f"{folder}: cannot be written ({error.strerror})") from error
            shared.append(Path(probe.name))
        yield shared
