"""Distribution lists without a host: who may write, and what becomes of a letter."""

import io
import smtplib
import sys
from argparse import Namespace
from dataclasses import replace
from email import message_from_bytes, policy
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

import pytest


class DownError(Exception):
    """What the LDAP library raises."""


# Debian's python3-ldap is on the hosts only.
library = cast(Any, ModuleType("ldap"))
library.LDAPError = library.NO_SUCH_OBJECT = DownError
filters = cast(Any, ModuleType("ldap.filter"))
filters.escape_filter_chars = lambda text: text.replace("(", "\\28").replace("*", "\\2a")
with patch.dict(sys.modules, {"ldap": library, "ldap.filter": filters}):
    from roles.mta.files import lists
    from roles.mta.files.lists import Directory, MailList, NotDelivered, may_write

ALL = MailList(
    dn="cn=tatca,ou=lists,dc=vn",
    address="tatca@tinh.vn",
    name="Toàn thể cán bộ",
    scope="members",
    unit="",
    members=("employeeNumber=1,ou=people,dc=vn",),
    urls=(),
    posters=frozenset({"site"}),
    owner="",
)
LETTER = b"From: an@tinh.vn\nSubject: =?utf-8?q?H=E1=BB=8Dp?=\n\n.chao\n"


class Province(Directory):
    """A directory of two people, of whom one is in the list."""

    def __init__(self) -> None:
        self.lists = {ALL.address: ALL}

    def list_at(self, address: str, condition: str = "") -> MailList | None:  # noqa: ARG002
        """One list."""
        return self.lists.get(address)

    def account(self, address: str) -> tuple[str, lists.Values] | None:
        """Two people."""
        known = {"an": [b"an@tinh.vn", b"vanthu@tinh.vn"], "binh": [b"binh@tinh.vn"]}
        for name, addresses in known.items():
            if address.encode() in addresses:
                return f"cn={name}", {"mailLocalAddress": addresses}
        return None

    def addresses(self, mail_list: MailList, depth: int = 0) -> set[str]:  # noqa: ARG002
        """One member."""
        return {"an@tinh.vn"}

    def owner(self, mail_list: MailList, domain: str) -> str:  # noqa: ARG002
        """The postmaster."""
        return f"postmaster@{domain}"


@pytest.mark.parametrize(
    ("posters", "sender", "inside", "outside"),
    [
        ({"anyone"}, "dan@vidu.example", True, True),
        ({"anyone"}, "", False, False),
        ({"site"}, "an@tinh.vn", True, False),
        ({"site"}, "vanthu@tinh.vn", True, False),
        ({"site"}, "dan@vidu.example", False, False),
        ({"site"}, "", False, False),
        ({"members"}, "an@tinh.vn", True, False),
        ({"members"}, "vanthu@tinh.vn", True, False),
        ({"members"}, "binh@tinh.vn", False, False),
        ({"binh@tinh.vn"}, "binh@tinh.vn", True, False),
        ({"an@tinh.vn"}, "vanthu@tinh.vn", True, False),
        ({"an@tinh.vn"}, "binh@tinh.vn", False, False),
        ({"bao@vidu.example"}, "bao@vidu.example", True, True),
        ({"members", "binh@tinh.vn"}, "binh@tinh.vn", True, False),
    ],
)  # fmt: skip
def test_who_may_write(posters: set[str], sender: str, *, inside: bool, outside: bool) -> None:
    mail_list = replace(ALL, posters=frozenset(posters))
    assert may_write(Province(), mail_list, sender, outside=False) is inside
    assert may_write(Province(), mail_list, sender, outside=True) is outside


class Searched:
    """A connection that knows a unit below another, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def search_s(self, base: str, _scope: int, what: str) -> list[tuple[str, lists.Values]]:
        """Units, or one address for each of the other questions."""
        if base == "ou=units,dc=vn":
            parent = b"ou=a,ou=units,dc=vn"
            return [
                ("ou=a,ou=units,dc=vn", {}),
                ("ou=a.b,ou=units,dc=vn", {"unitParent": [parent]}),
            ]
        self.asked.append((base, what))
        return [("cn=x", {"mail": [f"{len(self.asked)}@tinh.vn".encode()]})]


@pytest.mark.parametrize(
    ("scope", "unit", "folder", "units"),
    [
        ("unit", "a", "people", "(|(departmentNumber=a))"),
        ("subtree", "a", "people", "(|(departmentNumber=a)(departmentNumber=a.b))"),
        ("mailboxes", "a", "mailboxes", "(|(departmentNumber=a)(departmentNumber=a.b))"),
        ("subtree", "*", "people", ""),
        ("mailboxes", "*", "mailboxes", ""),
    ],
)
def test_who_is_in_a_list_by_its_scope(scope: str, unit: str, folder: str, units: str) -> None:
    connection = Searched()
    mail_list = replace(ALL, scope=scope, unit=unit, members=())
    assert Directory(connection, "dc=vn", "site").addresses(mail_list) == {"1@tinh.vn"}
    what = f"(&(objectClass=mailboxAccount){lists.RECEIVES}{units})"
    assert connection.asked == [(f"ou={folder},dc=vn", what)]


def test_a_list_without_a_unit_has_its_members_only() -> None:
    for scope in ("members", "unit", "subtree", "mailboxes"):
        connection = Searched()
        found = Directory(connection, "dc=vn", "site").addresses(replace(ALL, scope=scope), depth=0)
        assert found == {"1@tinh.vn"}
        assert [base for base, _ in connection.asked] == list(ALL.members)


def test_a_list_that_does_not_count_is_in_no_list() -> None:
    connection = Searched()
    Directory(connection, "dc=vn", "site").addresses(ALL, depth=1)
    assert (ALL.members[0], "(&(objectClass=mailList)(!(inForce=FALSE)))") in connection.asked


def asked(monkeypatch: pytest.MonkeyPatch, directory: Any, *requests: str) -> list[str]:
    monkeypatch.setattr(lists, "connected", lambda _: directory())
    answers = io.StringIO()
    lists.policy(Namespace(), io.StringIO("".join(requests)), answers)
    return answers.getvalue().removesuffix("\n\n").split("\n\n")


def request(sender: str, recipient: str, port: int = 465) -> str:
    return f"request=x\nsender={sender}\nrecipient={recipient}\nserver_port={port}\n\n"


def test_postfix_is_answered_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(
        monkeypatch,
        Province,
        request("an@tinh.vn", "TATCA+x@tinh.vn"),
        request("AN+tin@tinh.vn", "tatca@tinh.vn"),
        request("an@tinh.vn", "an@tinh.vn"),
        request("an@tinh.vn", "tatca@tinh.vn", 25),
        request("", "tatca@tinh.vn"),
    )
    assert found[:3] == ["action=DUNNO"] * 3
    for refusal in found[3:]:
        assert refusal.startswith("action=550 5.7.1 Thu bi tu choi: ")
        assert "<tatca@tinh.vn>" in refusal
        assert refusal.isascii()


def test_without_the_directory_postfix_is_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise DownError

    (found,) = asked(monkeypatch, down, request("an@tinh.vn", "tatca@tinh.vn"))
    assert found.startswith("action=451 4.3.0 ")


class Postfix:
    """What takes the letter, and refuses one address."""

    def __init__(self, refused: str = "", code: int = 550) -> None:
        self.refused, self.code = refused, code
        self.said: list[str] = []
        self.content = b""

    def __call__(self, *_: object, **__: object) -> "Postfix":
        """Connect."""
        return self

    def __enter__(self) -> "Postfix":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ehlo(self, _: str) -> None:
        """Anybody may greet."""

    def docmd(self, command: str) -> tuple[int, bytes]:
        """Remember what was said."""
        self.said.append(command)
        if self.refused and self.refused in command:
            return self.code, b"khong"
        return 250, b"ok"

    def data(self, content: bytes) -> tuple[int, bytes]:
        """Remember the letter."""
        self.content = content
        return 250, b"ok"


def delivered(
    monkeypatch: pytest.MonkeyPatch, postfix: Postfix, content: bytes = LETTER, to: str = ""
) -> None:
    monkeypatch.setattr(lists, "connected", lambda _: Province())
    monkeypatch.setattr(smtplib, "SMTP", postfix)
    options = Namespace(
        sender="an@tinh.vn", recipient=to or ALL.address, domain="tinh.vn", port=10027
    )
    lists.deliver(options, content)


def test_the_letter_goes_on_as_it_is_below_the_lists_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postfix = Postfix()
    delivered(monkeypatch, postfix)
    assert postfix.said == ["MAIL FROM:<postmaster@tinh.vn> BODY=8BITMIME", "RCPT TO:<an@tinh.vn>"]
    assert postfix.content.endswith(b"\r\n" + LETTER.replace(b"\n", b"\r\n"))
    letter = message_from_bytes(postfix.content, policy=policy.default)
    assert letter["List-Id"] == "Toàn thể cán bộ <tatca.tinh.vn>"
    assert letter["Precedence"] == "list"
    assert letter["From"] == "an@tinh.vn"


@pytest.mark.parametrize(("code", "exit_code"), [(451, 75), (550, 69)])
def test_it_is_for_all_or_for_nobody(
    monkeypatch: pytest.MonkeyPatch, code: int, exit_code: int
) -> None:
    postfix = Postfix("an@", code)
    with pytest.raises(NotDelivered, match="khong") as fault:
        delivered(monkeypatch, postfix)
    assert fault.value.code == exit_code
    assert postfix.content == b""


def test_a_letter_goes_round_once(monkeypatch: pytest.MonkeyPatch) -> None:
    postfix = Postfix()
    delivered(monkeypatch, postfix)
    again = b"Received: x\n" + postfix.content.replace(b"\r\n", b"\n")
    with pytest.raises(NotDelivered, match=r"5\.4\.6") as fault:
        delivered(monkeypatch, Postfix(), again)
    assert fault.value.code == 69
    # Another list's letter may come here.
    delivered(monkeypatch, Postfix(), again.replace(b"<tatca.tinh.vn>", b"<khac.tinh.vn>"))


def test_a_list_that_is_gone_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotDelivered, match=r"5\.1\.1") as fault:
        delivered(monkeypatch, Postfix(), to="khac@tinh.vn")
    assert fault.value.code == 67


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("ldap:///ou=people,dc=vn?mail?one?(title=a)", ("ou=people,dc=vn", 1, "(title=a)")),
        ("ldap:///dc=vn??sub?(title=a%3Fb)", ("dc=vn", 2, "(title=a?b)")),
        ("ldap:///cn=a,dc=vn", ("cn=a,dc=vn", 0, "(objectClass=*)")),
    ],
)
def test_urls_are_read(url: str, parts: tuple[str, int, str]) -> None:
    assert lists.url_parts(url) == parts
