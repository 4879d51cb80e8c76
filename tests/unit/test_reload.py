"""What each role does once the host's certificate was renewed."""

import os
import subprocess
from pathlib import Path

import pytest

from roles.common.site import ROOT

SYSTEMCTL = """#!/bin/sh
# As systemd answers where no unit is active.
echo "$*" >>"$DONE"
case "$*" in
    *is-active*) exit 3 ;;
    try-*) exit 0 ;;
    reload*) echo "Unit is not active, cannot reload." >&2; exit 1 ;;
esac
"""
SCRIPTS = [
    *sorted((ROOT / "roles").glob("*/files/reload")),
    *sorted((ROOT / "templates").glob("*/etc/site-tls/reload.d/*")),
]


def test_every_role_that_has_one_is_here() -> None:
    assert {script.relative_to(ROOT).parts[1] for script in SCRIPTS} == {
        "addressbook", "backup", "database", "directory", "mailstore", "mta", "webmail",
    }  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(ROOT).parts[1])
def test_what_does_not_run_is_no_failure_and_is_not_started(script: Path, tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    done = tmp_path / "done"
    result = subprocess.run(
        ["/bin/sh", str(script)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "DONE": str(done)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = done.read_text().splitlines()
    assert said
    assert not [line for line in said if line.startswith(("restart", "start", "reload"))]
