"""Runs every check and ends in one summary: what `make test`, `make drill` and `.ci/run` call.

Static checks and unit tests, and Molecule's scenarios, each in a lab of its own, which is removed
whatever happens; with the last of them goes all that the lab needed, unless another lab is up. They
run side by side, for most of a test is waiting. Progress is visible, each line behind the name of
its stage; the end names what was slow, what failed and why, and the last line counts the tests of
all stages.
"""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / ".cache" / "reports"
SCENARIOS = {
    "default": ("local", "test"),
    "faults": ("local", "faults"),
    "single": ("single", "test"),
    "pair": ("pair", "test"),
}
"""Molecule's scenarios, each with its environment and the instance of it that is its lab."""
DRILL = {"restore": ("local", "restore")}
"""What `make drill` runs, by itself: it takes longer than `make test` may."""


def main() -> int:
    """Run all stages, whichever fails."""
    _begin()
    # What both checks and labs install of Debian's packages, they install one after the other.
    if not _stage("tools", ["make", "tools"]):
        return _summed_up(["tools"])
    with ThreadPoolExecutor(len(SCENARIOS) + 1) as pool:
        checked = pool.submit(_stage, "check", ["make", "check"])
        passed = pool.map(_scenario, SCENARIOS)
        failed = [] if checked.result() else ["check"]
        failed += [name for name, good in zip(SCENARIOS, passed, strict=True) if not good]
    failed += [f"removal of {name}" for name in SCENARIOS if not _removed(name)]
    return _summed_up(failed)


def drill() -> int:
    """Run the drill alone; its lab is removed whatever happens."""
    _begin()
    failed = [name for name in DRILL if not _scenario(name)]
    failed += [f"removal of {name}" for name in DRILL if not _removed(name)]
    return _summed_up(failed)


def _begin() -> None:
    """Forget the reports of earlier runs."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)


def _summed_up(failed: Sequence[str]) -> int:
    """Print the summary of all reports, and of stages that failed; the exit code."""
    for line in (*slowest(REPORTS), *failures(REPORTS)):
        print(line)
    counts = totals(REPORTS)
    print(f"failed stages: {', '.join(failed) or 'none'}", flush=True)
    # A stage that broke outside of a test counts as one failure, so that no summary looks green.
    counts["failed"] += len(failed) if not counts["failed"] else 0
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts), flush=True)
    return 1 if failed or counts["failed"] else 0


def _scenario(name: str) -> bool:
    return _stage(name, ["molecule", "test", "--scenario-name", name, "--destroy", "always"])


def _removed(scenario: str) -> bool:
    """Remove a lab of which Molecule may have left something; the last takes the base image."""
    environment, instance = (SCENARIOS | DRILL)[scenario]
    down = ["-m", "tests.lab", "down", "--env", environment, "--instance", instance]
    return _stage(f"removal of {scenario}", [sys.executable, *down])


def _stage(name: str, command: list[str]) -> bool:
    """Run one stage with the project's tools on PATH; say how it went and how long it took."""
    begin = time.monotonic()
    _say(f"=== {name}: {' '.join(command)}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOLECULE_GLOB": "tests/molecule/*/molecule.yml",
        "ANSIBLE_NOCOLOR": "1",
    }
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            _say(f"{name}: {line.rstrip()}")
    done = process.returncode == 0
    minutes = (time.monotonic() - begin) / 60
    _say(f"=== {name}: {'passed' if done else 'FAILED'} in {minutes:.1f} min")
    return done


def _say(line: str) -> None:
    """Print a line whole, though two stages print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def failures(reports: Path) -> list[str]:
    """Failed tests of all JUnit reports in a folder, each with the end of what it said."""
    return [
        f"FAILED {name}: {case.get('classname')}::{case.get('name')}\n"
        + textwrap.indent("\n".join((found.text or "").splitlines()[-30:]), "    ")
        for name, report in _read(reports)
        for case in report.iter("testcase")
        for found in case
        if found.tag in ("failure", "error")
    ]


def slowest(reports: Path, number: int = 12) -> list[str]:
    """The tests of each report that took longest, for whoever wants `make test` faster."""
    return [
        f"{float(case.get('time', 0)):6.1f} s {name}: {case.get('classname')}::{case.get('name')}"
        for name, report in _read(reports)
        for case in sorted(report.iter("testcase"), key=lambda case: -float(case.get("time", 0)))[
            :number
        ]
    ]


def totals(reports: Path) -> dict[str, int]:
    """Passed, failed and skipped tests of all JUnit reports in a folder."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for _, report in _read(reports):
        for suite in report.iter("testsuite"):
            number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors")}
            skipped = int(suite.get("skipped", 0))
            bad = number["failures"] + number["errors"]
            counts["failed"] += bad
            counts["skipped"] += skipped
            counts["passed"] += number["tests"] - bad - skipped
    return counts


def _read(reports: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """The JUnit reports in a folder: what each is of, and its root."""
    for report in sorted(reports.glob("*.xml")):
        yield report.stem, ElementTree.parse(report).getroot()  # noqa: S314 - our own


if __name__ == "__main__":
    sys.exit(drill() if sys.argv[1:] == ["drill"] else main())
