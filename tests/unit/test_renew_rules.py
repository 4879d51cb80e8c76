"""What `renew-rules` does, with programs of the test's own instead of SpamAssassin's."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from roles.common.site import ROOT

SCRIPT = ROOT / "roles" / "filtering" / "files" / "renew-rules"
STAMP = "/var/lib/spamassassin/site-rules.sha512"

RUNUSER = r"""
# The user's folders are at another place for everybody else: who is root finds nothing there.
test "$1 $2 $3" = "-u debian-spamd --" || exit 99
shift 3
for word; do
    shift
    case $word in
        /users/*) word=$FOLDERS$word ;;
        /var/lib/spamassassin/site-rules.*) word=$FOLDERS/users/${word##*/} ;;
    esac
    set -- "$@" "$word"
done
exec "$@"
"""
PROGRAMS = {
    "runuser": RUNUSER,
    "mktemp": 'mkdir -p "$FOLDERS/users/tmp" && echo /users/tmp',
    "curl": 'while test "$1" != -o; do shift; done; cp "$(eval echo \\$$#)" "$2"',
    "sa-update": 'echo "sa-update" >>"$DONE"; exit "$UPDATE"',
    "sa-compile": 'echo "sa-compile" >>"$DONE"; exit "$COMPILE"',
    "systemctl": 'echo "systemctl $*" >>"$DONE"',
}
ALL = ["sa-update", "sa-compile", "systemctl reload mimedefang.service"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the programs that the script calls, and an archive of rules."""
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\nset -eu\n{text}\n")
        program.chmod(0o755)
    archive = tmp_path / "rules"
    archive.write_bytes(b"rules")
    digest = hashlib.sha512(b"rules").hexdigest()
    archive.with_name("rules.sha512").write_text(f"{digest}  whatever.tgz\n")
    return tmp_path


def renew(programs: Path, source: str, update: int = 0, compile_: int = 0) -> tuple[int, list[str]]:
    """Run the script; return its status and what it had done."""
    done = programs / "done"
    done.write_text("")
    (programs / "users").mkdir(exist_ok=True)
    result = subprocess.run(
        ["/bin/sh", str(SCRIPT), source],
        env={
            "PATH": f"{programs / 'bin'}:{os.environ['PATH']}",
            "FOLDERS": str(programs),
            "DONE": str(done),
            "UPDATE": str(update),
            "COMPILE": str(compile_),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, done.read_text().splitlines()


@pytest.mark.parametrize("source", ["archive", "channel"])
def test_new_rules_are_compiled_and_loaded(programs: Path, source: str) -> None:
    source = str(programs / "rules") if source == "archive" else source
    result, done = renew(programs, source)
    assert result == 0
    assert [line for line in done if line in ALL][-3:] == ALL


@pytest.mark.parametrize("source", ["archive", "channel"])
def test_rules_that_do_not_compile_are_loaded_and_reported(programs: Path, source: str) -> None:
    source = str(programs / "rules") if source == "archive" else source
    result, done = renew(programs, source, compile_=1)
    assert result != 0
    assert done[-1] == "systemctl reload mimedefang.service"


def test_the_same_archive_is_not_loaded_twice(programs: Path) -> None:
    source = str(programs / "rules")
    assert renew(programs, source) == (0, ALL)
    assert renew(programs, source) == (0, [])


def test_an_archive_that_did_not_compile_is_tried_again(programs: Path) -> None:
    source = str(programs / "rules")
    assert renew(programs, source, compile_=1)[0] != 0
    assert renew(programs, source) == (0, ALL)


@pytest.mark.parametrize("source", ["archive", "channel"])
def test_rules_that_are_refused_change_nothing(programs: Path, source: str) -> None:
    source = str(programs / "rules") if source == "archive" else source
    result, done = renew(programs, source, update=4)
    assert result != 0
    assert set(done) == {"sa-update"}


def test_root_writes_and_reads_nothing_in_the_users_folders(programs: Path) -> None:
    """A link that the user lays there would lead root elsewhere; as the user it leads nowhere."""
    assert not Path("/users").exists()
    assert renew(programs, str(programs / "rules"))[0] == 0
    assert not Path(STAMP).exists()
    assert (programs / "users" / "site-rules.sha512").exists()
    assert not (programs / "users" / "tmp").exists()
