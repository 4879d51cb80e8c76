"""A host without new backups tells it once, and its end; no host, no mx."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from roles.backup.absence import Absence
from roles.backup.letters import Letters, NotTakenError

NOW = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LETTERS = Letters(
    sender="postmaster@x.vn", recipient="p@x.vn", relays=("mx",), timezone="Asia/Ho_Chi_Minh",
    authority="", certificate="", key="",
)  # fmt: skip


class Host:
    """One of two parts, that may be without a backup for eight hours."""

    def __init__(self, folder: Path) -> None:
        self.absence = Absence(folder, "store1", ("mail", "keys"), 8 * 3600)
        self.letters: list[EmailMessage] = []

    def alarm(self, now: datetime) -> set[str]:
        """What its timer finds."""
        return {*self.absence.tell(LETTERS, self.letters.append, now)}

    @property
    def subjects(self) -> list[str]:
        """Of the letters that it wrote."""
        return [str(letter["Subject"]) for letter in self.letters]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_it_is_told_once_and_its_end_once(host: Host) -> None:
    host.absence.succeeded("mail", NOW)
    host.absence.succeeded("keys", NOW)
    assert host.alarm(NOW + 8 * HOUR) == set()
    for hours in (9, 10, 20):
        assert host.alarm(NOW + hours * HOUR) == {"mail", "keys"}
    assert host.subjects == ["Sao lưu store1: 2 cảnh báo"]
    said = host.letters[0].get_content()
    assert "store1/mail: không có bản sao lưu mới kể từ 09:00 26/11/2026" in said
    # One of them is back: nothing that must be told yet.
    host.absence.succeeded("keys", NOW + 20 * HOUR)
    assert host.alarm(NOW + 20 * HOUR) == {"mail"}
    host.absence.succeeded("mail", NOW + 21 * HOUR)
    for hours in (21, 22):
        assert host.alarm(NOW + hours * HOUR) == set()
    assert host.subjects[1:] == ["Sao lưu store1: đã bình thường"]
    host.alarm(NOW + 30 * HOUR)
    assert len(host.letters) == 3


def test_a_host_that_never_had_a_backup_counts_from_its_first_question(host: Host) -> None:
    assert host.alarm(NOW) == set()
    assert host.alarm(NOW + 7 * HOUR) == set()
    assert host.alarm(NOW + 9 * HOUR) == {"mail", "keys"}


def test_a_letter_that_no_mx_takes_is_written_again(host: Host) -> None:
    def refuse(_: EmailMessage) -> None:
        raise NotTakenError("nobody took it")

    host.alarm(NOW)
    with pytest.raises(NotTakenError):
        host.absence.tell(LETTERS, refuse, NOW + 9 * HOUR)
    host.alarm(NOW + 9 * HOUR)
    assert len(host.letters) == 1


def test_a_part_that_the_host_has_no_more_is_not_missed(host: Host, tmp_path: Path) -> None:
    host.absence.succeeded("archive", NOW - 99 * HOUR)
    host.absence.succeeded("mail", NOW)
    host.absence.succeeded("keys", NOW)
    assert host.alarm(NOW) == set()
    assert not list(tmp_path.glob("*.new"))


def test_the_reason_of_a_letter_that_is_not_taken_is_told() -> None:
    letters = replace(LETTERS, certificate="/nowhere/cert.pem", authority="/nowhere/ca.pem")
    with pytest.raises(NotTakenError, match=r"/nowhere/cert\.pem: .*No such file"):
        letters.post(letters.alarm("Sao lưu", [], "", NOW))
