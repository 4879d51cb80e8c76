"""The registry's files, read into types; every mistake in them at once."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar, get_args

from roles.accounts.names import local_part
from roles.accounts.settings import AccountsSettings, Service, UnitKind
from roles.accounts.tables import Column, Report, Row, Table, plain, read_tables
from roles.common.errors import SiteError

Right = Literal["read", "file", "send"]
State = Literal["active", "locked", "departed"]
Hidden = Literal["phone", "address", "location", "*"]
"""What the public directory leaves out of an entry; `*` is the entry itself."""
Scope = Literal["unit", "subtree", "mailboxes", "heads", "members"]
"""Who is in a distribution list: the people of a unit; these and the people of the units below;
the mailboxes of all these units; the heads of all these units; those who are named."""
Poster = Literal["anyone", "site", "members"]
"""Who may write to a distribution list, besides those who are named (roles/mta/files/lists.py)."""
EVERY_UNIT = "*"
"""What stands for a unit where a list is that of the whole province."""

_CODE = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9]+)*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_LOCAL = re.compile(r"(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_PHONE = re.compile(r"\+?[0-9][0-9 ().-]{2,30}")
_CUT_PHONE = re.compile(r"84[0-9]{8,10}|[235789][0-9]{8,9}")
"""Digits of a number that begins with 0 or +84, once a spreadsheet took it for a quantity."""
_LABELS = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])"
_DOMAIN = re.compile(rf"(?=.{{4,253}}$){_LABELS}")
"""A domain as DNS has it; one with diacritics in its form of ASCII letters (RFC 5890)."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What names a person, a unit or a list."""
_OUTSIDE = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,63}}@{_LABELS}")
"""An address of somebody outside."""
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
_SCOPES: Mapping[Scope, tuple[str, ...]] = {
    "unit": ("đơn vị", "người của đơn vị"),
    "subtree": ("đơn vị và trực thuộc", "kể cả đơn vị trực thuộc"),
    "mailboxes": ("hộp thư đơn vị",),
    "heads": ("người đứng đầu", "thủ trưởng"),
    "members": ("thành viên", "theo danh sách"),
}
_POSTERS: Mapping[Poster, tuple[str, ...]] = {
    "anyone": ("mọi người", "bất kỳ ai"),
    "site": ("nội bộ", "trong hệ thống"),
    "members": ("thành viên",),
}
_EVERY_UNIT: Mapping[str, tuple[str, ...]] = {EVERY_UNIT: ("toàn tỉnh", "tất cả đơn vị")}
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
_SINCE_COLUMN = Column("since", ("từ ngày",), kind="date")
_UNTIL_COLUMN = Column("until", ("đến ngày",), kind="date")

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
        _SINCE_COLUMN,
        _UNTIL_COLUMN,
        *_IGNORED,
    ),
)
LISTS = Table(
    "lists",
    ("danh sách thư", "danh sách"),
    (
        Column("address", ("địa chỉ", "địa chỉ thư"), needed=True),
        Column("name", ("tên", "tên danh sách"), needed=True),
        Column("contains", ("gồm", "phạm vi"), needed=True),
        Column("unit", ("đơn vị", "mã đơn vị")),
        Column("members", ("thành viên",)),
        Column("posters", ("người được gửi", "ai được gửi")),
        Column("owner", ("người quản lý", "người phụ trách")),
        _ALIASES_COLUMN,
        _SINCE_COLUMN,
        _UNTIL_COLUMN,
        *_IGNORED,
    ),
    optional=True,
)
DOMAINS = Table(
    "domains",
    ("tên miền", "tên miền bổ sung"),
    (
        Column("domain", ("tên miền",), needed=True),
        _SINCE_COLUMN,
        _UNTIL_COLUMN,
        *_IGNORED,
    ),
    optional=True,
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
class MailList:
    """A distribution list.

    Who is named in it is named by a word: a person by ID, a unit mailbox by the unit's code, a
    list by its address. No word means two of them.
    """

    address: str
    """The part before the @."""
    name: str
    scope: Scope
    unit: str = ""
    """Whose list it is: a unit's code, `*` for the whole province, or nothing."""
    members: tuple[str, ...] = ()
    """People, units and lists, besides those of the scope."""
    posters: tuple[str, ...] = ()
    """Who may write: `anyone`, `site`, `members`, people, units, addresses outside; none: as the
    setting `mta.list_posters` has it."""
    owner: str = ""
    """The person or unit that gets what cannot be delivered; none: the unit, or the postmaster."""
    aliases: tuple[str, ...] = ()
    since: date | None = None
    """First day; none: from the beginning."""
    until: date | None = None
    """Last day, that day included; none: without end."""


@dataclass(frozen=True)
class MailDomain:
    """A further mail domain: x@ there is x@ in the site's own."""

    domain: str
    since: date | None = None
    """First day; none: from the beginning."""
    until: date | None = None
    """Last day, that day included; none: without end."""


@dataclass(frozen=True)
class Registry:
    """The tables, valid as a whole."""

    units: Mapping[str, Unit]
    people: Mapping[str, Person]
    delegations: frozenset[Delegation]
    lists: Mapping[str, MailList] = field(default_factory=dict)
    """By address, the part before the @."""
    domains: Mapping[str, MailDomain] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What was put right while reading."""
    places: Mapping[str | Delegation, str] = field(default_factory=dict, compare=False)
    """Where the head of a unit, by its code, and a delegation stand: file, line and column."""
    store_places: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where the store of a mailbox stands, by its place on a store: `people/1042`,
    `mailboxes/stttt`."""

    def root(self, code: str) -> str:
        """The code of the top unit above a unit, or its own."""
        while self.units[code].parent:
            code = self.units[code].parent
        return code

    def below(self, code: str) -> list[str]:
        """A unit and all below it, in the registry's order; every unit for `*`."""
        if code == EVERY_UNIT:
            return list(self.units)
        # A code begins with that of the unit above (decision 51/2016).
        return [unit for unit in self.units if f"{unit}.".startswith(f"{code}.")]


def load_registry(
    folder: Path,
    settings: AccountsSettings,
    role_addresses: Collection[str],
    stores: Sequence[str],
    own_names: Collection[str] = (),
) -> Registry:
    """Read and check every table: CSV files, or one spreadsheet.

    Args:
        folder: where they lie.
        settings: the role's.
        role_addresses: local parts of the postmaster's mailbox.
        stores: aliases of the stores that a mailbox may lie on.
        own_names: the site's mail domain, and names of its hosts: no further domain is such.

    Raises:
        SiteError: naming every mistake with file, line, column, what was found and is expected.
    """
    report = Report()
    tables = read_tables(folder, (UNITS, PEOPLE, DELEGATIONS, LISTS, DOMAINS), report)
    units: dict[str, tuple[Unit, Row]] = {}
    people: dict[str, tuple[Person, Row]] = {}
    delegations: dict[Delegation, Row] = {}
    lists: dict[str, tuple[MailList, Row]] = {}
    domains: dict[str, tuple[MailDomain, Row]] = {}
    codes: dict[str, Row] = {}
    ids: dict[str, Row] = {}
    addresses: dict[str, Row] = {}
    names: dict[str, Row] = {}
    for row in tables["units"].rows:
        _once(units, codes, _unit(row, settings, stores), row, "code")
    for row in tables["people"].rows:
        _once(people, ids, _person(row, settings, stores), row, "id")
    for row in tables["delegations"].rows:
        for given in _delegations(row):
            if given in delegations:
                _twice(given, row, delegations[given])
            delegations.setdefault(given, row)
    for row in tables["lists"].rows:
        _once(lists, addresses, _list(row, own_names), row, "address")
    for row in tables["domains"].rows:
        _once(domains, names, _domain(row, own_names), row, "domain")

    # What a table lacks is said once; not again by each row that names it.
    if tables["units"].whole:
        _check_tree(units, tables["units"].title)
        _check_units(people, delegations, units, tables["units"].title)
        _check_settings(settings, units, f"{folder}, {tables['units'].title}", report)
    if tables["people"].whole:
        _check_people(units, people, delegations, tables["people"].title)
    if all(tables[name].whole for name in ("units", "people", "lists")):
        _check_lists(lists, units, people, tables["units"].title)
    _check_periods(delegations)
    _check_addresses(units, people, lists, role_addresses)
    if report.found:
        raise SiteError("\n".join(report.mistakes))
    return Registry(
        {code: unit for code, (unit, _) in units.items()},
        {person_id: person for person_id, (person, _) in people.items()},
        frozenset(delegations),
        {address: one for address, (one, _) in lists.items()},
        {domain: one for domain, (one, _) in domains.items()},
        tuple(report.notes),
        {
            **{code: row.cell("head") for code, (unit, row) in units.items() if unit.head},
            **{given: row.cell("person") for given, row in delegations.items()},
        },
        {
            **{f"mailboxes/{code}": row.cell("store") for code, (_, row) in units.items()},
            **{f"people/{person_id}": row.cell("store") for person_id, (_, row) in people.items()},
        },
    )


def _check_settings(
    settings: AccountsSettings, units: Collection[str], place: str, report: Report
) -> None:
    """What names a unit in the settings names one that is there."""
    if settings.postmaster_unit not in units:
        report.wrong(
            f"accounts.postmaster_unit: {settings.postmaster_unit!r} is no unit of {place}; "
            "expected the code of one"
        )
    for code in settings.unit_rules:
        if code not in units:
            report.wrong(
                f"accounts.unit_rules.{code}: is no unit of {place}; expected the code of one"
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
    since, until = _days(row)
    return [Delegation(code, person, right, since, until) for right in given]


def _days(row: Row) -> tuple[date | None, date | None]:
    """The first and the last day."""
    since, until = row.day("since"), row.day("until")
    if since and until and until < since:
        row.wrong("until", f"{until} is before {since}", "a last day that follows the first")
    return since, until


def _list(row: Row, own_names: Collection[str]) -> MailList:
    scopes: Sequence[Scope] = get_args(Scope)
    scope: Scope = row.one_of("contains", scopes, vocabulary=_SCOPES)
    unit = row.text("unit", None, "")
    if plain(unit) in {plain(word) for word in _EVERY_UNIT[EVERY_UNIT]}:
        unit = EVERY_UNIT
    members = row.words("members", _WORD, "people's IDs, units' codes, addresses of lists")
    if row.cells.get("contains"):
        if scope == "members" and not members:
            row.wrong("members", "is empty", "people's IDs, units' codes, addresses of lists")
        elif scope != "members" and not unit:
            row.wrong("unit", "is empty", "a unit's code, or * for the whole province")
        if scope in ("unit", "members") and unit == EVERY_UNIT:
            row.wrong("unit", "'*' is no unit", "a unit's code, or another word in contains")
    choices: Sequence[Poster] = get_args(Poster)
    posters, named = row.some_or_others("posters", choices, _POSTERS)
    for word in named:
        address, at, domain = word.partition("@")
        if at and domain in own_names:
            row.wrong("posters", f"{word!r}", f"the ID of whose address {address!r} is, or a code")
        elif at and not _OUTSIDE.fullmatch(word):
            row.wrong("posters", f"{word!r} is no address", "such as 'van.thu@vidu.example'")
    since, until = _days(row)
    return MailList(
        address=row.needed("address", _LOCAL, "the part before the @, in lower case"),
        name=row.needed("name", None, "the list's name"),
        scope=scope,
        unit=unit,
        members=members,
        posters=(*posters, *named),
        owner=row.text("owner", _WORD, "a person's ID or a unit's code"),
        aliases=row.words("aliases", _LOCAL, "the part of an address before the @"),
        since=since,
        until=until,
    )


def _domain(row: Row, own_names: Collection[str]) -> MailDomain:
    name = row.needed("domain", _DOMAIN, "a mail domain, in lower case, such as 'cu.gov.vn'")
    if name in own_names:
        row.wrong("domain", f"{name!r} is the site's own", "a further domain")
    since, until = _days(row)
    return MailDomain(name, since, until)


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


def _check_lists(
    lists: Mapping[str, tuple[MailList, Row]],
    units: Mapping[str, tuple[Unit, Row]],
    people: Mapping[str, tuple[Person, Row]],
    title: str,
) -> None:
    """What a list names is there, and means one thing; no list is in itself."""
    known: dict[str, Collection[str]] = {"person": people, "unit": units, "list": lists}
    expected = "a person's ID, a unit's code, or among the members a list's address"

    def check(row: Row, column: str, words: Iterable[str], kinds: Sequence[str]) -> None:
        for word in words:
            found = [kind for kind in kinds if word in known[kind]]
            if not found:
                row.wrong(column, f"{word!r} is none of {', '.join(kinds)}", expected)
            elif len(found) > 1:
                row.wrong(column, f"{word!r} is a {' and a '.join(found)}", "a word for one only")
            elif found == ["person"] and people[word][0].state == "departed":
                place = people[word][1].place
                row.wrong(column, f"{word!r} has departed ({place})", "somebody in service")

    choices: Collection[str] = get_args(Poster)
    for address, (one, row) in lists.items():
        if one.unit and one.unit != EVERY_UNIT and one.unit not in units:
            row.wrong("unit", f"{one.unit!r} is no unit of {title}", "the code of one")
        named = [word for word in one.posters if word not in choices and "@" not in word]
        check(row, "members", one.members, ("person", "unit", "list"))
        check(row, "posters", named, ("person", "unit"))
        check(row, "owner", [one.owner] if one.owner else [], ("person", "unit"))
        if path := _way_back(address, lists):
            row.wrong("members", f"a circle: {' -> '.join(path)}", "no list in itself")


def _way_back(start: str, lists: Mapping[str, tuple[MailList, Row]]) -> list[str]:
    """How a list is in itself; nothing if it is not."""
    waiting = [[start]]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        for member in lists[path[-1]][0].members:
            if member == start:
                return [*path, start]
            if member in lists and member not in seen:
                seen.add(member)
                waiting.append([*path, member])
    return []


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
    lists: Mapping[str, tuple[MailList, Row]],
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
    for address, (_, row) in lists.items():
        claim(address, row, "address")
    entries: list[tuple[Unit | Person | MailList, Row]] = [
        *units.values(), *people.values(), *lists.values(),
    ]  # fmt: skip
    for entry, row in entries:
        for alias in entry.aliases:
            claim(alias, row, "aliases")
