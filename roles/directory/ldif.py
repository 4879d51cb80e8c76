"""Directory entries as text and as values, and the least change that makes one the other."""

import base64
import re
from binascii import a2b_base64
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

Attributes = dict[str, list[str]]
"""An entry: the values of each attribute, under the attribute's name as it was written."""
Entries = dict[str, Attributes]
"""Entries by DN, as `normalized` writes it."""

OPERATIONAL = frozenset(
    (
        "structuralObjectClass", "entryUUID", "creatorsName", "createTimestamp", "entryCSN",
        "modifiersName", "modifyTimestamp", "contextCSN", "pwdChangedTime", "pwdFailureTime",
        "pwdAccountLockedTime", "pwdHistory", "pwdLastSuccess", "pwdGraceUseTime", "pwdReset",
        "pwdEndTime", "authTimestamp",
    )
)  # fmt: skip
"""What the server itself writes on an entry, as it spells it."""

_SAFE = re.compile(r"[!-9;=-~][ -~]*(?<! )|")
"""A value that LDIF may hold in clear (RFC 2849); a trailing space would be lost on the way."""


@dataclass(frozen=True)
class Change:
    """One step: an entry that is added, modified or deleted."""

    kind: Literal["add", "modify", "delete"]
    dn: str
    attributes: Mapping[str, Sequence[str]]
    """Of an entry to add: its values. To modify: the values an attribute shall have, none to
    remove it."""

    def ldif(self) -> str:
        """The step as `ldapmodify` reads it."""
        lines = [_line("dn", self.dn), f"changetype: {self.kind}"]
        for name, values in self.attributes.items():
            if self.kind == "modify":
                lines.append(f"replace: {name}")
            lines.extend(_line(name, value) for value in values)
            if self.kind == "modify":
                lines.append("-")
        return "\n".join(lines) + "\n\n"

    def entry(self) -> str:
        """An entry to add as `slapadd` reads it."""
        lines = [_line(name, value) for name, values in self.attributes.items() for value in values]
        return "\n".join([_line("dn", self.dn), *lines]) + "\n\n"


def _line(name: str, value: str) -> str:
    if _SAFE.fullmatch(value):
        return f"{name}: {value}"
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def normalized(dn: str) -> str:
    """A DN in one way of writing: lower case, no space around commas."""
    if " " in dn:
        dn = re.sub(r"\s*,\s*", ",", dn.strip())
    return dn.lower()


def parse(lines: Iterable[str]) -> Iterator[tuple[str, Attributes]]:
    """The entries of an LDIF text: each DN as written, and its attributes.

    Comments and `include:` lines are passed over; folded lines are joined.
    """
    dn = ""
    attributes: Attributes = {}
    # The last line is ended by a further one, for it may have been folded.
    held = "#"
    for line in chain(lines, ("", "#")):
        if line[:1] == " ":
            held += line[1:]
            continue
        whole, held = held, line
        if whole[:1] == "#":
            continue
        name, _, value = whole.partition(":")
        if value[:1] == ":":
            value = a2b_base64(value[1:]).decode(errors="surrogateescape")
        else:
            value = value.lstrip(" ")
        if name == "dn" or not name:
            if dn:
                yield dn, attributes
            dn, attributes = value, {}
        elif dn:
            if name in attributes:
                attributes[name].append(value)
            else:
                attributes[name] = [value]


def entries(lines: Iterable[str]) -> Entries:
    """The entries of an LDIF text by their normalised DN, without what the server itself writes."""
    result = {}
    for dn, attributes in parse(lines):
        for name in [name for name in attributes if name in OPERATIONAL]:
            del attributes[name]
        result[normalized(dn)] = attributes
    return result


def changed_attributes(
    wanted: Mapping[str, Sequence[str]],
    found: Mapping[str, Sequence[str]],
    equal: Callable[[str, Sequence[str], Sequence[str]], bool],
    ignored: Collection[str] = (),
) -> Attributes:
    """The attributes that differ, each with the values it shall have.

    Args:
        wanted: the entry as it shall be.
        found: the entry as it is.
        equal: whether two lists of values of an attribute mean the same.
        ignored: attributes, in lower case, that are left as they are.
    """
    have = {name.lower(): values for name, values in found.items()}
    want = {name.lower() for name in wanted}
    result = {
        name: list(values)
        for name, values in wanted.items()
        if name.lower() not in ignored and not equal(name, values, have.get(name.lower(), []))
    }
    for name in found:
        if name.lower() not in want and name.lower() not in ignored:
            result[name] = []
    return result


def same_set(_name: str, wanted: Sequence[str], found: Sequence[str]) -> bool:
    """Whether two lists hold the same values, in whatever order."""
    return len(wanted) == len(found) and (
        list(wanted) == list(found) or sorted(wanted) == sorted(found)
    )
