"""Locks between the programs of backups, as `flock` holds them."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("site-backup")


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Hold a lock inside the block, if nobody has it; whether that is so."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock inside the block; wait for whoever has it.

    Args:
        path: its file.
        what: who may have it, for the journal.
    """
    with taken(path) as free:
        if free:
            yield
            return
    log.info("waiting for %s", what)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
