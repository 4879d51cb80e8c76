"""A repository that grows as no host of ours does is shut: a thief could fill everybody's disk.

Why not by `--max-size` of restic-rest-server: that is one number for all repositories together, so
that a thief who reaches it keeps every other host from backing up; and it counts what passes the
server, so that what the keeper prunes would not count as free before the server's next start. So
the keeper measures each repository by itself, as often as it watches, against a day before.

Shut means that no folder of the repository may be written to, by the server either, which runs as
their owner without privileges. All that is there can be read: a restore goes on, without a lock
(`refusals.py`).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

PERIOD = timedelta(days=1)
"""How far back a size is compared."""
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
Sample = tuple[str, int]
"""When it was measured (ISO 8601), and the bytes."""


def measured(repository: Path) -> int:
    """The bytes of a repository's files; half-written ones count."""
    total = 0
    for folder, _, names in os.walk(repository):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except FileNotFoundError:
                # The server gives a file its name when it is whole.
                continue
    return total


def followed(samples: Sequence[Sample], size: int, now: datetime) -> tuple[list[Sample], int]:
    """The samples that count from now on, and how many bytes were added to the smallest of them."""
    recent = [
        (at, bytes_) for at, bytes_ in samples if now - datetime.fromisoformat(at) <= PERIOD
    ]  # fmt: skip
    recent.append((now.isoformat(), size))
    return recent, size - min(bytes_ for _, bytes_ in recent)


def shut(repository: Path) -> None:
    """Nothing is written into it any more."""
    for folder in _folders(repository):
        folder.chmod(folder.stat().st_mode & ~_WRITE)


def reopen(repository: Path) -> None:
    """It is written into again."""
    for folder in _folders(repository):
        folder.chmod(folder.stat().st_mode | stat.S_IWUSR)


def is_shut(repository: Path) -> bool:
    """Whether it is shut."""
    data = repository / "data"
    return data.is_dir() and not data.stat().st_mode & _WRITE


def _folders(repository: Path) -> Iterator[Path]:
    # The one that says whether it is shut comes last: a run that is cut off is done again.
    for folder, _, _ in os.walk(repository):
        if Path(folder) != repository / "data":
            yield Path(folder)
    yield repository / "data"
