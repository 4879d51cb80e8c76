"""How long something takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Do it; return the seconds that it took, and its result."""
    begin = time.monotonic()
    result = work()
    return time.monotonic() - begin, result
