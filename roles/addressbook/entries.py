"""The entries of the address book, made from the directory's.

Below the suffix stand the units as a tree, `ou=CODE,ou=CODE OF THE PARENT,…`, and below each its
people, `mail=ADDRESS`. Attributes are standard ones, by the names that mail programs ask for.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from roles.accounts.names import taken_apart
from roles.directory.ldif import Attributes, Change, normalized
from roles.publicdirectory.content import Person, Public, Unit, tree

READ = (
    "objectClass", "ou", "displayName", "unitKind", "unitParent", "owner", "telephoneNumber",
    "postalAddress", "directoryHidden", "directoryOrder", "cn", "mail", "title", "departmentNumber",
)  # fmt: skip
"""What is asked of the directory."""
_ASCII = str.maketrans("Đđ", "Dd")


@dataclass(frozen=True)
class Book:
    """What the address book is to show."""

    base: str
    """Its suffix."""
    organisation: str
    public: Public


def wanted(found: Iterable[tuple[str, Attributes]], book: Book) -> dict[str, Attributes]:
    """The entries by DN, parents first.

    Args:
        found: units, unit mailboxes and people of the directory, each with its DN.
        book: what is to be shown.
    """
    # Colleagues write to an address that the public does not see.
    known = [(dn, {**entry, "directoryHidden": _but_mail(entry)}) for dn, entry in found]
    home = {
        entry["mail"][0].lower(): entry["departmentNumber"][0].lower()
        for _, entry in known
        if "mail" in entry and "departmentNumber" in entry
    }
    label = book.base.partition(",")[0].partition("=")[2]
    result: dict[str, Attributes] = {
        book.base: {
            "objectClass": ["organization", "dcObject"],
            "o": _both(book.organisation),
            "dc": [label],
        }
    }
    for unit in tree(known, book.public):
        result.update(_unit(unit, book.base, home))
    return result


def changes(want: Mapping[str, Attributes], have: Mapping[str, Attributes]) -> Iterator[Change]:
    """The steps that make the copy say the same: what goes first, children before parents.

    Args:
        want: entries by DN, parents first.
        have: those that are there, each as it was written.
    """
    wanted_names = {normalized(dn) for dn in want}
    present = {normalized(dn): (dn, entry) for dn, entry in have.items()}
    gone = [dn for key, (dn, _) in present.items() if key not in wanted_names]
    for dn in sorted(gone, key=lambda dn: -dn.count(",")):
        yield Change("delete", dn, {})
    for dn, entry in want.items():
        if normalized(dn) not in present:
            yield Change("add", dn, entry)
            continue
        before = present[normalized(dn)][1]
        # In order: a mail program shows the first value of a name.
        differing = {
            name: entry.get(name, [])
            for name in {*entry, *before}
            if entry.get(name, []) != before.get(name, [])
        }
        if differing:
            yield Change("modify", dn, differing)


def plain(text: str) -> str:
    """`text` without its diacritics: `Nguyễn Văn Đức` becomes `Nguyen Van Duc`."""
    apart = unicodedata.normalize("NFD", text.translate(_ASCII))
    return unicodedata.normalize("NFC", "".join(c for c in apart if not unicodedata.combining(c)))


def _unit(unit: Unit, above: str, home: Mapping[str, str]) -> Iterator[tuple[str, Attributes]]:
    """A unit, its people, and the units below it."""
    dn = f"ou={unit.code},{above}"
    entry: dict[str, Sequence[str]] = {
        # A unit is written to as people are: under its name, by its mailbox.
        "objectClass": ["organizationalUnit", "extensibleObject"],
        "ou": [unit.code, *_both(unit.name)],
        "cn": _both(unit.name),
        "displayName": [unit.name],
        "mail": _one(unit.address),
        "telephoneNumber": _one(unit.phone),
        "postalAddress": _one(_postal(unit.location)),
        "description": _one(f"Người đứng đầu: {unit.head.name}" if unit.head else ""),
    }
    yield dn, _filled(entry)
    for person in (*([unit.head] if unit.head else []), *unit.people):
        # A head may belong to another unit, and stands there.
        if home.get(person.address) == unit.code:
            yield _person(person, unit, dn)
    for child in unit.children:
        yield from _unit(child, dn, home)


def _person(person: Person, unit: Unit, above: str) -> tuple[str, Attributes]:
    parts = taken_apart(person.name)
    entry: dict[str, Sequence[str]] = {
        "objectClass": ["inetOrgPerson"],
        "cn": _both(person.name),
        "sn": _both(parts.family or parts.given),
        "givenName": _both(parts.given),
        "displayName": [person.name],
        "mail": [person.address],
        "title": _one(person.title),
        "telephoneNumber": _one(person.phone),
        "ou": _both(unit.name),
        "departmentNumber": [unit.code],
    }
    return f"mail={_escaped(person.address)},{above}", _filled(entry)


def _but_mail(entry: Attributes) -> list[str]:
    return [name for name in entry.get("directoryHidden", []) if name.lower() != "mail"]


def _both(text: str) -> list[str]:
    """With its diacritics, which comes first and so is shown, and without."""
    without = plain(text)
    return [text] if without.casefold() == text.casefold() else [text, without]


def _one(value: str) -> list[str]:
    return [value] if value else []


def _filled(entry: Mapping[str, Sequence[str]]) -> Attributes:
    return {name: list(values) for name, values in entry.items() if values}


def _postal(location: str) -> str:
    """One line of a postal address by RFC 4517."""
    return location.replace("\\", "\\5C").replace("$", "\\24")


def _escaped(value: str) -> str:
    """A value in a DN (RFC 4514); an address holds nothing else that has a meaning there."""
    return value.replace("\\", "\\\\").replace("+", "\\+").replace(",", "\\,")
