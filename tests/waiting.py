"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, seconds: float = 180.0, pause: float = 0.2) -> T:
    """Ask `condition` until it answers something true, and return that.

    Args:
        condition: asked again and again.
        what: what is awaited, for the error.
        seconds: how long at the most; generous, since a test never depends on speed.
        pause: between two questions.

    Raises:
        TimeoutError: naming what was awaited and the last answer.
    """
    end = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}; last answer: {answer!r}")
        time.sleep(pause)
    return answer
