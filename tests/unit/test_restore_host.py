"""Files of a host that is made anew: each in its place, and nothing that is there is replaced."""

import fcntl
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from roles.backup import restoring_jobs
from roles.backup.restoring_host import STAGED, Files, Request
from roles.backup.snapshots import Backup, RestoreError, Snapshot
from roles.backup.stages import MAIL

AT = datetime(2026, 11, 20, tzinfo=UTC)


class Repository(Backup):
    """A repository whose snapshots are folders of the test."""

    def __init__(self, content: dict[str, dict[str, str]]) -> None:
        self.content = content

    def latest(self, part: str, at: datetime) -> Snapshot:  # noqa: D102
        if part not in self.content:
            raise RestoreError(f"no backup of {part}")
        return Snapshot("a", part, at, at)

    def folders(self, snapshot: Snapshot, folder: Path) -> list[str]:  # noqa: D102
        paths = [Path(name) for name in self.content[snapshot.part]]
        kind = folder.name
        return sorted({path.parts[1] for path in paths if path.parts[0] == kind})

    def restore(  # noqa: D102
        self, snapshot: Snapshot, source: Path, target: Path, *options: str
    ) -> None:
        assert source in (STAGED, MAIL / ".backup")
        wanted = [options[n + 1].lstrip("/") for n, o in enumerate(options) if o == "--include"]
        left_out = [options[n + 1].lstrip("/") for n, o in enumerate(options) if o == "--exclude"]
        for name, text in self.content[snapshot.part].items():
            if any(name.startswith(prefix) for prefix in left_out):
                continue
            if not wanted or any(name.startswith(f"{prefix}/") for prefix in wanted):
                (target / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                (target / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host of its own, with a folder that everybody may enter."""
    for name in ("etc/site-tls", "etc/ssh", "var", "scratch"):
        (tmp_path / name).mkdir(mode=0o755, parents=True)
    (tmp_path / "etc/ssh/ssh_host_ed25519_key").write_text("new")
    return tmp_path


def restored(root: Path, content: dict[str, dict[str, str]], *parts: str) -> dict[str, object]:
    files = Files(Repository(content), root / "scratch", root, lambda _: "")
    return files.apply(Request(AT, parts, "/var/lib/site-archive"))


def test_keys_come_into_their_places_and_folders_stay_as_they_are(root: Path) -> None:
    content = {"keys": {"MANIFEST": "", "etc/site-tls/key.pem": "old", "etc/x/y": "z",
                        "etc/ssh/ssh_host_ed25519_key": "old"}}  # fmt: skip
    restored(root, content, "keys")
    assert (root / "etc/site-tls/key.pem").read_text() == "old"
    assert (root / "etc/x/y").read_text() == "z"
    # The operator has seen the new machine's own key.
    assert (root / "etc/ssh/ssh_host_ed25519_key").read_text() == "new"
    assert not (root / "MANIFEST").exists()
    # Everybody's folders: a stage that root alone reads does not close them.
    assert oct((root / "etc").stat().st_mode)[-3:] == "755"
    assert list((root / "scratch").iterdir()) == []
    assert not list(root.rglob("*.new"))


def test_whole_homes_where_there_is_none_and_nothing_else(root: Path) -> None:
    own = root / "var/vmail/people/1001"
    own.mkdir(parents=True)
    (own / "u.1").write_text("of today")
    content = {
        "mail": {"people/1001/u.1": "then", "people/1002/u.1": "b", "mailboxes/ttt/u.1": "c"}
    }
    answer = restored(root, content, "mail")
    assert answer["mail"] == {
        "snapshot": "a", "taken": AT.isoformat(), "settled": AT.isoformat(),
        "whole": ["mailboxes/ttt", "people/1002"], "merged": ["people/1001"],
    }  # fmt: skip
    assert (own / "u.1").read_text() == "of today"
    assert (root / "var/vmail/people/1002/u.1").read_text() == "b"
    assert (root / "var/vmail/mailboxes/ttt/u.1").read_text() == "c"
    again = restored(root, content, "mail")
    assert again["mail"]["whole"] == []  # type: ignore[index]


def test_a_part_that_was_never_backed_up_is_said_and_skipped(root: Path) -> None:
    assert restored(root, {}, "keys", "mail") == {
        "keys": {"none": "no backup of keys"}, "mail": {"none": "no backup of mail"},
    }  # fmt: skip
    assert not (root / "var/vmail").exists()


def test_an_unknown_part_is_refused() -> None:
    values = {"at": AT.isoformat(), "parts": ["directory"], "archive": "/x", "source": ""}
    with pytest.raises(RestoreError, match="expected of"):
        Request.read(values)


def test_two_restores_never_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What an operator cut off may go on at the host when he runs it again."""
    monkeypatch.setattr(restoring_jobs, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(restoring_jobs, "do", lambda *_: {})
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert restoring_jobs.main(["host", "apply"]) == 1
        assert "another restore runs on this host" in caplog.text
        # A plan changes nothing.
        monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
        assert restoring_jobs.main(["host", "plan"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    assert restoring_jobs.main(["host", "apply"]) == 0
