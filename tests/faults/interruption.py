"""Cutting a deploy off, as a lost connection or a closed laptop does."""

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass

from deploy.run import OPERATION, command
from roles.common.site import ROOT
from tests.deploys import outcome, overlaid

_EARLIEST, _LATEST = 0.01, 30.0
"""Seconds after an operation began; one that installs packages lasts that long."""
CHANGE = """
[base]
journal_size = "1GiB"

[mta]
message_size = "40MiB"
delay_warning = "3h"

[mailstore]
user_connections = 5

[directory]
audit_kept = "400d"
"""
"""A change of configuration that reaches every kind of host."""


@dataclass(frozen=True, order=True)
class Point:
    """Where a deploy is cut off: some time after its n-th operation began, or at its end."""

    operation: int
    seconds: float

    def __str__(self) -> str:
        return f"operation {self.operation} + {self.seconds:.2f} s"


def points(count: int, operations: int, seed: int) -> list[Point]:
    """Random points of a deploy, in their order: of an operation, each magnitude alike."""
    chooser = random.Random(seed)  # noqa: S311 - a choice of points, no secret
    return sorted(
        Point(
            chooser.randint(1, operations),
            math.exp(chooser.uniform(math.log(_EARLIEST), math.log(_LATEST))),
        )
        for _ in range(count)
    )


def changed_settings() -> AbstractContextManager[None]:
    """Inside the block the environment has the settings of `CHANGE`."""
    return overlaid(CHANGE)


def operations(environment: str) -> int:
    """How many operations a deploy has, by its plan."""
    return len(outcome("plan", environment)["plan"])


def apply_and_kill(environment: str, point: Point) -> None:
    """Start a deploy and kill it, unasked.

    Args:
        environment: folder below `inventories/`.
        point: when.

    Raises:
        AssertionError: it came to its end before.
    """
    count = 0
    with subprocess.Popen(
        command("apply", "site", environment, []),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        # Not a wait for anything: the moment inside of the operation is left to chance.
        alarm = threading.Timer(point.seconds, os.killpg, (process.pid, signal.SIGKILL))
        for line in process.stderr or ():
            count += bool(OPERATION.match(line))
            if count > point.operation:
                break
            if count == point.operation and alarm.ident is None:
                alarm.start()
        # The next operation has begun, it is killed, or that was the last one.
        alarm.cancel()
        if alarm.ident is not None:
            alarm.join()
        os.killpg(process.pid, signal.SIGKILL)
    if count < point.operation:
        raise AssertionError(f"the deploy ended before {point}: it began {count} operations")


def main() -> int:
    """Interrupt a first deploy at random points: Molecule's step `prepare`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--env", required=True)
    parser.add_argument("--points", type=int, default=3, help="how often")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    for point in points(options.points, operations(options.env), options.seed):
        sys.stdout.write(f"killing at {point}\n")
        apply_and_kill(options.env, point)
    return 0


if __name__ == "__main__":
    sys.exit(main())
