"""Files that fsspec reaches: ``s3://``, ``gs://``, ``https://``, ``hf://`` and many more.

A remote song is downloaded to a temporary folder before its turn, and outputs are uploaded from there when they are
complete. Downloads and uploads are tried `addresses.TRIES` times. fsspec finds credentials and settings where it always
does: in the environment and in the configuration files of each service.

The temporary folders of processes that were killed are deleted by the next process; see `workspace.Workspace`.
"""

from vocalsep.remote.addresses import (
    Remote,
    check_writable,
    find_files,
    find_matches,
    is_address,
    list_names,
)
from vocalsep.remote.workspace import Workspace, remove_abandoned

__all__ = [
    "Remote",
    "Workspace",
    "check_writable",
    "find_files",
    "find_matches",
    "is_address",
    "list_names",
    "remove_abandoned",
]
