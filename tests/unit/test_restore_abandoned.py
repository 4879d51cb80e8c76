"""What restores left that failed goes in the end, and nothing else."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from roles.backup import abandoned


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """Mail, the scratch of other restores, the lock, and how a second site is reached."""
    mail, scratch = tmp_path / "vmail", tmp_path / "restore"
    for path in (
        mail / ".restoring/people/1", mail / ".restore/people-1-ab/people", mail / "people/1",
        scratch / "keys-ab/etc",
    ):  # fmt: skip
        path.mkdir(parents=True)
    (scratch / "data.ldif").touch()
    (tmp_path / "targets.json").touch()
    return mail, scratch, tmp_path / "lock", tmp_path / "targets.json"


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A week goes by."""
    at = time.time() + abandoned.AGE + 60
    monkeypatch.setattr("time.time", lambda: at)


def test_it_is_there_for_a_week_and_then_no_more(
    places: tuple[Path, Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mail, scratch, lock, target = places
    # What came back is as old as it was.
    os.utime(mail / ".restore/people-1-ab", (0, 0))
    assert abandoned.forget(*places) == []
    later(monkeypatch)
    assert abandoned.forget(*places) == [
        f"{mail}/.restoring", f"{mail}/.restore/people-1-ab",
        f"{scratch}/data.ldif", f"{scratch}/keys-ab",
        str(target),
    ]  # fmt: skip
    assert {path.name for path in mail.iterdir()} == {".restore", "people"}
    assert (mail / "people/1").is_dir()
    assert list(scratch.iterdir()) == []
    # A host without mail has no such folder.
    assert abandoned.forget(mail / "none", scratch, lock, target) == []


def test_nothing_goes_while_letters_come_back(
    places: tuple[Path, Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    with places[2].open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert abandoned.forget(*places) == []


def test_the_owner_of_mail_cannot_make_root_remove_what_is_elsewhere(
    places: tuple[Path, Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = places[0]
    (tmp_path / "elsewhere/etc").mkdir(parents=True)
    later(monkeypatch)
    (mail / ".restore/link").symlink_to(tmp_path / "elsewhere")
    abandoned.forget(*places)
    assert not (mail / ".restore/link").is_symlink()
    (mail / ".restore").rmdir()
    (mail / ".restore").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="restore"):
        abandoned.forget(*places)
    assert (tmp_path / "elsewhere/etc").is_dir()
