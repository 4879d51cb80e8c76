"""cn=config: what a running slapd must change to be what its LDIF says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from roles.common.redaction import MASK
from roles.directory.ldif import Attributes, Change, changed_attributes, entries

_OFFLINE = frozenset(
    name.lower()
    for name in (
        "olcModuleLoad", "olcAttributeTypes", "olcObjectClasses", "olcObjectIdentifier",
        "olcSuffix", "olcDbDirectory", "olcDbIndex",
    )
)  # fmt: skip
"""What slapd does not change while it runs, or only in part; an index that it builds by the way is
incomplete for ever if it is stopped meanwhile."""
_NAMING = frozenset({"cn", "olcdatabase", "olcoverlay", "objectclass"})
_CREDENTIAL = re.compile(r"(?i)\b(?:credentials|\w*pw|\w*passw\w*|\w*secret)\s*=")
"""In a value: what follows is a password, as in `olcSyncrepl` or `olcDbIDAssertBind`."""
_PASSWORD = re.compile(r"(?i).*(?:pw|password)")
"""Names of attributes that are one, such as `olcRootPW`."""
_INCLUDE = re.compile(r"^include: file:///etc/ldap/schema/(\w+)\.ldif$", re.MULTILINE)


@dataclass(frozen=True)
class Difference:
    """What separates a configuration from what it shall be."""

    rebuild: tuple[str, ...]
    """Why it can only be built anew with slapd stopped; the data stays."""
    reindex: bool
    """Whether indexes change."""
    changes: tuple[Change, ...]
    """Otherwise: what a running slapd changes."""
    words: tuple[str, ...]
    """Every difference, for the plan; secrets of the site appear in what is wanted only."""


def difference(wanted: str, found: str) -> Difference:
    """Compare the LDIF that was written with what `slapcat -n0` prints.

    Entries and values that cn=config numbers, `{n}`, are matched by name and compared in order.

    Args:
        wanted: the LDIF that seeds a configuration.
        found: the configuration as it is.
    """
    want = {_key(dn): attributes for dn, attributes in entries(wanted.splitlines()).items()}
    standard = {f"cn={name},cn=schema,cn=config" for name in _INCLUDE.findall(wanted)}
    present = entries(found.splitlines())
    have = {_key(dn): dn for dn in present}

    rebuild = [f"{key}: missing" for key in [*want, *sorted(standard)] if key not in have]
    rebuild += [f"{key}: not expected" for key in have if key not in want and key not in standard]
    if not rebuild and list(want) != [key for key in have if key in want]:
        rebuild.append("the order of databases or overlays")
    changes, words = [], []
    reindex = False
    for key, attributes in want.items():
        if key not in have:
            continue
        dn = have[key]
        differing = changed_attributes(attributes, present[dn], _equal, _NAMING)
        rebuild += [f"{key}: {name}" for name in differing if name.lower() in _OFFLINE]
        reindex = reindex or "olcDbIndex" in differing
        words += _words(key, differing, present[dn])
        if differing:
            changes.append(Change("modify", dn, differing))
    return Difference(tuple(rebuild), reindex, tuple(changes), tuple(words))


def _key(dn: str) -> str:
    """A normalised DN without numbers; databases keep theirs, for several are named `mdb`."""
    return re.sub(r"(?<!olcdatabase=)\{-?\d+\}", "", dn)


def _plain(value: str) -> str:
    return " ".join(re.sub(r"^\{-?\d+\}", "", value).split())


def _equal(_name: str, wanted: Sequence[str], found: Sequence[str]) -> bool:
    want, have = [_plain(value) for value in wanted], [_plain(value) for value in found]
    numbered = any(re.match(r"\{-?\d+\}", value) for value in found)
    return want == have if numbered else sorted(want) == sorted(have)


def _words(key: str, differing: Attributes, present: Attributes) -> list[str]:
    lines = []
    for name, values in differing.items():
        want = [_plain(value) for value in values]
        have = [_plain(value) for value in present.get(name, [])]
        # The former password may be in use still: nothing is shown of a value that holds one.
        secret = _PASSWORD.fullmatch(name) or any(map(_CREDENTIAL.search, [*want, *have]))
        gone = [
            f"{key}: - {name}: {MASK if secret else value}" for value in have if value not in want
        ]
        new = [f"{key}: + {name}: {value}" for value in want if value not in have]
        lines += [*gone, *new] or [f"{key}: {name}: another order"]
    return lines
