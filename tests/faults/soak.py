"""`make soak`: a hundred deploys that are cut off, each compared with an undisturbed one.

Half of them are first deploys, half are changes of configuration. Every round starts from the same
snapshot, kills pyinfra at one point, runs it again, and demands that nothing is left to do and that
every host's fingerprint (`tests.faults.fingerprint`) equals that of the undisturbed run.
"""

import argparse
import os
import random
import sys

from deploy.run import EXIT_DONE, run
from roles.common.site import load
from tests.faults.fingerprint import differences, fingerprint
from tests.faults.interruption import Point, apply_and_kill, changed_settings, operations, points
from tests.lab.lab import LabInstance

INSTANCE = "test"
_FRESH = "fresh"
_DEPLOYED = "deployed"


def soak(environment: str, count: int, seed: int) -> int:
    """Run all rounds; return how many of them ended in another state."""
    os.environ["LAB_INSTANCE"] = INSTANCE
    site = load(environment, INSTANCE)
    lab = LabInstance(site, INSTANCE)
    bad = 0
    try:
        lab.up()
        lab.snapshot(_FRESH)
        first = points(count - count // 2, operations(environment), seed)
        _apply(environment)
        deployed = fingerprint(site)
        lab.snapshot(_DEPLOYED)
        with changed_settings():
            change = points(count // 2, operations(environment), seed)
            _apply(environment)
        changed = fingerprint(site)
        for point in first:
            bad += not _round(lab, _FRESH, point, deployed)
        with changed_settings():
            for point in change:
                bad += not _round(lab, _DEPLOYED, point, changed)
    finally:
        lab.down()
    sys.stdout.write(f"{count - bad} passed, {bad} failed\n")
    return bad


def _round(lab: LabInstance, start: str, point: Point, reference: dict[str, set[str]]) -> bool:
    """Cut a deploy off, run it again, and compare; return whether all is as it shall be."""
    environment = lab.site.environment
    lab.restore(start)
    apply_and_kill(environment, point)
    _apply(environment)
    left = run("plan", "site", environment, [], sys.stdout) != EXIT_DONE
    found = differences(reference, fingerprint(lab.site))
    verdict = "something was left to do" if left else found or "equal"
    sys.stdout.write(f"{start}, killed at {point}: {verdict}\n")
    return not left and not found


def _apply(environment: str) -> None:
    code = run("apply", "site", environment, [], sys.stdout)
    if code != EXIT_DONE:
        raise AssertionError(f"the deploy ended with {code}; expected {EXIT_DONE}")


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--env", default="single")
    parser.add_argument("--points", type=int, default=100, help="how often")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    return 1 if soak(options.env, options.points, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
