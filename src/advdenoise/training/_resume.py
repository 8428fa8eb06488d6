"""The state of a training: what it is resumed from."""

import logging
import os
import shutil
import zipfile
from pathlib import Path

import torch

from advdenoise.io.files import atomic_write
from advdenoise.ops.files import remove, why_not_readable
from advdenoise.ops.resume import prepare_state
from advdenoise.ops.system import Refusal, is_out_of_memory, refusal_message

log = logging.getLogger(__name__)

STATE = "state.pt"
DIVERGED = "diverged"


class State:
    """The state file of one training, `folder/digest/state.pt`.

    States of other digests are removed: what made them has changed. Use it under the lock.
    """

    def __init__(self, folder: Path, digest: str):
        self._digest = digest
        own = prepare_state(folder, digest)
        self.path = own / STATE
        self._diverged = own / DIVERGED

    def save(self, state: dict) -> None:
        """Write a dictionary of tensors, numbers, strings, lists and dictionaries atomically."""
        # A file of Python's says why it cannot be written, torch's own does not.
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            torch.save({**state, "digest": self._digest}, file)
        remove(self._diverged)

    def load(self) -> dict | None:
        """The state on the CPU; None where there is none or no state of this training.

        What stands in its place is then removed.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            if reason := why_not_readable(self.path):
                raise ValueError(reason)
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip() is not None:  # torch.load itself checks no checksums
                    raise ValueError("wrong checksum")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("digest") != self._digest:
                raise ValueError("it is of another training")
            return state
        except Exception as error:
            if reason := refusal_message(error, self.path):  # it may be whole
                raise Refusal(reason) from error
            if is_out_of_memory(error):
                raise
            self.discard(str(error).partition("\n")[0] or type(error).__name__)
            return None

    def discard(self, reason: str) -> None:
        """Remove a state that this training cannot go on from."""
        log.warning("%s is damaged (%s): training starts anew", self.path, reason)
        remove(self.path)

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
