"""The address book without a host: its entries, the least changes, and who is let in."""

import io
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

# Debian's python3-ldap is on the hosts only.
sys.modules.setdefault("ldap", cast(Any, ModuleType("ldap")))

from roles.addressbook.configuration import Configuration, read  # noqa: E402
from roles.addressbook.directory import SilentError, Source  # noqa: E402
from roles.addressbook.entries import Book, changes, plain, wanted  # noqa: E402
from roles.addressbook.login import Login, Question, question  # noqa: E402
from roles.addressbook.settings import AddressBookSettings  # noqa: E402
from roles.common.errors import SiteError  # noqa: E402
from roles.common.rendering import render  # noqa: E402
from roles.common.site import load, parse, read_document  # noqa: E402
from roles.directory.ldif import Attributes  # noqa: E402
from roles.publicdirectory.content import Public  # noqa: E402

BASE = "dc=tinh,dc=vn"
EVERYTHING = Public(
    frozenset({"phone", "location", "address", "head"}),
    frozenset({"title", "phone", "address"}),
    True,
)
BOOK = Book(BASE, "Tỉnh Thử", EVERYTHING)


def unit(code: str, name: str, parent: str = "", **more: str) -> tuple[str, Attributes]:
    values = {"objectClass": ["organizationalUnit", "unitProfile"], "ou": [code]}
    above = {"unitParent": [f"ou={parent},ou=units,{BASE}"]} if parent else {}
    given = {key: [value] for key, value in more.items()}
    return f"ou={code},ou=units,{BASE}", {**values, "displayName": [name], **above, **given}


def mailbox(code: str) -> tuple[str, Attributes]:
    values = {"objectClass": ["unitMailbox"], "cn": [code], "mail": [f"{code}@tinh.vn"]}
    return f"cn={code},ou=mailboxes,{BASE}", values


def person(number: int, name: str, of: str, **more: str) -> tuple[str, Attributes]:
    values = {
        "objectClass": ["inetOrgPerson", "mailboxAccount"],
        "cn": [name],
        "mail": [f"p{number}@tinh.vn"],
        "departmentNumber": [of],
        "title": ["Chuyên viên"],
        "telephoneNumber": [f"+84 {number}"],
    }
    given = {key: [value] for key, value in more.items()}
    return f"employeeNumber={number},ou=people,{BASE}", {**values, **given}


HEAD = f"employeeNumber=2,ou=people,{BASE}"
DIRECTORY = [
    unit("so", "Sở Đất đai", owner=HEAD, telephoneNumber="+84 1", postalAddress="1 Lê Lợi$Mỹ Tho"),
    unit("so.phong", "Phòng Đo đạc", "so", owner=HEAD),
    mailbox("so"),
    person(1, "Nguyễn Văn Đức", "so.phong"),
    person(2, "Trần Thị Bình", "so"),
]
SO = f"ou=so,{BASE}"
PHONG = f"ou=so.phong,{SO}"


# -- entries --------------------------------------------------------------------------------------


def test_units_are_a_tree_and_people_stand_below_theirs() -> None:
    assert list(wanted(DIRECTORY, BOOK)) == [
        BASE,
        SO,
        # The head of two units is one person, in the unit that is hers.
        f"mail=p2@tinh.vn,{SO}",
        PHONG,
        f"mail=p1@tinh.vn,{PHONG}",
    ]


def test_a_name_is_found_with_and_without_its_diacritics_and_shown_with_them() -> None:
    entries = wanted(DIRECTORY, BOOK)
    assert entries[f"mail=p1@tinh.vn,{PHONG}"] == {
        "objectClass": ["inetOrgPerson"],
        "cn": ["Nguyễn Văn Đức", "Nguyen Van Duc"],
        "sn": ["Nguyễn", "Nguyen"],
        "givenName": ["Đức", "Duc"],
        "displayName": ["Nguyễn Văn Đức"],
        "mail": ["p1@tinh.vn"],
        "title": ["Chuyên viên"],
        "telephoneNumber": ["+84 1"],
        "ou": ["Phòng Đo đạc", "Phong Do dac"],
        "departmentNumber": ["so.phong"],
    }
    assert entries[SO] == {
        "objectClass": ["organizationalUnit", "extensibleObject"],
        "ou": ["so", "Sở Đất đai", "So Dat dai"],
        "cn": ["Sở Đất đai", "So Dat dai"],
        "displayName": ["Sở Đất đai"],
        "mail": ["so@tinh.vn"],
        "telephoneNumber": ["+84 1"],
        "postalAddress": ["1 Lê Lợi, Mỹ Tho"],
        "description": ["Người đứng đầu: Trần Thị Bình"],
    }


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_diacritics_go_and_capitals_stay(form: Literal["NFC", "NFD"]) -> None:
    assert plain(unicodedata.normalize(form, "Nguyễn Văn Đức")) == "Nguyen Van Duc"


def test_who_is_hidden_is_not_there_and_a_hidden_address_is() -> None:
    found = [
        *DIRECTORY[:3],
        person(1, "Lê An", "so", directoryHidden="*"),
        person(2, "Lê Ba", "so", directoryHidden="mail"),
        person(3, "Lê Ca", "so", directoryHidden="telephoneNumber"),
    ]
    entries = wanted(found, BOOK)
    assert f"mail=p1@tinh.vn,{SO}" not in entries
    # Colleagues write to it.
    assert entries[f"mail=p2@tinh.vn,{SO}"]["mail"] == ["p2@tinh.vn"]
    assert "telephoneNumber" not in entries[f"mail=p3@tinh.vn,{SO}"]


def test_what_the_settings_leave_out_is_not_there() -> None:
    book = replace(BOOK, public=replace(EVERYTHING, person_attributes=frozenset({"address"})))
    entry = wanted(DIRECTORY, book)[f"mail=p2@tinh.vn,{SO}"]
    assert not {"title", "telephoneNumber"} & set(entry)


def test_the_second_time_there_is_nothing_to_change() -> None:
    want = wanted(DIRECTORY, BOOK)
    assert list(changes(want, {dn.upper(): entry for dn, entry in want.items()})) == []


def test_a_move_takes_the_entry_away_before_it_is_added() -> None:
    before = wanted(DIRECTORY, BOOK)
    moved = [*DIRECTORY[:3], person(1, "Nguyễn Văn Đức", "so"), DIRECTORY[4]]
    steps = [(step.kind, step.dn) for step in changes(wanted(moved, BOOK), before)]
    assert steps == [("delete", f"mail=p1@tinh.vn,{PHONG}"), ("add", f"mail=p1@tinh.vn,{SO}")]


def test_only_what_differs_is_changed_also_the_order_of_values() -> None:
    want = wanted(DIRECTORY, BOOK)
    dn = f"mail=p1@tinh.vn,{PHONG}"
    other = {**want[dn], "cn": want[dn]["cn"][::-1], "title": ["Văn thư"], "l": ["Mỹ Tho"]}
    (step,) = changes(want, {**want, dn: other})
    assert (step.kind, step.dn) == ("modify", dn)
    assert step.attributes == {"cn": want[dn]["cn"], "title": ["Chuyên viên"], "l": []}


@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_after_the_changes_the_copy_says_the_same(before: set[int], after: set[int]) -> None:
    """Whatever units there were and are: no child without its parent at any moment."""

    def province(numbers: set[int]) -> list[tuple[str, Attributes]]:
        chain = sorted(numbers)
        parents = [None, *chain[:-1]]
        return [
            entry
            for number, parent in zip(chain, parents, strict=False)
            for entry in (
                unit(f"u{number}", f"Đơn vị {number}", "" if parent is None else f"u{parent}"),
                person(number, f"Lê {number}", f"u{number}"),
            )
        ]

    copy = dict(wanted(province(before), BOOK))
    want = wanted(province(after), BOOK)
    for step in changes(want, dict(copy)):
        if step.kind == "delete":
            del copy[step.dn]
            assert not [dn for dn in copy if dn.endswith(f",{step.dn}")]
        elif step.kind == "add":
            assert step.dn.partition(",")[2] in copy
            copy[step.dn] = {name: list(values) for name, values in step.attributes.items()}
    assert copy == want


# -- questions ------------------------------------------------------------------------------------

SLAPD = b"""BIND
msgid: 1
binddn: 
peername: IP=10.0.0.7:50123
connid: 1003
suffix: 
dn: mail=An@tinh.vn
method: 128
credlen: %d
cred: %s

"""  # noqa: W291 - as slapd writes it


@pytest.mark.parametrize(
    "password", ["mật khẩu", "a\n\nb", "cred: x\ncredlen: 3", "\n", "x" * 5000]
)
def test_a_password_is_whatever_was_typed(password: str) -> None:
    raw = password.encode()
    asked = question(io.BytesIO(SLAPD % (len(raw), raw)))
    assert asked.password == raw
    assert (asked.kind, asked.get("dn"), asked.get("connid")) == ("BIND", "mail=An@tinh.vn", "1003")


def test_what_a_client_writes_does_not_replace_what_slapd_writes() -> None:
    text = b"SEARCH\nmsgid: 2\nbinddn: mail=an@tinh.vn\nfilter: (cn=x\nbinddn: cn=mirror)\n\n"
    assert question(io.BytesIO(text)).get("binddn") == "mail=an@tinh.vn"


@pytest.mark.parametrize("text", [b"", b"BIND\nmsgid: 1\n", SLAPD % (99, b"short")])
def test_a_question_that_ends_too_early_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="too early"):
        question(io.BytesIO(text))


# -- log-in ---------------------------------------------------------------------------------------

CONFIGURATION = Configuration(
    source=Source(["ldaps://a"], BASE, f"cn=addressbook,ou=services,{BASE}", "/p", "/ca"),
    book=BOOK,
    mirror=f"cn=mirror,{BASE}",
    slapd="ldapi://x",
    login_socket=Path("/x"),
    recheck=20,
    idle=600,
    wrong_kept=180,
    delay=60,
    application_passwords=True,
)
AN = f"employeeNumber=1,ou=people,{BASE}"
TOKEN = "abcd-efgh-jkmn-pqrs-tuvw"
TOKEN_DN = f"cn=abcd-efgh,{AN}"


class Directory:
    """Directories in memory."""

    def __init__(self) -> None:
        self.answers = True
        self.may_log_in = True
        self.changed = "1"
        self.entries: dict[str, Attributes] = {TOKEN_DN: {}}
        self.passwords = {AN: "đúng", TOKEN_DN: TOKEN}
        self.tried: list[tuple[str, str]] = []
        self.asked = ""

    def find(
        self, base: str, _scope: int, condition: str, _attributes: Sequence[str]
    ) -> list[tuple[str, Attributes]]:
        """As the directory finds entries."""
        if not self.answers:
            raise SilentError("down")
        self.asked = condition
        if "appPassword" in condition:
            return [(base, self.entries[base])] if base in self.entries else []
        assert "(mailboxState=active)" in condition
        assert "(!(pwdReset=TRUE))" in condition
        known = "(mail=an@tinh.vn)" in condition and self.may_log_in
        return [(AN, {"pwdChangedTime": [self.changed]})] if known else []

    def bind(self, dn: str, password: str) -> bool:
        """As the directory binds, noting what was tried."""
        self.tried.append((dn, password))
        return self.passwords.get(dn) == password


class Slapd:
    """What slapd asks, with a clock that stands still unless it is told otherwise."""

    def __init__(self, **changed: Any) -> None:
        self.now = 1000.0
        self.directory = Directory()
        configuration = replace(CONFIGURATION, **changed)
        self._login = Login(self.directory, configuration, lambda: self.now)

    def code(self, asked: Question) -> int | None:
        """The result's code; None where slapd goes on by itself."""
        answer = self._login.answer(asked)
        if answer in {"CONTINUE\n", ""}:
            return None
        return int(answer.split("\n")[1].removeprefix("code: "))

    def bind(
        self, password: str, dn: str = "mail=an@tinh.vn", connection: str = "1", method: str = "128"
    ) -> int | None:
        """A log-in."""
        values = {"dn": dn, "connid": connection, "peername": "IP=10.0.0.7:1", "method": method}
        return self.code(Question("BIND", values, password.encode()))

    def search(self, dn: str = "mail=an@tinh.vn", connection: str = "1") -> int | None:
        """A search in the address book."""
        values = {"binddn": dn, "connid": connection, "suffix": BASE}
        return self.code(Question("SEARCH", values))


@pytest.mark.parametrize(
    "dn", ["mail=an@tinh.vn", "MAIL=An@Tinh.VN", f"mail=an@tinh.vn,ou=people,{BASE}"]
)
def test_one_logs_in_by_the_address_whatever_stands_behind_it(dn: str) -> None:
    slapd = Slapd()
    assert slapd.bind("đúng", dn) == 0
    assert slapd.search(dn) is None
    assert slapd.directory.tried == [(AN, "đúng")]


@pytest.mark.parametrize(
    ("dn", "password", "method"),
    [
        ("mail=an@tinh.vn", "", "128"),
        ("mail=an@tinh.vn", "đúng", "163"),
        ("cn=an@tinh.vn", "đúng", "128"),
        ("mail=an@tinh.vn+cn=x", "đúng", "128"),
        (f"cn=mirror,{BASE}", "đúng", "128"),
        ("", "đúng", "128"),
        ("mail=an@tinh.vn", "đúng\0", "128"),
    ],
)
def test_what_is_no_log_in_never_reaches_the_directory(dn: str, password: str, method: str) -> None:
    slapd = Slapd()
    assert slapd.bind(password, dn, method=method) == 49
    assert slapd.directory.tried == []
    assert slapd.search() == 52


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("*", r"(mail=\2a)"),
        ("an@tinh.vn)(cn;x*", r"(mail=an@tinh.vn\29\28cn;x\2a)"),
        ("khac@tinh.vn", "(mail=khac@tinh.vn)"),
    ],
)
def test_a_name_is_taken_as_it_is(name: str, asked: str) -> None:
    slapd = Slapd()
    assert slapd.bind("đúng", f"mail={name}") == 49
    assert asked in slapd.directory.asked
    assert slapd.directory.tried == []


def test_a_wrong_password_is_the_directorys_to_count_once_each() -> None:
    slapd = Slapd()
    assert [slapd.bind(wrong) for wrong in ("sai", "sai", "sai", "sai 2")] == [49] * 4
    assert slapd.directory.tried == [(AN, "sai"), (AN, "sai 2")]
    slapd.now += CONFIGURATION.wrong_kept
    assert slapd.bind("sai") == 49
    assert slapd.directory.tried[2:] == [(AN, "sai")]


def test_the_right_password_behind_a_wrong_one_is_never_taken_for_wrong() -> None:
    slapd = Slapd()
    assert slapd.bind("sai") == 49
    # The directory's delay: it refuses whatever comes.
    slapd.directory.passwords.clear()
    assert [slapd.bind("đúng"), slapd.bind("đúng")] == [49, 49]
    slapd.directory.passwords[AN] = "đúng"
    assert slapd.bind("đúng") == 0


def test_a_new_password_counts_at_once_though_it_was_wrong_before() -> None:
    slapd = Slapd()
    assert slapd.bind("mới") == 49
    slapd.directory.passwords[AN] = "mới"
    slapd.directory.changed = "2"
    assert slapd.bind("mới") == 0


@pytest.mark.parametrize("what", ["locked", "password"])
def test_an_open_connection_ends_when_its_account_may_log_in_no_longer(what: str) -> None:
    slapd = Slapd()
    assert slapd.bind("đúng") == 0
    if what == "locked":
        slapd.directory.may_log_in = False
    else:
        slapd.directory.changed = "2"
    slapd.now += CONFIGURATION.recheck - 1
    assert slapd.search() is None
    slapd.now += 1
    assert slapd.search() == 50
    assert slapd.search() == 52


def test_a_connection_is_nobody_elses() -> None:
    slapd = Slapd()
    assert slapd.bind("đúng", connection="1") == 0
    assert slapd.search(connection="2") == 52
    assert slapd.search(dn="mail=khac@tinh.vn") == 52
    slapd.code(Question("UNBIND", {"connid": "1"}))
    assert slapd.search() == 52


def test_a_refused_log_in_ends_the_one_before() -> None:
    slapd = Slapd()
    assert slapd.bind("đúng") == 0
    assert slapd.bind("sai") == 49
    assert slapd.search() == 52


def test_without_a_directory_nobody_is_let_in_and_who_is_in_goes_on() -> None:
    slapd = Slapd()
    assert slapd.bind("đúng") == 0
    slapd.directory.answers = False
    slapd.now += CONFIGURATION.recheck
    assert slapd.search() is None
    # Not 49: the mail program shall not ask for another password.
    assert slapd.bind("đúng", connection="2") == 52
    slapd.directory.answers = True
    assert slapd.bind("đúng", connection="2") == 0


def test_an_applications_password_opens_it_until_it_is_revoked() -> None:
    slapd = Slapd()
    assert slapd.bind(TOKEN) == 0
    assert slapd.directory.tried == [(TOKEN_DN, TOKEN)]
    slapd.directory.changed = "2"
    slapd.now += CONFIGURATION.recheck
    assert slapd.search() is None
    end = datetime.now(UTC) - timedelta(seconds=2)
    slapd.directory.entries[TOKEN_DN] = {"pwdEndTime": [f"{end:%Y%m%d%H%M%SZ}"]}
    slapd.now += CONFIGURATION.recheck
    assert slapd.search() == 50
    assert slapd.bind(TOKEN) == 49


def test_an_applications_password_is_never_tried_as_ones_own() -> None:
    slapd = Slapd()
    slapd.directory.entries.clear()
    assert slapd.bind(TOKEN) == 49
    assert Slapd(application_passwords=False).bind(TOKEN) == 49
    assert slapd.directory.tried == []


def test_the_writer_of_the_copy_is_asked_nothing() -> None:
    assert Slapd().search(dn=CONFIGURATION.mirror) is None


def test_outside_the_address_book_there_is_nothing() -> None:
    slapd = Slapd()
    assert slapd.bind("đúng") == 0
    values = {"binddn": "mail=an@tinh.vn", "connid": "1", "suffix": ""}
    assert slapd.code(Question("SEARCH", values)) == 32
    assert slapd.code(Question("ADD", values)) == 53


# -- settings -------------------------------------------------------------------------------------


def test_the_configuration_on_a_host_is_what_the_programs_read(tmp_path: Path) -> None:
    site = load("pair")
    file = tmp_path / "addressbook.toml"
    file.write_text(
        render(
            "addressbook/etc/site-addressbook/addressbook.toml.j2",
            {
                "site": site, "settings": AddressBookSettings(person_attributes=("title",)),
                "mirror": "cn=mirror", "ldapi": "/run/x/ldapi", "login_socket": "/run/y",
                "wrong_kept": 180, "delay": 60, "directories": site.group("directory"),
                "bind": "cn=a", "password": "/p",
            },
        )
    )  # fmt: skip
    found = read(file)
    assert found.slapd == "ldapi://%2Frun%2Fx%2Fldapi"
    assert len(found.source.directories) == 2
    assert found.book.public.person_attributes == {"title", "address"}
    assert (found.recheck, found.idle, found.application_passwords) == (20, 600, True)


def test_a_front_that_is_a_directory_needs_another_port() -> None:
    source = Path("inventories/single/site.toml").resolve()
    document = read_document(source)
    del document["addressbook"]
    with pytest.raises(SiteError, match=r"addressbook\.port: 636 is the directory's on mail1"):
        parse(document, source)
