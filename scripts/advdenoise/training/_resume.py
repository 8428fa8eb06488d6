"""The state of a training: what it is resumed from."""

import logging
import shutil
import zipfile
from pathlib import Path

import torch

from scripts.advdenoise.resume import own_state
from scripts.advdenoise.store import replacing

log = logging.getLogger(__name__)

STATE = "state.pt"
DIVERGED = "diverged"


class State:
    """The state file of one training, `folder/digest/state.pt`.

    States of other digests are removed: what made them has changed. Use it under the lock.
    """

    def __init__(self, folder: Path, digest: str):
        own = own_state(folder, digest)
        self.path = own / STATE
        self._diverged = own / DIVERGED

    def save(self, state: dict) -> None:
        """Write a dictionary of tensors, numbers, strings, lists and dictionaries atomically."""
        self.path.parent.mkdir(exist_ok=True)
        with replacing(self.path) as temporary:
            torch.save(state, temporary)
        self._diverged.unlink(missing_ok=True)

    def load(self) -> dict | None:
        """The state on the CPU; None where there is none or a damaged one, which is removed."""
        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip() is not None:  # torch.load itself checks no checksums
                    raise ValueError("wrong checksum")
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            log.warning("%s is damaged (%s): training starts anew", self.path, reason)
            self.path.unlink()
            return None

    def diverged(self) -> bool:
        """Note that training came to nothing from this state; is there anything to resume?

        The first time the state stays, since the cause may have been a passing fault. The second
        time it is removed, so that no rerun is led into the same failure for ever.
        """
        if self.path.exists() and not self._diverged.exists():
            self._diverged.touch()
            return True
        shutil.rmtree(self.path.parent, ignore_errors=True)
        return False
