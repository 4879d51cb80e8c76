"""What restores left that failed and that nobody ran again: letters, dumps, keys.

A failed run leaves what it fetched, so that the next one goes on with it; one that is killed cannot
take anything away. Neither is to lie there for ever: the next backup removes what is a week old.
"""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from roles.backup.locks import taken
from roles.backup.restoring_jobs import SCRATCH
from roles.backup.stages import MAIL
from roles.backup.targets import ON_CLIENT

LOCK = Path("/run/lock/site-restore-mail")
"""Held while letters come back (`files/site-restore-mail`)."""
AGE = 7 * 86400
"""Seconds after which it is nobody's any more."""


def forget(
    mail: Path = MAIL, scratch: Path = SCRATCH, lock: Path = LOCK, target: Path = ON_CLIENT
) -> list[str]:
    """Take it away; its paths. Nothing is taken while letters come back."""
    gone: list[str] = []
    with taken(lock) as free:
        if not free:
            return gone
        places: tuple[tuple[Path, Callable[[str], bool]], ...] = (
            # A restore of a whole host leaves this one.
            (mail, lambda name: name == ".restoring"),
            (mail / ".restore", lambda _: True),
            (scratch, lambda _: True),
            # Whose operator's machine went away meanwhile.
            (target.parent, lambda name: name == target.name),
        )
        for folder, is_scratch in places:
            with suppress(FileNotFoundError):
                gone += _forget_old(folder, is_scratch)
    return gone


def _forget_old(folder: Path, is_scratch: Callable[[str], bool]) -> Iterator[str]:
    # By the folder's descriptor and without links: the owner of mail may write here, root removes.
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for name in sorted(entry.name for entry in os.scandir(opened)):
            status = os.stat(name, dir_fd=opened, follow_symlinks=False)
            # When it changed here: what came back has the times that it had.
            if not is_scratch(name) or time.time() - status.st_ctime <= AGE:
                continue
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(name, dir_fd=opened)
            else:
                os.unlink(name, dir_fd=opened)
            yield str(folder / name)
    finally:
        os.close(opened)
