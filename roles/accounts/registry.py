"""The registry's files, read into types; every mistake in them at once."""

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from roles.accounts.names import local_part
from roles.accounts.settings import AccountsSettings, Service, UnitKind
from roles.common.errors import SiteError
from roles.common.settings import Size

Right = Literal["read", "file", "send"]
State = Literal["active", "locked"]

_CODE = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9]+)*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_LOCAL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_PHONE = re.compile(r"\+?[0-9][0-9 ().-]{2,30}")
_SIZE: TypeAdapter[int] = TypeAdapter(Size)
T = TypeVar("T")


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


@dataclass(frozen=True)
class Delegation:
    """A right of one person on one unit mailbox."""

    unit: str
    person: str
    right: Right


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


@dataclass
class Row:
    """A line of a file: its cells, and where they stand."""

    file: Path
    line: int
    cells: dict[str, str]
    mistakes: list[str]
    notes: list[str] = field(default_factory=list)

    def wrong(self, column: str, found: str, expected: str) -> None:
        """Note a mistake."""
        self.mistakes.append(
            f"{self.file}: line {self.line}, column {column}: {found}; expected {expected}"
        )

    def text(self, column: str, pattern: re.Pattern[str] | None, expected: str) -> str:
        """A cell that may be empty and otherwise fits a pattern."""
        value = self.cells.get(column, "")
        if value and pattern is not None and not pattern.fullmatch(value):
            self.wrong(column, f"{value!r}", expected)
        return value

    def needed(self, column: str, pattern: re.Pattern[str] | None, expected: str) -> str:
        """A cell that must not be empty."""
        if not self.cells.get(column):
            self.wrong(column, "is empty", expected)
        return self.text(column, pattern, expected)

    def words(self, column: str, pattern: re.Pattern[str], expected: str) -> tuple[str, ...]:
        """Several values separated by spaces."""
        values = tuple(self.cells.get(column, "").split())
        for value in values:
            if not pattern.fullmatch(value):
                self.wrong(column, f"{value!r}", expected)
        return values

    def one_of(self, column: str, choices: Sequence[T], default: T | None = None) -> T:
        """One of a few words."""
        value = self.cells.get(column, "")
        if not value and default is not None:
            return default
        if value not in choices:
            self.wrong(column, f"{value!r}" if value else "is empty", _or(choices))
            return choices[0]
        return choices[choices.index(value)]

    def size(self, column: str) -> int | None:
        """A size such as `5GiB`."""
        value = self.cells.get(column, "")
        if not value:
            return None
        try:
            return _SIZE.validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            found, _, expected = message.partition("; expected ")
            self.wrong(column, found, expected)
            return None


def _or(choices: Sequence[object]) -> str:
    return ", ".join(str(choice) for choice in choices)


def load_registry(
    folder: Path,
    settings: AccountsSettings,
    role_addresses: Collection[str],
    stores: Sequence[str],
) -> Registry:
    """Read and check `units.csv`, `people.csv` and `delegations.csv`.

    Args:
        folder: where they lie.
        settings: the role's.
        role_addresses: local parts of the postmaster's mailbox.
        stores: aliases of the stores that a mailbox may lie on.

    Raises:
        SiteError: naming every mistake with file, line, column, what was found and is expected.
    """
    mistakes: list[str] = []
    notes: list[str] = []
    units: dict[str, tuple[Unit, Row]] = {}
    people: dict[str, tuple[Person, Row]] = {}
    codes: dict[str, int] = {}
    ids: dict[str, int] = {}
    delegations: dict[Delegation, Row] = {}

    columns = ("code", "name", "kind", "parent")
    for row in _rows(
        folder / "units.csv", columns, ("head", "phone", "aliases", "store", "quota"), mistakes
    ):
        unit = _unit(row, settings, stores)
        _once(units, codes, unit, row, "code")
        notes += row.notes
    optional = ("title", "phone", "address", "aliases", "store", "quota", "services", "state")
    for row in _rows(folder / "people.csv", ("id", "name", "unit"), optional, mistakes):
        person = _person(row, stores)
        _once(people, ids, person, row, "id")
        notes += row.notes
    for row in _rows(folder / "delegations.csv", ("unit", "person", "right"), (), mistakes):
        rights = get_args(Right)
        code, person_id = row.cells["unit"], row.cells["person"]
        for right in row.words("right", re.compile("|".join(rights)), _or(rights)) or [""]:
            if not right:
                row.wrong("right", "is empty", _or(rights))
            delegations[Delegation(code, person_id, right)] = row  # type: ignore[arg-type]

    _check_references(units, people, delegations)
    _check_tree(units)
    _check_addresses(units, people, role_addresses)
    if units and settings.postmaster_unit not in units:
        mistakes.append(
            f"accounts.postmaster_unit: {settings.postmaster_unit!r} is no unit of "
            f"{folder / 'units.csv'}; expected the code of one"
        )
    if mistakes:
        raise SiteError("\n".join(mistakes))
    return Registry(
        {code: unit for code, (unit, _) in units.items()},
        {person_id: person for person_id, (person, _) in people.items()},
        frozenset(delegations),
        tuple(notes),
    )


def _unit(row: Row, settings: AccountsSettings, stores: Sequence[str]) -> Unit:
    code = row.needed(
        "code", _CODE, "lower case without diacritics, 'stttt' or 'parent.name' (decision 51/2016)"
    )
    parent = row.text("parent", None, "")
    above = code.rpartition(".")[0]
    if _CODE.fullmatch(code) and above != parent:
        row.wrong("parent", repr(parent), f"{above!r}, for the code is {code!r} (decision 51/2016)")
    return Unit(
        code=code,
        name=row.needed("name", None, "the unit's name"),
        kind=row.one_of("kind", settings.kinds),
        parent=parent,
        head=row.text("head", None, ""),
        phone=row.text("phone", _PHONE, "digits, such as '+84 273 000 001'"),
        aliases=row.words("aliases", _LOCAL, "the part of an address before the @"),
        store=row.one_of("store", [*stores, ""], ""),
        quota=row.size("quota"),
    )


def _person(row: Row, stores: Sequence[str]) -> Person:
    name = row.needed("name", None, "family name, middle name, given name")
    address = row.text("address", _LOCAL, "the part before the @, in lower case")
    if name and not address and not _LOCAL.fullmatch(local_part(name)):
        row.wrong("name", f"{name!r} makes no address", "Latin letters, or the column address")
    services = get_args(Service)
    return Person(
        id=row.needed("id", _ID, "letters and digits"),
        name=name,
        unit=row.needed("unit", None, "a unit's code"),
        title=row.text("title", None, ""),
        phone=row.text("phone", _PHONE, "digits, such as '+84 273 000 001'"),
        address=address,
        aliases=row.words("aliases", _LOCAL, "the part of an address before the @"),
        store=row.one_of("store", [*stores, ""], ""),
        quota=row.size("quota"),
        services=row.words(  # type: ignore[arg-type]
            "services", re.compile("|".join(services)), _or(services)
        ),
        state=row.one_of("state", get_args(State), "active"),
    )


def _once(
    known: dict[str, tuple[T, Row]], lines: dict[str, int], value: T, row: Row, column: str
) -> None:
    key = row.cells.get(column, "")
    # The directory compares without case.
    line = lines.setdefault(key.casefold(), row.line)
    if key and line != row.line:
        row.wrong(column, f"{key!r} is also in line {line}", "each once")
    elif key:
        known[key] = (value, row)


def _check_references(
    units: Mapping[str, tuple[Unit, Row]],
    people: Mapping[str, tuple[Person, Row]],
    delegations: Mapping[Delegation, Row],
) -> None:
    for unit, row in units.values():
        if unit.parent and unit.parent not in units:
            row.wrong("parent", f"{unit.parent!r} is no unit", "the code of one")
        if unit.head and unit.head not in people:
            row.wrong("head", f"{unit.head!r} is no person of people.csv", "an ID")
    for person, row in people.values():
        if person.unit and person.unit not in units:
            row.wrong("unit", f"{person.unit!r} is no unit of units.csv", "the code of one")
    for given, row in delegations.items():
        if given.unit not in units:
            row.wrong("unit", f"{given.unit!r} is no unit of units.csv", "the code of one")
        if given.person not in people:
            row.wrong("person", f"{given.person!r} is no person of people.csv", "an ID")


def _check_tree(units: Mapping[str, tuple[Unit, Row]]) -> None:
    for code, (_, row) in units.items():
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
            taken[address] = f"{column} in {row.file.name}, line {row.line}"

    for code, (_, row) in units.items():
        claim(code, row, "code")
    for person, row in people.values():
        claim(person.address, row, "address")
    entries: list[tuple[Unit | Person, Row]] = [*units.values(), *people.values()]
    for entry, row in entries:
        for alias in entry.aliases:
            claim(alias, row, "aliases")


def _rows(
    file: Path, needed: Sequence[str], optional: Sequence[str], mistakes: list[str]
) -> Iterator[Row]:
    """The lines of a file as cells that are clean text, by column."""
    try:
        content = file.read_bytes()
    except OSError as error:
        mistakes.append(f"{file}: cannot be read: {error.strerror}; expected {', '.join(needed)}")
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        mistakes.append(
            f"{file}: line {line}: is not UTF-8; it seems to be {_encoding(content)}; "
            "expected UTF-8 (TCVN 6909:2001)"
        )
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        absent = [name for name in needed if name not in header]
        unknown = [name for name in header if name not in (*needed, *optional)]
        twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
        if absent or unknown or twice:
            mistakes.append(
                f"{file}: line 1: the heading is {','.join(header)!r}; expected "
                f"{','.join(needed)} and any of {','.join(optional) or 'nothing'}"
            )
            return
        last = 1
        for cells in reader:
            line, last = last + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                mistakes.append(
                    f"{file}: line {line}: has {len(cells)} cells; expected {len(header)}"
                )
                continue
            row = Row(file, line, {}, mistakes)
            row.cells = {
                column: _clean(row, column, cell)
                for column, cell in zip(header, cells, strict=True)
            }
            yield row
    except csv.Error as error:
        mistakes.append(f"{file}: line {reader.line_num}: is not CSV: {error}; expected CSV")


def _clean(row: Row, column: str, cell: str) -> str:
    """A cell without surrounding space, in NFC; refuse what no eye can see."""
    text = cell.strip(" \t")
    if text.startswith("="):
        row.wrong(column, f"{text!r} is a formula", "its value")
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp") or char in "\xa0\xad":
            name = unicodedata.name(char, "a control character")
            row.wrong(column, f"holds the invisible U+{ord(char):04X} ({name})", "visible text")
            break
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        row.notes.append(
            f"{row.file}: line {row.line}, column {column}: {composed!r} was not in NFC (TCVN "
            "6909:2001); it is read as if it were"
        )
    return composed


def _encoding(content: bytes) -> str:
    """What a text that is not UTF-8 seems to be."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    try:
        text = content.decode("cp1258")
    except UnicodeDecodeError:
        return "VISCII or TCVN3 (ABC)"
    # In windows-1258 a tone is a character of its own behind a vowel.
    tones = re.findall("[aeiouyâêôăơưAEIOUYÂÊÔĂƠƯ][\u0300\u0301\u0303\u0309\u0323]", text)
    return "windows-1258" if tones else "TCVN3 (ABC), VISCII or windows-1252"
