"""The saved state of a training, from which it is resumed."""

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

    States of other digests are removed, since settings or code have changed. Requires the lock.
    """

    def __init__(self, folder: Path, digest: str):
        self._digest = digest
        folder_of_digest = prepare_state(folder, digest)
        self.path = folder_of_digest / STATE
        self._diverged = folder_of_digest / DIVERGED

    def save(self, state: dict) -> None:
        """Write a dictionary of tensors, numbers, strings, lists and dictionaries atomically."""
        # Errors of Python's files give the reason, those of torch's own do not.
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            torch.save({**state, "digest": self._digest}, file)
        remove(self._diverged)

    def load(self) -> dict | None:
        """The state, on the CPU; None if there is none.

        A file that is damaged or belongs to another training is removed.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            if reason := why_not_readable(self.path):
                raise ValueError(reason)
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip() is not None:  # torch.load does not verify checksums
                    raise ValueError("wrong checksum")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("digest") != self._digest:
                raise ValueError("it belongs to another training")
            return state
        except Exception as error:
            if reason := refusal_message(error, self.path):  # the file may be intact
                raise Refusal(reason) from error
            if is_out_of_memory(error):
                raise
            self.discard(str(error).partition("\n")[0] or type(error).__name__)
            return None

    def discard(self, reason: str) -> None:
        """Remove a state from which this training cannot continue."""
        log.warning("%s is damaged (%s): training starts over", self.path, reason)
        remove(self.path)

    def diverged(self) -> bool:
        """Record that training diverged from this state; return whether it can be resumed.

        After the first failure the state is kept, since the cause may have been transient. After
        the second it is removed, so that reruns do not repeat the failure forever.
        """
        if self.path.exists() and not self._diverged.exists():
            self._diverged.touch()
            return True
        shutil.rmtree(self.path.parent, ignore_errors=True)
        return False
