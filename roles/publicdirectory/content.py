"""What the public directory says: units as a tree, made from the directory's entries."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from roles.accounts.names import sort_key, text_key
from roles.directory.ldif import Attributes, normalized

LDAP_NAMES = {"phone": "telephoneNumber", "location": "postalAddress", "address": "mail"}
"""How the directory calls what the settings call otherwise."""
ATTRIBUTES = (
    "objectClass", "ou", "displayName", "unitKind", "unitParent", "owner", "telephoneNumber",
    "postalAddress", "directoryHidden", "directoryOrder", "cn", "mail", "title", "departmentNumber",
)  # fmt: skip
"""What is asked for; of these the directory gives what this account may read."""
_LAST = 10**9
"""Behind every place that is given."""


@dataclass(frozen=True)
class Public:
    """What the settings make public."""

    unit_attributes: frozenset[str]
    person_attributes: frozenset[str]
    people: bool


@dataclass(frozen=True)
class Person:
    """Somebody in service; what is not public is empty."""

    name: str
    title: str = ""
    phone: str = ""
    address: str = ""


@dataclass(frozen=True)
class Unit:
    """A unit, with the units below it in their order; what is not public is empty."""

    code: str
    name: str
    kind: str
    phone: str = ""
    location: str = ""
    """Postal address, on one line."""
    address: str = ""
    head: Person | None = None
    people: tuple[Person, ...] = ()
    """Without the head."""
    children: tuple["Unit", ...] = ()

    def all(self) -> Iterator["Unit"]:
        """The unit and every one below it."""
        yield self
        for child in self.children:
            yield from child.all()


def tree(entries: Iterable[tuple[str, Attributes]], public: Public) -> tuple[Unit, ...]:
    """The units at the top, in Vietnamese order.

    A unit that is hidden, or whose parent is, is left out with everything below it.

    Args:
        entries: units, unit mailboxes and people of the directory, each with its DN.
        public: what may be said.
    """
    units: dict[str, Attributes] = {}
    people: dict[str, Attributes] = {}
    addresses: dict[str, str] = {}
    for dn, attributes in entries:
        key = normalized(dn)
        if _has(attributes, "unitProfile"):
            units[key] = attributes
        elif _has(attributes, "inetOrgPerson"):
            people[key] = attributes
        elif _has(attributes, "unitMailbox"):
            addresses[_first(attributes, "cn").lower()] = _first(attributes, "mail").lower()

    members: dict[str, list[str]] = {}
    for key in _sorted(people, lambda person: sort_key(_first(person, "cn"))):
        if not _hidden(people[key], "*"):
            members.setdefault(_first(people[key], "departmentNumber").lower(), []).append(key)
    below: dict[str, list[str]] = {}
    for key in _sorted(units, lambda unit: text_key(_first(unit, "displayName"))):
        if not _hidden(units[key], "*"):
            below.setdefault(normalized(_first(units[key], "unitParent")), []).append(key)

    def person(key: str) -> Person:
        return _person(people[key], public.person_attributes)

    def unit(key: str) -> Unit:
        entry, code = units[key], _first(units[key], "ou").lower()
        head = normalized(_first(entry, "owner")) if "head" in public.unit_attributes else ""
        known = head in people and not _hidden(people[head], "*")
        found = _unit(entry, addresses.get(code, ""), public.unit_attributes)
        return replace(
            found,
            head=person(head) if known else None,
            people=tuple(person(member) for member in members.get(code, []) if member != head)
            if public.people
            else (),
            children=tuple(unit(child) for child in below.get(key, [])),
        )

    return tuple(unit(key) for key in below.get("", []))


def _unit(entry: Attributes, address: str, public: Collection[str]) -> Unit:
    def shown(what: str, value: str) -> str:
        return value if what in public and not _hidden(entry, LDAP_NAMES[what]) else ""

    code = _first(entry, "ou").lower()
    return Unit(
        code=code,
        name=_first(entry, "displayName") or code,
        kind=_first(entry, "unitKind").lower(),
        phone=shown("phone", _first(entry, "telephoneNumber")),
        location=shown("location", _postal(_first(entry, "postalAddress"))),
        address=shown("address", address),
    )


def _person(entry: Attributes, public: Collection[str]) -> Person:
    def shown(what: str) -> str:
        name = LDAP_NAMES.get(what, what)
        return _first(entry, name) if what in public and not _hidden(entry, name) else ""

    return Person(_first(entry, "cn"), shown("title"), shown("phone"), shown("address").lower())


def _sorted(
    entries: Mapping[str, Attributes], by_name: Callable[[Attributes], object]
) -> list[str]:
    """DNs in order: by their place where they have one, the others behind by their names."""

    def key(dn: str) -> tuple[int, object, str]:
        place = _first(entries[dn], "directoryOrder")
        return int(place) if place else _LAST, by_name(entries[dn]), dn

    return sorted(entries, key=key)


def _has(attributes: Attributes, name: str) -> bool:
    return name.lower() in (value.lower() for value in attributes.get("objectClass", []))


def _hidden(attributes: Attributes, name: str) -> bool:
    hidden = [value.lower() for value in attributes.get("directoryHidden", [])]
    return "*" in hidden or name.lower() in hidden


def _first(attributes: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(attributes.get(name, ())), "")


def _postal(value: str) -> str:
    r"""A postal address by RFC 4517, on one line: `$` ends a line, `\24` is a dollar."""
    lines = (line.strip() for line in value.split("$"))
    return ", ".join(
        line.replace("\\24", "$").replace("\\5C", "\\").replace("\\5c", "\\")
        for line in lines
        if line
    )
