"""The registry's files, read into types; every mistake in them at once."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar, get_args

from roles.accounts.names import local_part
from roles.accounts.settings import AccountsSettings, Service, UnitKind
from roles.accounts.tables import Column, Report, Row, Table, read_tables
from roles.common.errors import SiteError

Right = Literal["read", "file", "send"]
State = Literal["active", "locked", "departed"]
Hidden = Literal["phone", "address", "location", "*"]
"""What the public directory leaves out of an entry; `*` is the entry itself."""

_CODE = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9]+)*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_LOCAL = re.compile(r"(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_PHONE = re.compile(r"\+?[0-9][0-9 ().-]{2,30}")
_CUT_PHONE = re.compile(r"84[0-9]{8,10}|[235789][0-9]{8,9}")
"""Digits of a number that begins with 0 or +84, once a spreadsheet took it for a quantity."""
_LONGEST_NAME = 56
"""Characters of an address made of a name: it leaves room for a number within the 64 allowed."""
T = TypeVar("T")

_KINDS: Mapping[UnitKind, tuple[str, ...]] = {
    "department": ("sở", "ban", "ngành", "sở ngành", "sở ban ngành"),
    "service-unit": ("đơn vị sự nghiệp", "sự nghiệp"),
    "district": ("huyện", "thị xã", "thành phố", "cấp huyện"),
    "commune": ("xã", "phường", "thị trấn", "cấp xã"),
    "party": ("đảng", "cơ quan đảng"),
    "association": ("hội", "đoàn thể"),
    "enterprise": ("doanh nghiệp",),
}
_RIGHTS: Mapping[Right, tuple[str, ...]] = {
    "read": ("đọc", "xem"),
    "file": ("xử lý", "sắp xếp"),
    "send": ("gửi", "gửi thư"),
}
_STATES: Mapping[State, tuple[str, ...]] = {
    "active": ("hoạt động", "đang hoạt động", "đang làm việc"),
    "locked": ("khóa", "đã khóa", "tạm khóa"),
    "departed": ("nghỉ", "đã nghỉ", "nghỉ việc", "thôi việc", "nghỉ hưu"),
}
_HIDDEN: Mapping[Hidden, tuple[str, ...]] = {
    "phone": ("điện thoại",),
    "address": ("địa chỉ thư", "thư điện tử", "email"),
    "location": ("địa chỉ", "trụ sở"),
    "*": ("tất cả",),
}
_IGNORED = (
    Column("no", ("stt", "số thứ tự"), kind="ignored"),
    Column("remark", ("ghi chú",), kind="ignored"),
)
"""Columns for those who keep the lists."""
_PHONE_COLUMN = Column("phone", ("điện thoại", "số điện thoại"))
_ALIASES_COLUMN = Column("aliases", ("địa chỉ phụ", "bí danh"))
_STORE_COLUMN = Column("store", ("kho", "kho thư"))
_QUOTA_COLUMN = Column("quota", ("dung lượng", "hạn mức"))
_HIDDEN_COLUMN = Column("hidden", ("ẩn", "không công khai"))
_ORDER_COLUMN = Column("order", ("thứ tự", "thứ tự hiển thị"))

UNITS = Table(
    "units",
    ("đơn vị", "danh sách đơn vị"),
    (
        Column("code", ("mã", "mã đơn vị"), needed=True),
        Column("name", ("tên", "tên đơn vị"), needed=True),
        Column("kind", ("loại", "loại hình", "loại đơn vị"), needed=True),
        Column("parent", ("cấp trên", "đơn vị cấp trên", "trực thuộc"), needed=True),
        Column("head", ("người đứng đầu", "thủ trưởng", "người phụ trách")),
        _PHONE_COLUMN,
        Column("location", ("địa chỉ", "trụ sở", "địa chỉ trụ sở")),
        _ALIASES_COLUMN,
        _STORE_COLUMN,
        _QUOTA_COLUMN,
        Column("redirect", ("chuyển tiếp", "chuyển tiếp cho người đứng đầu"), kind="flag"),
        _HIDDEN_COLUMN,
        _ORDER_COLUMN,
        *_IGNORED,
    ),
)
PEOPLE = Table(
    "people",
    ("cán bộ", "công chức", "nhân sự", "người dùng"),
    (
        Column("id", ("mã số", "mã cán bộ", "mã số cán bộ"), needed=True),
        Column("name", ("họ tên", "họ và tên"), needed=True),
        Column("unit", ("đơn vị", "mã đơn vị"), needed=True),
        Column("title", ("chức vụ", "chức danh")),
        _PHONE_COLUMN,
        Column("address", ("địa chỉ thư", "thư điện tử", "email")),
        _ALIASES_COLUMN,
        _STORE_COLUMN,
        _QUOTA_COLUMN,
        Column("services", ("dịch vụ",)),
        Column("state", ("trạng thái", "tình trạng")),
        Column("until", ("đến ngày", "ngày nghỉ", "làm việc đến"), kind="date"),
        Column("successor", ("người kế nhiệm", "người tiếp nhận")),
        _HIDDEN_COLUMN,
        _ORDER_COLUMN,
        *_IGNORED,
    ),
)
DELEGATIONS = Table(
    "delegations",
    ("ủy quyền", "phân quyền"),
    (
        Column("unit", ("đơn vị", "mã đơn vị"), needed=True),
        Column("person", ("người", "người được ủy quyền", "mã số", "mã số cán bộ"), needed=True),
        Column("right", ("quyền",), needed=True),
        Column("since", ("từ ngày",), kind="date"),
        Column("until", ("đến ngày",), kind="date"),
        *_IGNORED,
    ),
)


@dataclass(frozen=True)
class Unit:
    """A unit of the province, and its mailbox."""

    code: str
    name: str
    kind: UnitKind
    parent: str = ""
    head: str = ""
    phone: str = ""
    aliases: tuple[str, ...] = ()
    store: str = ""
    quota: int | None = None
    location: str = ""
    """Postal address."""
    redirect: bool = False
    """Whether letters to the unit also go, unchanged, to its head."""
    hidden: tuple[Hidden, ...] = ()
    order: int | None = None
    """Place among its siblings in the public directory; those without follow by name."""


@dataclass(frozen=True)
class Person:
    """An official, and the personal mailbox (article 3.1b)."""

    id: str
    name: str
    unit: str
    title: str = ""
    phone: str = ""
    address: str = ""
    aliases: tuple[str, ...] = ()
    store: str = ""
    quota: int | None = None
    services: tuple[Service, ...] = ()
    state: State = "active"
    until: date | None = None
    """Last day of service, that day included."""
    successor: str = ""
    """ID of the person who reads the mail of one who departed."""
    hidden: tuple[Hidden, ...] = ()
    order: int | None = None
    """Place within the unit in the public directory; those without follow by name."""


@dataclass(frozen=True)
class Delegation:
    """A right of one person on one unit mailbox."""

    unit: str
    person: str
    right: Right
    since: date | None = None
    """First day; none: from the beginning."""
    until: date | None = None
    """Last day, that day included; none: without end."""


@dataclass(frozen=True)
class Registry:
    """The three files, valid as a whole."""

    units: Mapping[str, Unit]
    people: Mapping[str, Person]
    delegations: frozenset[Delegation]
    notes: tuple[str, ...] = ()
    """What was put right while reading."""

    def root(self, code: str) -> str:
        """The code of the top unit above a unit, or its own."""
        while self.units[code].parent:
            code = self.units[code].parent
        return code

    def holders(self) -> Mapping[str, Mapping[Right, frozenset[str]]]:
        """Who has which right on each unit mailbox: by code and right, people's IDs.

        The head of a unit has every right; to file means to read as well.
        """
        rights: dict[str, dict[Right, set[str]]] = {
            code: {right: {unit.head} if unit.head else set() for right in get_args(Right)}
            for code, unit in self.units.items()
        }
        for given in self.delegations:
            rights[given.unit][given.right].add(given.person)
            if given.right == "file":
                rights[given.unit]["read"].add(given.person)
        return {
            code: {right: frozenset(people) for right, people in by_right.items()}
            for code, by_right in rights.items()
        }


def load_registry(
    folder: Path,
    settings: AccountsSettings,
    role_addresses: Collection[str],
    stores: Sequence[str],
) -> Registry:
    """Read and check units, people and delegations: three CSV files, or one spreadsheet.

    Args:
        folder: where they lie.
        settings: the role's.
        role_addresses: local parts of the postmaster's mailbox.
        stores: aliases of the stores that a mailbox may lie on.

    Raises:
        SiteError: naming every mistake with file, line, column, what was found and is expected.
    """
    report = Report()
    tables = read_tables(folder, (UNITS, PEOPLE, DELEGATIONS), report)
    units: dict[str, tuple[Unit, Row]] = {}
    people: dict[str, tuple[Person, Row]] = {}
    delegations: dict[Delegation, Row] = {}
    codes: dict[str, Row] = {}
    ids: dict[str, Row] = {}
    for row in tables["units"].rows:
        _once(units, codes, _unit(row, settings, stores), row, "code")
    for row in tables["people"].rows:
        _once(people, ids, _person(row, settings, stores), row, "id")
    for row in tables["delegations"].rows:
        for given in _delegations(row):
            if given in delegations:
                _twice(given, row, delegations[given])
            delegations.setdefault(given, row)

    # What a table lacks is said once; not again by each row that names it.
    if tables["units"].whole:
        _check_tree(units, tables["units"].title)
        _check_units(people, delegations, units, tables["units"].title)
        if settings.postmaster_unit not in units:
            report.wrong(
                f"accounts.postmaster_unit: {settings.postmaster_unit!r} is no unit of "
                f"{folder}, {tables['units'].title}; expected the code of one"
            )
        for code in settings.unit_rules:
            if code not in units:
                report.wrong(
                    f"accounts.unit_rules.{code}: is no unit of {folder}, "
                    f"{tables['units'].title}; expected the code of one"
                )
    if tables["people"].whole:
        _check_people(units, people, delegations, tables["people"].title)
    _check_periods(delegations)
    _check_addresses(units, people, role_addresses)
    if report.found:
        raise SiteError("\n".join(report.mistakes))
    return Registry(
        {code: unit for code, (unit, _) in units.items()},
        {person_id: person for person_id, (person, _) in people.items()},
        frozenset(delegations),
        tuple(report.notes),
    )


def _unit(row: Row, settings: AccountsSettings, stores: Sequence[str]) -> Unit:
    code = row.needed(
        "code", _CODE, "lower case without diacritics, 'stttt' or 'parent.name' (decision 51/2016)"
    )
    parent = row.text("parent", None, "")
    above = code.rpartition(".")[0]
    if _CODE.fullmatch(code) and above != parent:
        row.wrong("parent", repr(parent), f"{above!r}, for the code is {code!r} (decision 51/2016)")
    head, redirect = row.text("head", None, ""), row.flag("redirect")
    if redirect and not head:
        row.wrong("redirect", "is set, but the unit has no head", "a head, or no redirect")
    return Unit(
        code=code,
        name=row.needed("name", None, "the unit's name"),
        kind=row.one_of("kind", settings.kinds, vocabulary=_KINDS),
        parent=parent,
        head=head,
        phone=_phone(row),
        aliases=row.words("aliases", _LOCAL, "the part of an address before the @"),
        store=row.one_of("store", [*stores, ""], ""),
        quota=row.size("quota"),
        location=row.text("location", None, ""),
        redirect=redirect,
        hidden=row.some_of("hidden", get_args(Hidden), _HIDDEN),
        order=row.count("order"),
    )


def _person(row: Row, settings: AccountsSettings, stores: Sequence[str]) -> Person:
    name = row.needed("name", None, "family name, middle name, given name")
    address = row.text("address", _LOCAL, "the part before the @, in lower case")
    made = local_part(name, settings.address_policy)
    if name and not address and not (_LOCAL.fullmatch(made) and len(made) <= _LONGEST_NAME):
        what = f"an address of {len(made)} characters" if made else "no address"
        row.wrong("name", f"{name!r} makes {what}", "Latin letters, or the column address")
    services = get_args(Service)
    hidden: tuple[Hidden, ...] = ("phone", "address", "*")
    state: State = row.one_of("state", get_args(State), "active", _STATES)
    until, successor = row.day("until"), row.text("successor", None, "")
    if successor and state != "departed" and until is None:
        row.wrong(
            "successor",
            f"{successor!r}, but the person stays",
            "an empty cell, or the state departed, or a last day in the column until",
        )
    return Person(
        id=row.needed("id", _ID, "letters and digits"),
        name=name,
        unit=row.needed("unit", None, "a unit's code"),
        title=row.text("title", None, ""),
        phone=_phone(row),
        address=address,
        aliases=row.words("aliases", _LOCAL, "the part of an address before the @"),
        store=row.one_of("store", [*stores, ""], ""),
        quota=row.size("quota"),
        services=row.some_of("services", services, {}),
        state=state,
        until=until,
        successor=successor,
        hidden=row.some_of("hidden", hidden, _HIDDEN),
        order=row.count("order"),
    )


def _delegations(row: Row) -> list[Delegation]:
    """What a row gives: a right may stand beside others."""
    rights: Sequence[Right] = get_args(Right)
    code = row.needed("unit", None, "a unit's code")
    person = row.needed("person", None, "a person's ID")
    given = row.some_of("right", rights, _RIGHTS)
    if not row.cells.get("right"):
        row.wrong("right", "is empty", ", ".join(rights))
    since, until = row.day("since"), row.day("until")
    if since and until and until < since:
        row.wrong("until", f"{until} is before {since}", "a last day that follows the first")
    return [Delegation(code, person, right, since, until) for right in given]


def _phone(row: Row) -> str:
    phone = row.text("phone", _PHONE, "digits, such as '+84 273 000 001'")
    if _CUT_PHONE.fullmatch(re.sub(r"[^0-9+]", "", phone)):
        row.wrong(
            "phone",
            f"{phone!r} seems to have lost its 0 or +, as in a cell that holds a number",
            "text, such as '0273 000 001' or '+84 273 000 001'",
        )
    return phone


def _once(
    known: dict[str, tuple[T, Row]], rows: dict[str, Row], value: T, row: Row, column: str
) -> None:
    key = row.cells.get(column, "")
    # The directory compares without case.
    first = rows.setdefault(key.casefold(), row)
    if key and first is not row:
        row.wrong(column, f"{key!r} is also in {first.where}", "each once")
    elif key:
        known[key] = (value, row)


def _twice(given: Delegation, row: Row, first: Row) -> None:
    row.wrong("right", f"{given.right!r} is also in {first.where} for the same days", "each once")


def _check_units(
    people: Mapping[str, tuple[Person, Row]],
    delegations: Mapping[Delegation, Row],
    units: Mapping[str, tuple[Unit, Row]],
    title: str,
) -> None:
    """What names a unit names one that is there."""
    named = [
        *((person.unit, row) for person, row in people.values()),
        *((given.unit, row) for given, row in _one_a_row(delegations)),
    ]
    for code, row in named:
        if code and code not in units:
            row.wrong("unit", f"{code!r} is no unit of {title}", "the code of one")


def _check_people(
    units: Mapping[str, tuple[Unit, Row]],
    people: Mapping[str, tuple[Person, Row]],
    delegations: Mapping[Delegation, Row],
    title: str,
) -> None:
    """What names a person names one who is there, and who has not left."""
    named = [
        *(("head", unit.head, row) for unit, row in units.values()),
        *(("successor", person.successor, row) for person, row in people.values()),
        *(("person", given.person, row) for given, row in _one_a_row(delegations)),
    ]
    for column, person_id, row in named:
        if not person_id:
            continue
        if person_id not in people:
            row.wrong(column, f"{person_id!r} is no person of {title}", "an ID")
        elif people[person_id][0].state == "departed":
            place = people[person_id][1].place
            row.wrong(column, f"{person_id!r} has departed ({place})", "a person in service")
    for person, row in people.values():
        if person.successor == person.id:
            row.wrong("successor", f"{person.successor!r} is the person", "another person's ID")


def _one_a_row(delegations: Mapping[Delegation, Row]) -> list[tuple[Delegation, Row]]:
    """A delegation of each row: those of one row differ in the right only."""
    rows = {(row.source, row.number): (given, row) for given, row in delegations.items()}
    return list(rows.values())


def _check_periods(delegations: Mapping[Delegation, Row]) -> None:
    """Refuse a right that is given twice for the same days."""
    by_right: dict[tuple[str, str, Right], list[tuple[Delegation, Row]]] = {}
    for given, row in delegations.items():
        by_right.setdefault((given.unit, given.person, given.right), []).append((given, row))
    for periods in by_right.values():
        periods.sort(key=lambda period: period[0].since or date.min)
        for (before, first), (after, row) in pairwise(periods):
            if (before.until or date.max) >= (after.since or date.min):
                _twice(after, row, first)


def _check_tree(units: Mapping[str, tuple[Unit, Row]], title: str) -> None:
    for code, (unit, row) in units.items():
        if unit.parent and unit.parent not in units:
            row.wrong("parent", f"{unit.parent!r} is no unit of {title}", "the code of one")
        path = [code]
        while (above := units[path[-1]][0].parent) in units:
            if above in path:
                if above == code:
                    row.wrong("parent", f"a circle: {' -> '.join([*path, above])}", "a tree")
                break
            path.append(above)


def _check_addresses(
    units: Mapping[str, tuple[Unit, Row]],
    people: Mapping[str, tuple[Person, Row]],
    role_addresses: Collection[str],
) -> None:
    """Refuse an address that is given twice; what names ask for is settled later."""
    taken: dict[str, str] = {}

    def claim(address: str, row: Row, column: str) -> None:
        if address in role_addresses:
            row.wrong(
                column,
                f"{address!r} belongs to the mail system (site.role_addresses), its mail goes to "
                "the postmaster",
                "another address",
            )
        elif address in taken:
            row.wrong(column, f"{address!r} is also {taken[address]}", "an address given once")
        elif address:
            taken[address] = f"{column} in {row.place}"

    for code, (_, row) in units.items():
        claim(code, row, "code")
    for person, row in people.values():
        claim(person.address, row, "address")
    entries: list[tuple[Unit | Person, Row]] = [*units.values(), *people.values()]
    for entry, row in entries:
        for alias in entry.aliases:
            claim(alias, row, "aliases")
