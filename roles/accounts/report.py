"""A plan in words: what becomes of whom, unit by unit."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from roles.accounts.lifecycle import IN_SERVICE, one, written
from roles.accounts.registry import EVERY_UNIT
from roles.directory.ldif import Attributes, Change, Entries, normalized

_KINDS = (
    "created", "back", "renamed", "moved", "new address", "locked", "unlocked", "expiring",
    "departed", "changed", "delegation given", "delegation changed", "delegation ended",
    "unit removed", "list removed", "domain removed", "address reserved", "address free",
)  # fmt: skip
"""What a step can be, in the order in which a unit's are shown."""
_WITH_NAME = frozenset(("cn", "sn", "givenname", "searchname"))
"""What follows from the name."""
_WITH_STATE = frozenset(("mailboxstatesince", "mailboxretainuntil", "mailboxexpires"))
_MOMENT = re.compile(r"\d{14}Z")
_LISTS, _DOMAINS, _ADDRESSES = "~1", "~2", "~3"
"""Sort behind every unit: what belongs to none."""
_HEADINGS = {
    _LISTS: "Distribution lists", _DOMAINS: "Further domains", _ADDRESSES: "Addresses",
}  # fmt: skip
_CONTAINERS = ("ou=units,", "ou=people,", "ou=mailboxes,", "ou=lists,", "ou=domains,")
_AHEAD = timedelta(days=30)
"""How far ahead a plan tells what time alone will bring."""
_MANY = 8
"""More values than these are counted where a new entry is shown."""


class _Line(NamedTuple):
    unit: str
    kind: str
    text: str


def report(
    changes: Sequence[Change], present: Entries, wanted: Entries, timezone: str
) -> tuple[str, ...]:
    """The steps of a plan: a heading a unit, its steps, and a line that counts.

    Args:
        changes: the steps.
        present: the directory as it is.
        wanted: the registry's entries as they shall be; by normalised DN, as `present`.
        timezone: by whose clock moments are shown.
    """
    zone = ZoneInfo(timezone)
    lines = [line for change in changes for line in _lines(change, present, wanted, zone)]
    if not lines:
        return ()
    names = {
        one(entry, "ou"): one(entry, "displayName")
        for entries in (present, wanted)
        for dn, entry in entries.items()
        if ",ou=units," in dn
    }
    result = []
    lines.sort(key=lambda line: (line.unit, _KINDS.index(line.kind), line.text))
    for unit, own in groupby(lines, key=lambda line: line.unit):
        result.append(_HEADINGS.get(unit) or f"{names.get(unit, unit)} ({unit})")
        result += [f"  {line.kind}: {line.text}" for line in own]
    counts = Counter(line.kind for line in lines)
    result.append(", ".join(f"{counts[kind]} {kind}" for kind in _KINDS if counts[kind]))
    return tuple(result)


def ahead(wanted: Entries, now: datetime, timezone: str) -> tuple[str, ...]:
    """What time alone will bring to mailboxes within the next days, once the plan was carried out.

    Args:
        wanted: the registry's entries as they shall be; by normalised DN.
        now: the moment that counts.
        timezone: by whose clock moments are shown.
    """
    zone, last = ZoneInfo(timezone), written(now + _AHEAD)
    found = []
    for dn, entry in wanted.items():
        state = one(entry, "mailboxState")
        if state in IN_SERVICE:
            moment, what = one(entry, "mailboxExpires"), "departs"
        else:
            moment = one(entry, "mailboxRetainUntil")
            what = "is archived" if state == "departed" else "is purged"
        if moment and moment <= last:
            rdn, _, above = dn.partition(",")
            found.append((moment, f"{_described(above, rdn, entry)[1]} {what}"))
    if not found:
        return ()
    heading = f"By time alone, within {_AHEAD.days} days"
    return heading, *(f"  {_clock(moment, zone)}: {what}" for moment, what in sorted(found))


def _lines(change: Change, present: Entries, wanted: Entries, zone: ZoneInfo) -> list[_Line]:
    key = normalized(change.dn)
    before, after = _local(present.get(key, {}), zone), _local(wanted.get(key, {}), zone)
    change = replace(change, attributes=_local(change.attributes, zone))
    rdn, _, above = key.partition(",")
    entry = {**before, **after} or change.attributes
    if above.startswith("ou=reservations,"):
        return [_reservation(change, rdn, before)]
    if "delegate" in entry:
        return [_delegation(change, above, before, after)]
    if not above.startswith(_CONTAINERS):
        # Below a person who comes back.
        owner = wanted.get(above, {})
        text = f"person {one(owner, 'employeeNumber')}: the former password {rdn} goes"
        return [_Line(one(owner, "departmentNumber"), "changed", text)]
    unit, what = _described(above, rdn, entry)
    if change.kind == "add":
        return [_Line(unit, "created", f"{what}{_summary(change.attributes)}")]
    if change.kind == "delete":
        kind = {"list": "list removed", "domain": "domain removed"}.get(what.partition(" ")[0])
        return [
            _Line(unit, kind, f"{what}: mail to it is refused")
            if kind
            else _Line(unit, "unit removed", "its mailbox departs")
        ]
    return [_Line(unit, kind, f"{what}: {text}") for kind, text in _modified(change, before, after)]


def _described(above: str, rdn: str, entry: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Under which unit an entry is shown, and what it is."""
    unit = one(entry, "departmentNumber")
    if above.startswith("ou=units,"):
        return one(entry, "ou"), "unit"
    if above.startswith("ou=mailboxes,"):
        return unit, f"unit mailbox <{one(entry, 'mail')}>"
    if above.startswith("ou=lists,"):
        what = f"list <{one(entry, 'mail')}> {one(entry, 'displayName')}"
        return _LISTS if unit in ("", EVERY_UNIT) else unit, what
    if above.startswith("ou=domains,"):
        return _DOMAINS, f"domain {rdn.partition('=')[2]}"
    number, name = one(entry, "employeeNumber"), one(entry, "displayName")
    return unit, f"person {number} <{one(entry, 'mail')}> {name}"


def _modified(change: Change, before: Attributes, after: Attributes) -> Iterable[tuple[str, str]]:
    found = {name.lower(): values for name, values in before.items()}
    names = {name.lower() for name in change.attributes}
    follows = _WITH_NAME if "displayname" in names else frozenset()
    follows |= _WITH_STATE if "mailboxstate" in names else frozenset()
    if change.attributes.get("mailLocalAddress") == []:
        yield "changed", "was purged, has no address any more"
        return
    for name, values in change.attributes.items():
        lower = name.lower()
        was = found.get(lower, [])
        if lower == "mailboxstate":
            yield _state(one(before, "mailboxState"), after)
        elif lower == "displayname":
            yield "renamed", f"was {' '.join(was)}"
        elif lower == "departmentnumber":
            yield "moved", f"from {' '.join(was)} to {' '.join(values)}"
        elif lower == "mail":
            yield "new address", f"was {' '.join(was)}"
        elif lower in follows:
            continue
        elif lower == "inforce":
            yield "changed", "counts now" if values == ["TRUE"] else "does not count now"
        elif lower == "mailboxexpires":
            until = values[0] if values else "none"
            yield "expiring" if values else "changed", f"end of service: {until}"
        else:
            yield "changed", f"{name}: {_difference(was, values)}"


def _state(before: str, after: Attributes) -> tuple[str, str]:
    state = one(after, "mailboxState")
    if before not in IN_SERVICE and state in IN_SERVICE:
        return "back", f"{before} -> {state}, with a new first password"
    if state == "locked":
        return "locked", "receives, but nobody logs in"
    if state == "departed":
        until = one(after, "mailboxRetainUntil")
        return "departed", f"closed; its mail is kept until {until}"
    if before == "locked":
        return "unlocked", f"{state}{_expiry(after)}"
    return ("expiring" if state == "expiring" else "changed"), f"{state}{_expiry(after)}"


def _expiry(after: Attributes) -> str:
    return f" until {after['mailboxExpires'][0]}" if "mailboxExpires" in after else ""


def _delegation(change: Change, above: str, before: Attributes, after: Attributes) -> _Line:
    code = above.partition(",")[0].partition("=")[2]
    entry = after or before
    who = f"person {_short(one(entry, 'delegate'))}"
    if change.kind == "delete":
        return _Line(code, "delegation ended", f"{who}: {_given(before)}")
    if change.kind == "add":
        return _Line(code, "delegation given", f"{who}: {_given(after)}")
    return _Line(code, "delegation changed", f"{who}: {_given(before)} -> {_given(after)}")


def _given(entry: Attributes) -> str:
    since = f" from {one(entry, 'validFrom')}" if "validFrom" in entry else ""
    until = f" until {one(entry, 'validUntil')}" if "validUntil" in entry else ""
    return f"{' '.join(sorted(entry.get('delegationRight', ())))}{since}{until}"


def _reservation(change: Change, rdn: str, before: Attributes) -> _Line:
    address = rdn.partition("=")[2]
    if change.kind == "delete":
        return _Line(_ADDRESSES, "address free", f"{address}: no reservation any more")
    entry = {**before, **change.attributes}
    use = "stays an alias" if one(entry, "reservedAs") == "alias" else "is given to nobody else"
    text = f"{address} of {one(entry, 'reservedFor')}: {use} until {one(entry, 'validUntil')}"
    return _Line(_ADDRESSES, "address reserved", text)


def _summary(attributes: Mapping[str, Sequence[str]]) -> str:
    """What is worth knowing of a new entry."""
    names: tuple[str, ...] = (
        "title", "mailHost", "mailboxQuota", "mailboxState", "mailboxGroup", "unitParent",
    )  # fmt: skip
    if "listScope" in attributes:
        names = (
            "listScope", "departmentNumber", "member", "listPoster", "owner", "validFrom",
            "validUntil",
        )  # fmt: skip
    elif "associatedDomain" in attributes:
        names = ("validFrom", "validUntil")
    shown = [
        f"{name} {_values(attributes[name])}"
        for name in names
        if attributes.get(name) and attributes[name] != ["active"]
    ]
    return f": {', '.join(shown)}" if shown else ""


def _values(values: Sequence[str]) -> str:
    if len(values) > _MANY:
        return f"({len(values)})"
    return " ".join(_short(value) for value in values)


def _difference(before: Sequence[str], after: Sequence[str]) -> str:
    if max(len(before), len(after)) <= 1:
        return f"{_or_none(before)} -> {_or_none(after)}"
    gone = [f"-{_short(value)}" for value in before if value not in after]
    return " ".join([*gone, *(f"+{_short(value)}" for value in after if value not in before)])


def _short(value: str) -> str:
    """A DN by its first value, anything else as it is."""
    match = re.match(r"\w+=([^,]+),ou=(units|people|mailboxes|lists),", value)
    return match[1] if match else value


def _or_none(values: Sequence[str]) -> str:
    return _short(values[0]) if values else "nothing"


def _local(attributes: Mapping[str, Sequence[str]], zone: ZoneInfo) -> Attributes:
    """Attributes with every moment as a clock shows it."""
    return {
        name: [_clock(value, zone) if _MOMENT.fullmatch(value) else value for value in values]
        for name, values in attributes.items()
    }


@lru_cache(maxsize=1024)
def _clock(moment: str, zone: ZoneInfo) -> str:
    utc = datetime.strptime(moment, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    return f"{utc.astimezone(zone):%Y-%m-%d %H:%M}"
