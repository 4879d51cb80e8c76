"""What the lab is doing, on standard error: standard output is for what was asked for."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    sys.stderr.write(f"lab: {what} … ")
    sys.stderr.flush()
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        sys.stderr.write("failed\n")
        raise
    sys.stderr.write(f"{time.monotonic() - begin:.1f} s\n")
