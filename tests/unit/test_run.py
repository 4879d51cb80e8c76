"""What plan and apply show of pyinfra's output."""

import io
import sys
from pathlib import Path

import pytest

from deploy import run as job
from deploy.run import OPERATION, changes, command, condensed, main, summary

LINES = [
    "--> Starting serial operation: Base | Hosts\n",
    "    [mx1] No changes\n",
    "    [mx2] No changes\n",
    "--> Starting operation: Base | Firewall\n",
    "    [mx1] Success\n",
    "    [mx2] No changes\n",
]


def test_only_what_changes_is_shown_below_its_heading() -> None:
    assert list(condensed(LINES)) == [LINES[3], LINES[4]]


def test_a_diff_or_an_error_is_shown_whatever_its_words() -> None:
    lines = [
        "--> Loading config...\n",
        "    Loading: /srv/a folder/deploy/site.py\n",
        "    [mx1]    Ready: /srv/a folder/deploy/site.py\n",
        "    [mx1]    Ready: tests.lab.outside.outside\n",
        "    [mx1]    Connected\n",
        "    [mx1]    Connected (for server.reboot)\n",
        "    [front1] nested No changes on retry 1\n",
        "    [front1] Skipped\n",
    ]
    assert list(condensed(lines)) == []
    said = [
        "    [mx1]    +# No changes are made by hand.\n",
        "    [mx1]    -Skipped = yes\n",
        "    [mx1]     message = 'Connected'\n",
        "    [mx1]    clamd: Loading database failed\n",
        "    [mx1]    Ready: no\n",
        "Loading the inventory failed\n",
    ]
    assert list(condensed(said)) == said


def test_the_command_is_the_one_an_operator_may_type() -> None:
    words = command("plan", "site", "staging", ["mx", "front1"])
    assert words[1:7] == ["--dry", "--json", "--limit", "mx", "--limit", "front1"]
    assert words[-2].endswith("inventories/staging/inventory.py")
    assert words[-1].endswith("deploy/site.py")


def test_the_number_of_removals_reaches_the_deploy() -> None:
    words = command("apply", "accounts", "staging", [], 12)
    assert words[1:5] == ["-y", "--json", "--data", "removals=12"]
    assert "--data" not in command("apply", "accounts", "staging", [])


def test_accounts_alone_go_to_the_host_that_makes_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def noted(
        _action: str, _deploy: str, _env: str, limit: list[str], _removals: object
    ) -> list[str]:
        asked.append(limit)
        return ["false"]

    monkeypatch.setattr(job, "command", noted)
    job.run("plan", "accounts", "pair", [], io.StringIO())
    job.run("plan", "accounts", "pair", ["directory"], io.StringIO())
    assert asked == [["directory1"], ["directory"]]


def test_changes_of_a_plan_count_conditional_ones() -> None:
    outcome = {
        "plan": [
            {"name": "a", "hosts_with_change": ["mx1"], "hosts_with_conditional_change": []},
            {"name": "b", "hosts_with_change": [], "hosts_with_conditional_change": ["mx2"]},
            {"name": "c", "hosts_with_change": [], "hosts_with_conditional_change": []},
        ]
    }
    assert changes(outcome, "plan") == [("a", ["mx1"]), ("b", ["mx2"])]


def test_an_unchanged_run_says_so() -> None:
    assert summary("apply", []) == "nothing changed"
    assert summary("plan", []) == "nothing to change"


def test_an_unknown_limit_is_refused_before_any_connection(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "site", "--env", "local", "--limit", "mx9"]) == 1
    assert "--limit mx9: no such host or group in local" in capsys.readouterr().err


def test_without_secrets_nothing_is_connected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "site", "--env", "production"]) == 1
    assert "secrets.age: not found" in capsys.readouterr().err


def test_an_outcome_larger_than_a_pipe_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import json, sys\n"
        "rows = [{'name': 'x' * 1000, 'success': []}] * 1000\n"
        "json.dump({'results': {'operations': rows}}, sys.stdout)\n"
        "sys.stdout.close()\n"
        "sys.stderr.write('--> Results:\\n')\n"
    )
    (tmp_path / "pyinfra.py").write_text(script)
    monkeypatch.setattr(job, "command", lambda *_: [sys.executable, str(tmp_path / "pyinfra.py")])
    log = io.StringIO()
    assert job.run("apply", "site", "local", [], log) == job.EXIT_DONE
    assert "nothing changed" in log.getvalue()


def test_pyinfras_own_errors_are_no_headings() -> None:
    error = "--> pyinfra error in site.py line 7: site.toml: mta.x: Extra inputs\n"
    assert list(condensed(["--> Loading config...\n", error])) == ["--> Loading config...\n", error]


@pytest.mark.parametrize("serial", ["", "serial "])
def test_an_operation_is_known_by_its_heading(serial: str) -> None:
    """Also one that goes from host to host: who cuts deploys off counts them."""
    assert OPERATION.match(f"--> Starting {serial}operation: Directory | slapd\n")
