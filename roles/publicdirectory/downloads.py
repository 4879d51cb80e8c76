"""The downloads: vCards (RFC 6350) for telephones and address books, CSV for spreadsheets."""

import csv
import io
import re
from collections.abc import Iterable, Iterator

from roles.accounts.names import taken_apart
from roles.publicdirectory.content import Person, Unit

_OCTETS = 75
"""Longest line of a vCard, without its end."""
_HEADING = ("Mã đơn vị", "Đơn vị", "Họ và tên", "Chức vụ", "Điện thoại", "Thư điện tử", "Địa chỉ")
_FORMULA = re.compile(r"[=@\t]|[-+](?![0-9 ().-]*$)")
"""How a cell begins that a spreadsheet would compute instead of showing."""


def vcards(units: Iterable[Unit], organisation: str, site: str) -> bytes:
    """One vCard a unit and a person.

    Args:
        units: with everything below them.
        organisation: the province's.
        site: address of the public directory.
    """
    lines: list[str] = []
    for above, unit in _all(units, ()):
        path = (organisation, *above, unit.name)
        lines += _card(
            ("KIND", "org"),
            ("FN", _escaped(unit.name)),
            ("ORG", ";".join(map(_escaped, path))),
            ("TEL;TYPE=work", _escaped(unit.phone)),
            ("EMAIL;TYPE=work", _escaped(unit.address)),
            ("ADR;TYPE=work", f";;{_escaped(unit.location)};;;;" if unit.location else ""),
            ("URL", f"{site}don-vi/{unit.code}/"),
        )
        for person in _people(unit):
            name = taken_apart(person.name)
            lines += _card(
                ("KIND", "individual"),
                ("FN", _escaped(person.name)),
                ("N", ";".join(map(_escaped, (name.family, name.given, name.middle, "", "")))),
                ("TITLE", _escaped(person.title)),
                ("ORG", ";".join(map(_escaped, path))),
                ("TEL;TYPE=work", _escaped(person.phone)),
                ("EMAIL;TYPE=work", _escaped(person.address)),
            )
    return "".join(f"{line}\r\n" for line in lines).encode()


def table(units: Iterable[Unit], separator: str) -> bytes:
    """One line a unit and a person, in UTF-8 with the mark by which Excel knows it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(_HEADING)
    for _, unit in _all(units, ()):
        own = (unit.code, unit.name, "", "", unit.phone, unit.address, unit.location)
        writer.writerow(map(_cell, own))
        for person in _people(unit):
            line = (unit.code, unit.name, person.name, person.title, person.phone, person.address)
            writer.writerow([*map(_cell, line), ""])
    return text.getvalue().encode("utf-8-sig")


def _people(unit: Unit) -> tuple[Person, ...]:
    return (*([unit.head] if unit.head else []), *unit.people)


def _all(units: Iterable[Unit], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Unit]]:
    """Every unit, behind the names of those above it."""
    for unit in units:
        yield above, unit
        yield from _all(unit.children, (*above, unit.name))


def _cell(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _card(*properties: tuple[str, str]) -> Iterator[str]:
    """The lines of a vCard; properties without a value are left out."""
    for name, value in (("BEGIN", "VCARD"), ("VERSION", "4.0"), *properties, ("END", "VCARD")):
        if value:
            yield from _folded(f"{name}:{value}")


def _escaped(text: str) -> str:
    return re.sub(r"([\\,;])", r"\\\1", text).replace("\n", "\\n")


def _folded(line: str) -> Iterator[str]:
    """Parts of a line; all but the first begin with a space, and no character is torn apart."""
    part, size = "", 0
    for char in line:
        octets = len(char.encode())
        if size + octets > _OCTETS:
            yield part
            part, size = " ", 1
        part += char
        size += octets
    yield part
