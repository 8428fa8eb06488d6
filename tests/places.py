"""Things that stand in a file's place and are none."""

import os
import socket
from pathlib import Path


def put_in_place(path: Path, kind: str) -> None:
    """Put a named pipe, a socket, a folder, a link to itself or one to nothing at a path."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        place = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as bound:  # a path of a socket ends at 108 bytes
            bound.bind(f"/proc/self/fd/{place}/{path.name}")
        os.close(place)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"loop": path.name, "dangling": "nowhere"}[kind])
