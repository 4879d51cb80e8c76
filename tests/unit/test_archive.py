"""The role `archive` without a host: the format, names of folders, what is found, settings."""

import argparse
import dataclasses
import os
import sys
import tarfile
from collections.abc import Callable
from datetime import date
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from deploy.archive import fits
from roles.archive import container, mailbox
from roles.archive.certificate import certificate
from roles.archive.container import ArchiveError, Extras, Letter
from roles.archive.deploy import identities, recipients
from roles.archive.mailbox import Imap, ImapError
from roles.archive.program import Config
from roles.archive.settings import ArchiveSettings
from roles.common.errors import SiteError
from roles.common.rendering import render
from roles.common.secrets import Secrets
from roles.common.site import Site, load
from roles.mailstore.values import values

CONTENT = (
    "From: =?utf-8?q?Nguy=E1=BB=85n?= <a@vidu.example>\r\nTo: b@vidu.example\r\nCc: c@d.vn\r\n"
    "Subject: =?utf-8?b?xJDhu4EgbmdoaQ==?=\r\nMessage-ID: <1@vidu.example>\r\n"
    "Date: Mon, 5 Jan 2026 08:30:00 +0700\r\n\r\nNội dung\r\n"
).encode()
RECEIVED = " 5-Jan-2026 08:30:00 +0700"
EXTRAS = Extras({"INBOX": True, "Trống": False}, {"a.sieve": b"keep;\r\n"}, "a.sieve")


def letters() -> list[tuple[Letter, bytes]]:
    return [
        (container.letter(number, folder, (r"\Seen",), RECEIVED, content), content)
        for number, (folder, content) in enumerate(
            [("INBOX", CONTENT), ("Đề án", b"\xff\x00 no header"), ("Đề án", b"")], start=1
        )
    ]


def written(*changed: tuple[Letter, bytes]) -> bytes:
    stream = BytesIO()
    container.write(stream, changed or letters(), EXTRAS)
    return stream.getvalue()


# -- the format ------------------------------------------------------------------------------------


def test_the_index_says_what_one_looks_for() -> None:
    found = letters()[0][0]
    assert found.sender == "Nguyễn <a@vidu.example>"
    assert found.recipients == "b@vidu.example, c@d.vn"
    assert found.subject == "Đề nghi"
    assert found.message_id == "<1@vidu.example>"
    assert found.size == len(CONTENT)
    assert Letter.read(found.line()) == found


@given(st.binary(max_size=200))
def test_any_bytes_have_a_line_in_the_index(content: bytes) -> None:
    found = container.letter(1, "INBOX", (), RECEIVED, content)
    assert Letter.read(found.line()) == found
    assert "\n" not in found.line()


def test_what_was_written_is_as_it_shall_be() -> None:
    expected = [found for found, _ in letters()]
    container.compare(BytesIO(written()), expected, EXTRAS)
    with tarfile.open(fileobj=BytesIO(written())) as tar:
        file = tar.extractfile("messages/00000001.eml")
        assert file
        assert file.read() == CONTENT


def _without_the_last() -> bytes:
    return written(*letters()[:-1])


def _with_another_byte() -> bytes:
    found = letters()
    return written((found[0][0], CONTENT.replace(b"dung", b"dunG")), *found[1:])


def _with_another_flag() -> bytes:
    found = letters()
    changed = dataclasses.replace(found[0][0], flags=())
    return written((changed, CONTENT), *found[1:])


def _cut_off() -> bytes:
    return written()[:2000]


@pytest.mark.parametrize(
    "make", [_without_the_last, _with_another_byte, _with_another_flag, _cut_off, bytes]
)
def test_whatever_differs_is_seen(make: Callable[[], bytes]) -> None:
    with pytest.raises(ArchiveError):
        container.compare(BytesIO(make()), [found for found, _ in letters()], EXTRAS)


def test_a_script_that_differs_is_seen() -> None:
    other = dataclasses.replace(EXTRAS, sieve={"a.sieve": b"discard;\r\n"})
    with pytest.raises(ArchiveError, match=r"sieve/a\.sieve"):
        container.compare(BytesIO(written()), [found for found, _ in letters()], other)


def test_a_program_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age = tmp_path / "age"
    age.write_text("#!/bin/sh\ncat >/dev/null\n")
    age.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        pytest.raises(ArchiveError, match="failed with 1"),
        container.encrypting(tmp_path / "x", ["age1"], ("false",)) as stream,
    ):
        stream.flush()


# -- IMAP ------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_names_of_folders_survive(name: str) -> None:
    raw = mailbox.quoted(name)[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    assert raw.isascii()
    assert mailbox.decoded(raw) == name


def test_a_name_is_as_the_standard_has_it() -> None:
    # The example of RFC 3501, 5.1.3.
    assert mailbox.decoded(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"
    assert mailbox.quoted('Đề "A&B"') == b'"&ARAewQ- \\"A&-B\\""'


@given(st.lists(st.integers(0, 20 << 20)))
def test_every_letter_is_in_one_batch(sizes: list[int]) -> None:
    found = list(mailbox.batches(list(enumerate(sizes))))
    assert [uid for batch in found for uid in batch] == list(range(len(sizes)))
    for batch in found:
        assert len(batch) == 1 or sum(sizes[uid] for uid in batch) <= 8 << 20


SERVER = r"""
import sys
say = lambda text: (sys.stdout.buffer.write(text), sys.stdout.buffer.flush())
say(b"* PREAUTH\r\n")
for line in sys.stdin.buffer:
    tag, words = line.split(b" ", 1)
    if words.startswith(b"NAMESPACE"):
        say(b'* NAMESPACE (("" "/")) (("Chung/" "/")) NIL\r\n')
    elif words.startswith(b"LIST"):
        say(b'* LIST (\\HasNoChildren) "/" INBOX\r\n* LIST (\\Noselect) "/" "A b"\r\n')
        say(b'* LIST () "/" {5}\r\na"b\\c\r\n* LIST () "/" "Chung/stttt"\r\n')
    elif words.startswith(b"LSUB"):
        say(b'* LSUB () "/" INBOX\r\n')
    elif words.startswith(b"EXAMINE \".EX") or words.startswith(b"NEVER"):
        say(tag + b" NO [NONEXISTENT] there is none\r\n")
        continue
    elif b"RFC822.SIZE" in words:
        say(b"* 1 FETCH (UID 7 RFC822.SIZE 12)\r\n* 2 FETCH (UID 9 RFC822.SIZE 0)\r\n")
    elif b"BODY" in words:
        say(b'* 1 FETCH (UID 7 FLAGS (\\Seen \\Recent) INTERNALDATE " 5-Jan-2026 08:30:00 +0700"')
        say(b" BODY[] {12}\r\na1 OK\r\n{3}\r\n)\r\n")
        if MISSING:
            say(b"* 3 EXISTS\r\n")
        else:
            say(b'* 2 FETCH (UID 9 FLAGS () INTERNALDATE "15-Jan-2026 08:30:00 +0700"')
            say(b' BODY[] "")\r\n')
    say(tag + b" OK done\r\n")
"""


def imap(missing: bool = False) -> Imap:
    return Imap("x", sys.executable, "-c", SERVER.replace("MISSING", str(missing)))


def test_what_a_server_says_is_understood() -> None:
    with imap() as session:
        assert session.folders() == {"INBOX": True, 'a"b\\c': False}
        assert list(session.letters("INBOX")) == [
            ((r"\Seen",), RECEIVED, b"a1 OK\r\n{3}\r\n"),
            ((), "15-Jan-2026 08:30:00 +0700", b""),
        ]
        with pytest.raises(ImapError, match="NONEXISTENT"):
            session.ask(b"NEVER")


def test_a_letter_that_the_server_leaves_out_is_an_error() -> None:
    with pytest.raises(ImapError, match="UID 9 cannot be read"), imap(missing=True) as session:
        list(session.letters("INBOX"))


# -- what is looked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, True),
        ({"subject": "de NGHI"}, True),
        ({"subject": "khac"}, False),
        ({"sender": "nguyen"}, True),
        ({"recipient": "c@d.vn"}, True),
        ({"since": date(2026, 1, 5), "until": date(2026, 1, 5)}, True),
        ({"since": date(2026, 1, 6)}, False),
        ({"until": date(2026, 1, 4)}, False),
        ({"message_id": "<1@vidu.example>"}, True),
        ({"message_id": "2@vidu.example"}, False),
    ],
)
def test_a_letter_is_found_by_what_one_knows(given_: dict[str, object], expected: bool) -> None:
    options = argparse.Namespace(
        **{
            "since": None, "until": None, "sender": "", "recipient": "", "subject": "",
            "message_id": "", **given_,
        }
    )  # fmt: skip
    assert fits(letters()[0][0], options, ZoneInfo("Asia/Ho_Chi_Minh")) == expected


@pytest.mark.regulation("8")
def test_a_certificate_says_what_was_destroyed_when_why_and_by_whom() -> None:
    text = certificate(
        {
            "display": "Nguyễn Văn An", "address": "anv@x.vn", "name": "people/1-20260101000000Z",
            "host": "store1", "since": "20250101000000Z", "made": "20260101000000Z",
            "letters": 7, "folders": 3, "bytes": 1234, "first": "2024-01-01", "last": "2025-01-01",
            "digest": "abc", "index_digest": "def", "at": "20360101170000Z", "rule": "hết hạn",
            "by": "quantri",
        }
    )  # fmt: skip
    for line in (
        "Hộp thư: Nguyễn Văn An <anv@x.vn>", "Số thư: 7", "Hủy lúc: 00:00:00 02/01/2036",
        "Thời gian của thư: từ 2024-01-01 đến 2025-01-01", "Căn cứ: hết hạn",
        "SHA-256 của bản lưu trữ: abc", "Người thực hiện: quantri",
    ):  # fmt: skip
        assert line in text.splitlines()
    # Not more than is true: the backups' own time is not over yet.
    assert "Bản sao lưu của hệ thống lập trước lúc hủy còn chứa bản lưu trữ này" in text


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "name"), [("local", "store1"), ("single", "mail1"), ("pair", "store2")]
)
def test_the_program_reads_what_the_role_writes(
    tmp_path: Path, environment: str, name: str
) -> None:
    site = load(environment)
    host = site.hosts[name]
    more = {
        "settings": ArchiveSettings(), "bind": "cn=archive", "password": "/x",
        "recipients": ["age1"],
    }  # fmt: skip
    names = {"site": site, "host": host, **values(site, host), **more}
    path = tmp_path / "archive.toml"
    path.write_text(render("archive/etc/site-archive/archive.toml.j2", names))
    config = Config.read(path)
    assert config.keep == 3650 * 86400
    assert config.recipients == ("age1",)
    assert len(config.directories) == len(site.group("directory"))
    assert "mailHost=" in config.own_store


def test_the_environments_own_key_opens_every_archive() -> None:
    secrets = Secrets()
    site = dataclasses.replace(load("local"), _secrets=secrets)
    other = str(pyrage.x25519.Identity.generate().to_public())
    own, more = recipients(site, ArchiveSettings(recipients=(other,)))
    assert more == other
    identity = pyrage.x25519.Identity.from_str(secrets.archive_identity.get_secret_value())
    sealed = pyrage.encrypt(b"x", [pyrage.x25519.Recipient.from_str(own)])
    assert pyrage.decrypt(sealed, [identity]) == b"x"


def test_a_former_key_still_opens_and_a_wrong_one_is_refused() -> None:
    new, former = (str(pyrage.x25519.Identity.generate()) for _ in range(2))

    def site(text: str) -> Site:
        secrets = Secrets(archive_identity=SecretStr(text))
        return dataclasses.replace(load("local"), _secrets=secrets)

    both = site(f"{new}\n{former}\n")
    assert [str(key) for key in identities(both)] == [new, former]
    own = str(pyrage.x25519.Identity.from_str(new).to_public())
    assert recipients(both, ArchiveSettings()) == [own]
    for wrong in ("", "AGE-SECRET-KEY-1X"):
        with pytest.raises(SiteError, match="archive_identity of the secrets is no age") as error:
            identities(site(wrong))
        assert not wrong or wrong not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipients", ["AGE-SECRET-KEY-1X"]),
        ("archive_keep", "1h"),
        ("folder", "archives"),
        ("level", 20),
        ("restore_folder", "a/b"),
    ],
)
def test_a_wrong_setting_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        ArchiveSettings.model_validate({key: value})
