"""A restic that tries again and again: what is said of it, and when it is ended."""

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from roles.backup import client as program
from roles.backup.client import Client, PartError
from roles.backup.refusals import TRIES, tries_again, watched
from roles.backup.repositories import KeeperError, opened
from tests.unit.test_backup import config

BEGUN = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
LOCK, PACK = "Save(<lock/0a1b2c3d4e>)", "Save(<data/4e5f6a7b8c>)"
FULL = "unexpected HTTP response (500): 500 Internal Server Error"
AWAY = 'Post "https://b:8000/store1/locks/0a": dial tcp 10.0.0.1:8000: connect: connection refused'
OPENING = "Stat(<config/>)"
CLOSED = 'Stat: Get "https://s3.vidu.vn/x/?location=": tls: failed to verify certificate'
FOREVER = "exec tail -f /dev/null"
"""How a restic goes on that nobody ends."""
SUMMARY = (
    '{"snapshot_id": "0123456789", "total_files_processed": 1, "total_bytes_processed": 2,'
    ' "data_added": 1}'
)
Restic = Callable[..., None]


def again(what: str, why: str) -> str:
    """A line of restic, which tries again."""
    return f"{what} returned error, retrying after 1.234567891s: {why}"


@pytest.fixture
def restic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Restic:
    """Make the restic on PATH: what it says on standard error, and what it does then."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def make(lines: Sequence[str], then: str, unlocked: str = "") -> None:
        """Args: what is said, what is done then, what is done instead with --no-lock."""
        said = "".join(f"{line}\n" for line in lines)
        path = tmp_path / "bin" / "restic"
        path.write_text(
            f'#!/bin/sh\nfor word; do if test "$word" = --no-lock; then {unlocked or ":"}; fi;'
            f" done\ncat >&2 <<'.'\n{said}.\n{then}\n"
        )
        path.chmod(0o755)

    return make


def test_what_is_refused_again_and_again_is_given_up(restic: Restic) -> None:
    restic([again(LOCK, FULL)] * TRIES, FOREVER)
    heard: list[str] = []
    done = watched(["restic"], os.environ, heard.append)
    assert heard == [again(LOCK, FULL)] * TRIES
    assert all(map(tries_again, heard))
    assert (done.refused, done.unlocked) == (f"{LOCK}: {FULL}", True)
    assert done.code


@pytest.mark.parametrize(
    "lines",
    [
        # Once each: an upload is several at a time.
        [again(f"Save(<data/{number:010}>)", FULL) for number in range(2 * TRIES)],
        [again(PACK, FULL)] * (TRIES - 1),
        # It may come back.
        [again(LOCK, AWAY)] * 2 * TRIES,
        # What cannot be read is another matter.
        [again("Load(<config/0000000000>, 0, 0)", FULL)] * 2 * TRIES,
        ["warning: something else"] * 2 * TRIES,
    ],
)
def test_everything_else_is_restics_own_to_give_up(restic: Restic, lines: list[str]) -> None:
    restic(lines, "echo printed; exit 3")
    with TemporaryFile("w+") as output:
        done = watched(["restic"], os.environ, lambda _: None, output)
        output.seek(0)
        assert output.read() == "printed\n"
    assert (done.code, done.refused) == (3, "")
    assert done.words == "\n".join(lines)[-2000:].strip()


def test_a_further_target_that_does_not_open_is_not_waited_for(
    restic: Restic, caplog: pytest.LogCaptureFixture
) -> None:
    restic([again(OPENING, CLOSED)] * TRIES, FOREVER)
    with pytest.raises(KeeperError, match=f"{re.escape(CLOSED)} "):
        opened(["restic", "cat", "config"])
    assert program.passed_on(["restic", "restore"], os.environ, "third") != 0
    assert f"third does not take it ({OPENING}: {CLOSED})" in caplog.text
    # The backup host may be about to start.
    restic([again(OPENING, AWAY)] * 2 * TRIES, "exit 3")
    assert program.passed_on(["restic", "restore"], os.environ) == 3
    restic([], "exit 0")
    assert opened(["restic", "cat", "config"]) == ""
    restic(["Fatal: wrong password"], "exit 12")
    with pytest.raises(KeeperError, match="Fatal: wrong password"):
        opened(["restic", "cat", "config"])


def test_a_backup_that_is_not_taken_fails_with_where_to_look(
    restic: Restic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    restic([again(PACK, FULL)] * TRIES, FOREVER)
    client = Client(config(tmp_path, "keys"))
    with pytest.raises(PartError, match=r"does not take it \(Save.*500.*site-backup-keeper status"):
        client.snapshot("keys", BEGUN, tmp_path)
    assert f"keys: restic: {PACK} returned error" in caplog.text


def test_a_backup_whose_server_comes_back_says_that_it_tried_again(
    restic: Restic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    restic([again(LOCK, AWAY)] * 2 * TRIES, f"echo '{SUMMARY}'")
    caplog.set_level("INFO")
    Client(config(tmp_path, "keys")).snapshot("keys", BEGUN, tmp_path)
    assert "connection refused" in caplog.text
    assert "keys: snapshot 01234567, 1 files" in caplog.text


def test_where_no_lock_is_taken_it_is_read_without_one(
    restic: Restic, capfd: pytest.CaptureFixture[str]
) -> None:
    restic([again(LOCK, FULL)] * TRIES, FOREVER, unlocked="echo read; exit 0")
    assert program.passed_on(["restic", "snapshots", "--json"], os.environ) == 0
    assert capfd.readouterr().out == "read\n"
    # Whoever wants to write is not helped by it.
    restic([again(PACK, FULL)] * TRIES, FOREVER)
    assert program.passed_on(["restic", "backup", "x"], os.environ) != 0
