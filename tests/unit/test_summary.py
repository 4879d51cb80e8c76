"""The summary that ends a test run."""

import re
import sys
from pathlib import Path

import pytest

from tests import run
from tests.run import DRILL, ROOT, SCENARIOS, failures, slowest, totals

SUITE = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'
STAGES = ["tools", "check", *SCENARIOS, *(f"removal of {name}" for name in SCENARIOS)]
CASES = """<testsuites><testsuite tests="3" failures="1" errors="1" skipped="0">
<testcase classname="mail.test_relay" name="test_good" time="2.04"/>
<testcase classname="mail.test_relay" name="test_bad" time="61.5">
<failure>E  it was 250</failure></testcase>
<testcase classname="mail.test_relay" name="test_worse"><error>E  no host</error></testcase>
</testsuite></testsuites>"""


def test_the_reports_of_all_stages_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "unit.xml").write_text(SUITE.format(10, 1, 0, 2))
    (tmp_path / "default-verify.xml").write_text(SUITE.format(5, 0, 1, 0))
    assert totals(tmp_path) == {"passed": 11, "failed": 2, "skipped": 2}


def test_no_report_is_no_test(tmp_path: Path) -> None:
    assert totals(tmp_path) == {"passed": 0, "failed": 0, "skipped": 0}


def test_what_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "default-verify.xml").write_text(CASES)
    assert failures(tmp_path) == [
        "FAILED default-verify: mail.test_relay::test_bad\n    E  it was 250",
        "FAILED default-verify: mail.test_relay::test_worse\n    E  no host",
    ]


def test_the_slowest_are_named_with_their_time(tmp_path: Path) -> None:
    (tmp_path / "default-verify.xml").write_text(CASES)
    assert slowest(tmp_path, 2) == [
        "  61.5 s default-verify: mail.test_relay::test_bad",
        "   2.0 s default-verify: mail.test_relay::test_good",
    ]


@pytest.mark.parametrize(
    ("broken", "stages"),
    [
        ("", STAGES),
        ("default", STAGES),
        ("removal of default", STAGES),
        ("check", STAGES),
        ("tools", ["tools"]),
    ],
)
def test_the_labs_are_removed_whatever_happens(
    broken: str, stages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def stage(name: str, command: list[str]) -> bool:
        done.append(name)
        assert "--keep" not in command
        return name != broken

    monkeypatch.setattr(run, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(run, "_stage", stage)
    assert run.main() == (1 if broken else 0)
    # Checks and scenarios run side by side, and nothing else does.
    first, last = (1, -len(SCENARIOS)) if len(stages) > 1 else (1, 1)
    assert [done[:first], sorted(done[first:last]), done[last:]] == [
        stages[:first], sorted(stages[first:last]), stages[last:],
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ["", "restore", "removal of restore"])
def test_the_drills_lab_is_removed_whatever_happens(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def stage(name: str, command: list[str]) -> bool:
        done.append(name)
        assert "restore" in command
        assert "--keep" not in command
        return name != broken

    monkeypatch.setattr(run, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(run, "_stage", stage)
    assert run.drill() == (1 if broken else 0)
    assert done == ["restore", "removal of restore"]


@pytest.mark.parametrize("end", [0, 3])
def test_what_a_stage_says_stands_behind_its_name(
    end: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", f"print('a letter came'); raise SystemExit({end})"]
    assert run._stage("pair", command) == (end == 0)
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "pair: a letter came"
    assert said[-1].startswith(f"=== pair: {'FAILED' if end else 'passed'} in ")


def test_every_scenario_is_run_in_its_own_lab() -> None:
    found = {}
    for file in (ROOT / "tests" / "molecule").glob("*/molecule.yml"):
        playbooks, verifier = re.findall(
            r"^ +ENV: (.+)\n +LAB_INSTANCE: (.+)$", file.read_text(), re.MULTILINE
        )
        assert playbooks == verifier, file
        found[file.parent.name] = playbooks
    assert found == SCENARIOS | DRILL
    assert len({*found.values()}) == len(found)


def test_every_test_is_in_a_scenario() -> None:
    tests = ROOT / "tests"
    found = {path: 0 for path in tests.glob("*/test_*.py") if path.parent.name != "unit"}
    for scenario in SCENARIOS | DRILL:
        text = (tests / "molecule" / scenario / "molecule.yml").read_text()
        (folder,) = re.findall(r"^  directory: \.\./\.\./(\w+)$", text, re.MULTILINE)
        for pattern in (
            f"{folder}/test_*.py",
            *re.findall(r"^    - \.\./(.+)$", text, re.MULTILINE),
        ):
            named = set(tests.glob(pattern))
            assert named, f"{scenario}: {pattern}: there is no such test"
            found.update({path: found[path] + 1 for path in named})
    assert [path.name for path, times in found.items() if not times] == []
