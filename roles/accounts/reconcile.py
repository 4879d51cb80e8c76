"""What the directory must change to say what the registry says."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from roles.accounts.names import family_name, folded, given_name, local_part
from roles.accounts.registry import Person, Registry, Right, Unit
from roles.accounts.settings import AccountsSettings
from roles.common.errors import SiteError
from roles.directory.ldif import Attributes, Change, Entries, normalized, same_set

_MANAGED = frozenset(
    name.lower()
    for name in (
        "cn", "sn", "givenName", "displayName", "title", "telephoneNumber", "departmentNumber",
        "mail", "mailLocalAddress", "mailHost", "mailboxState", "mailboxStateSince",
        "mailboxQuota", "mailboxService", "mailboxGroup", "mailboxSendAs", "mailboxReader",
        "mailboxFiler", "mailboxSender", "owner", "unitKind", "unitParent", "searchName",
        "reservedFor", "reservedAs",
    )
)  # fmt: skip
"""Attributes that the registry decides; others on its entries are left alone."""
_LIFECYCLE = ("expiring", "departed", "archived", "purged")
"""States that a mailbox enters otherwise; the registry does not take them back."""


@dataclass(frozen=True)
class Target:
    """The directory that the registry is brought into."""

    base: str
    domain: str
    stores: Sequence[str]
    """Full names that `mailHost` may have."""
    role_addresses: Collection[str]
    """Local parts of the postmaster's mailbox."""
    settings: AccountsSettings
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def person(self, person_id: str) -> str:
        """DN of a person."""
        return f"employeeNumber={person_id},ou=people,{self.base}"

    def unit(self, code: str) -> str:
        """DN of a unit."""
        return f"ou={code},ou=units,{self.base}"

    def mailbox(self, code: str) -> str:
        """DN of a unit mailbox."""
        return f"cn={code},ou=mailboxes,{self.base}"

    def reservation(self, address: str) -> str:
        """DN of a reserved address."""
        return f"reservedAddress={address},ou=reservations,{self.base}"

    def address(self, local: str) -> str:
        """A full address."""
        return f"{local}@{self.domain}"


@dataclass(frozen=True)
class Mailbox:
    """A mailbox and its primary address."""

    dn: str
    address: str
    name: str


@dataclass(frozen=True)
class Plan:
    """Steps that bring the directory to what the registry says."""

    changes: tuple[Change, ...]
    words: tuple[str, ...]
    """Each step in words."""
    unmanaged: tuple[str, ...]
    """DNs of entries that the registry did not make."""
    people: Mapping[str, Mailbox]
    """Every person of the registry, by ID."""
    units: Mapping[str, Mailbox]
    """Every unit, by code."""
    new: tuple[str, ...]
    """IDs of people who need a first password."""


def reconcile(registry: Registry, present: Entries, target: Target) -> Plan:
    """Compare the registry with the directory.

    Args:
        registry: what shall be.
        present: every entry of the directory, by normalised DN.
        target: where it goes.

    Raises:
        SiteError: the registry wants what the directory cannot give, such as an address that is
            reserved for somebody else.
    """
    return _Reconciliation(registry, present, target).plan()


class _Reconciliation:
    """One comparison; what is worked out on the way is kept here."""

    def __init__(self, registry: Registry, present: Entries, target: Target) -> None:
        self.registry = registry
        self.target = target
        self.present = present
        self.mistakes: list[str] = []
        self.reserved: dict[str, tuple[str, str]] = {}
        """Address -> for whom (RDN), as what."""
        self.reserved_for: dict[str, list[str]] = {}
        """RDN -> the addresses reserved for it."""
        self.owners: dict[str, str] = {}
        """Address -> who has it or had it (RDN), in the directory."""
        self.former: dict[str, tuple[str, str]] = {}
        """Reservations to make."""
        self._read_present()

    def _read_present(self) -> None:
        for dn, attributes in self.present.items():
            if ",ou=reservations," in dn:
                address = attributes["reservedAddress"][0].lower()
                owner = attributes["reservedFor"][0].lower()
                self.reserved[address] = (owner, attributes.get("reservedAs", ["none"])[0])
                self.reserved_for.setdefault(owner, []).append(address)
                self.owners[address] = owner
        for dn, attributes in self.present.items():
            for address in _addresses(attributes):
                self.owners[address] = dn.partition(",")[0]

    # -- addresses -----------------------------------------------------------------------------

    def _role_addresses(self) -> list[str]:
        """Addresses of the postmaster. They go from unit to unit, but never to a person."""
        return sorted(self.target.address(name) for name in self.target.role_addresses)

    def _claim_role_addresses(self) -> None:
        own = f"cn={self.target.settings.postmaster_unit}"
        for address in self._role_addresses():
            owner = self.owners.get(address, own)
            if owner.startswith("employeenumber="):
                self.mistakes.append(
                    f"site.role_addresses: {address} is the address of {owner} in the "
                    "directory; expected an address that no person has or had"
                )
            self.owners[address] = own

    def _claim(self, local: str, dn: str, what: str) -> str:
        """An address that the registry names; it must not be, or have been, somebody else's."""
        address = self.target.address(local)
        own = normalized(dn).partition(",")[0]
        owner = self.owners.setdefault(address, own)
        if owner != own:
            reserved = "reserved for" if address in self.reserved else "the address of"
            self.mistakes.append(
                f"{what}: {address} is {reserved} {owner} in the directory; expected an address "
                "that nobody else has or had"
            )
        return address

    def _people_addresses(self) -> dict[str, str]:
        """Each person's primary address: the registry's, else the present, else a new one.

        New ones are given in the order of IDs, so the order of rows does not matter.
        """
        result: dict[str, str] = {}
        fresh: list[Person] = []
        for person in self.registry.people.values():
            dn = self.target.person(person.id)
            found = self.present.get(normalized(dn))
            if person.address:
                result[person.id] = self._claim(person.address, dn, f"person {person.id}")
            elif found and "mail" in found:
                result[person.id] = found["mail"][0].lower()
            else:
                fresh.append(person)
        for person in sorted(fresh, key=lambda person: _natural(person.id)):
            own = normalized(self.target.person(person.id)).partition(",")[0]
            wish, number = local_part(person.name), 1
            while True:
                local = wish if number == 1 else f"{wish}{number}"
                address = self.target.address(local)
                if self.owners.setdefault(address, own) == own:
                    break
                number += 1
            result[person.id] = address
        return result

    def _all_addresses(self, dn: str, primary: str, more: Iterable[str]) -> list[str]:
        """The primary address, the aliases, and those that a change of address left."""
        own, _, _ = normalized(dn).partition(",")
        found = self.present.get(normalized(dn), {})
        addresses = {primary, *more}
        addresses.update(
            address
            for address in self.reserved_for.get(own, [])
            if self.reserved[address][1] == "alias"
        )
        before = found.get("mail", [primary])[0].lower()
        if before != primary:
            self.former[before] = (own, "alias")
            addresses.add(before)
        return [primary, *sorted(addresses - {primary})]

    # -- entries -------------------------------------------------------------------------------

    def _store_name(self, alias: str) -> str:
        """A store's full name; none for none."""
        return f"{alias}.{self.target.domain}" if alias else ""

    def _store(self, dn: str, store: str, unit: str, what: str) -> str:
        """Where a mailbox lies: where it is, else where the registry says, else with its top unit.

        All of a department share one store, because a mailbox is shared within one store only: a
        new one goes to where the top unit's mailbox is, also after a store was added.
        """
        found = self.present.get(normalized(dn), {}).get("mailHost", [""])[0].lower()
        wish = self._store_name(store)
        if found:
            if wish and wish != found:
                self.mistakes.append(
                    f"{what}: column store: {store!r}, but the mailbox lies on {found}; expected "
                    "that store, or nothing: moving a mailbox is a job of its own"
                )
            return found
        root = self.registry.root(unit)
        top = self.present.get(normalized(self.target.mailbox(root)), {}).get("mailHost", [""])[0]
        return (
            wish
            or top.lower()
            # In the run that makes the top unit's mailbox, too.
            or self._store_name(self.registry.units[root].store)
            or max(
                self.target.stores,
                key=lambda name: hashlib.sha256(f"{name} {root}".encode()).digest(),
            )
        )

    def _state(self, dn: str, state: str) -> Attributes:
        found = self.present.get(normalized(dn), {})
        before = found.get("mailboxState", [""])[0]
        if before == state or before in _LIFECYCLE:
            since = found.get("mailboxStateSince", [])
            return {"mailboxState": [before], **({"mailboxStateSince": since} if since else {})}
        now = self.target.now.strftime("%Y%m%d%H%M%SZ")
        return {"mailboxState": [state], "mailboxStateSince": [now]}

    def _unit(self, unit: Unit) -> Attributes:
        return _filled(
            objectClass=["organizationalUnit", "unitProfile"],
            ou=[unit.code],
            displayName=[unit.name],
            unitKind=[unit.kind],
            unitParent=[self.target.unit(unit.parent)] if unit.parent else [],
            telephoneNumber=[unit.phone],
            owner=[self.target.person(unit.head)] if unit.head else [],
            searchName=[folded(unit.name)],
            managedBy=["registry"],
        )

    def wanted(self) -> tuple[dict[str, Attributes], dict[str, Mailbox], dict[str, Mailbox]]:
        """Every entry that shall be, by DN, and the mailboxes of people and units."""
        target, settings = self.target, self.target.settings
        result: dict[str, Attributes] = {}
        mailboxes: dict[str, Attributes] = {}
        units: dict[str, Mailbox] = {}
        self._claim_role_addresses()
        for unit in self.registry.units.values():
            result[target.unit(unit.code)] = self._unit(unit)
        for unit in self.registry.units.values():
            dn, what = target.mailbox(unit.code), f"unit {unit.code}"
            primary = self._claim(unit.code, dn, what)
            aliases = [self._claim(alias, dn, what) for alias in unit.aliases]
            if unit.code == settings.postmaster_unit:
                aliases += self._role_addresses()
            units[unit.code] = Mailbox(dn, primary, unit.name)
            mailboxes[unit.code] = _filled(
                objectClass=["unitMailbox", "inetLocalMailRecipient", "mailboxAccount"],
                cn=[unit.code],
                displayName=[unit.name],
                departmentNumber=[unit.code],
                mail=[primary],
                mailLocalAddress=self._all_addresses(dn, primary, aliases),
                mailHost=[self._store(dn, unit.store, unit.code, what)],
                **self._state(dn, "active"),
                mailboxService=["lmtp"],
                mailboxQuota=[str(unit.quota or settings.unit_quota)],
                owner=[target.person(unit.head)] if unit.head else [],
                searchName=[folded(unit.name)],
                managedBy=["registry"],
            )
        # Addresses that the registry names come before those that are made.
        aliases_of = {
            person.id: [
                self._claim(alias, target.person(person.id), f"person {person.id}")
                for alias in person.aliases
            ]
            for person in self.registry.people.values()
        }
        primaries = self._people_addresses()
        groups: dict[str, list[str]] = {}
        send_as: dict[str, list[str]] = {}
        for code, rights in sorted(self.registry.holders().items()):
            attributes = mailboxes[code]
            for right, name in _RIGHT_ATTRIBUTES:
                if holders := rights[right]:
                    attributes[name] = [target.person(holder) for holder in sorted(holders)]
            for holder in rights["read"]:
                groups.setdefault(holder, []).append(code)
            # The group whose rights the stores give to those who also file and delete.
            for holder in rights["file"]:
                groups.setdefault(holder, []).append(f"{code}+file")
            for holder in rights["send"]:
                send_as.setdefault(holder, []).extend(attributes["mailLocalAddress"])
        people: dict[str, Mailbox] = {}
        for person in self.registry.people.values():
            dn, primary = target.person(person.id), primaries[person.id]
            people[person.id] = Mailbox(dn, primary, person.name)
            result[dn] = _filled(
                objectClass=["inetOrgPerson", "inetLocalMailRecipient", "mailboxAccount"],
                employeeNumber=[person.id],
                cn=[person.name],
                displayName=[person.name],
                sn=[family_name(person.name)],
                givenName=[given_name(person.name)],
                title=[person.title],
                telephoneNumber=[person.phone],
                departmentNumber=[person.unit],
                mail=[primary],
                mailLocalAddress=self._all_addresses(dn, primary, aliases_of[person.id]),
                mailHost=[self._store(dn, person.store, person.unit, f"person {person.id}")],
                **self._state(dn, person.state),
                mailboxService=list(person.services or settings.services),
                mailboxQuota=[str(person.quota or settings.person_quota)],
                mailboxGroup=groups.get(person.id, []),
                mailboxSendAs=sorted(send_as.get(person.id, [])),
                searchName=[folded(person.name)],
                managedBy=["registry"],
            )
        for code, attributes in mailboxes.items():
            result[units[code].dn] = attributes
        self._check_stores(result, people, units)
        return result, people, units

    def _check_stores(
        self, entries: dict[str, Attributes], people: dict[str, Mailbox], units: dict[str, Mailbox]
    ) -> None:
        for code, rights in self.registry.holders().items():
            store = entries[units[code].dn]["mailHost"]
            for holder in sorted(rights["read"]):
                other = entries[people[holder].dn]["mailHost"]
                if other != store:
                    self.mistakes.append(
                        f"person {holder} reads the mailbox of {code}, but lies on {other[0]} and "
                        f"the mailbox on {store[0]}; expected both on one store"
                    )

    # -- the plan ------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Every step, in the order in which it may be cut off anywhere and done again."""
        wanted, people, units = self.wanted()
        by_key = {normalized(dn): dn for dn in wanted}
        unmanaged = []
        gone = []
        containers = {
            normalized(f"ou={name},{self.target.base}") for name in ("units", "people", "mailboxes")
        }
        for key, attributes in self.present.items():
            if key.partition(",")[2] not in containers:
                continue
            if attributes.get("managedBy") == ["registry"]:
                if key not in by_key:
                    gone.append(key)
            else:
                unmanaged.append(key)
                if key in by_key:
                    self.mistakes.append(
                        f"{by_key[key]}: is in the directory, but not made by the registry; "
                        "expected another ID or code, or its attribute managedBy set to registry"
                    )
        if self.mistakes:
            raise SiteError("\n".join(sorted(self.mistakes)))
        self._reserve_lost(wanted, by_key, gone)

        added: list[Change] = []
        modified: list[Change] = []
        for dn, attributes in wanted.items():
            found = self.present.get(normalized(dn))
            if found is None:
                added.append(Change("add", dn, attributes))
            elif differing := _differing(attributes, found):
                modified.append(Change("modify", dn, differing))
        freed = self._freed(added, modified)
        parents = set(gone)
        gone += [key for key in self.present if key.partition(",")[2] in parents]
        changes = [
            # An address is reserved before anybody loses it: a run that is cut off here forgets
            # nothing.
            *self._reservations(),
            *freed,
            *sorted(added, key=lambda change: _place(change.dn)),
            *sorted(modified, key=lambda change: _place(change.dn)),
            *(Change("delete", dn, {}) for dn in sorted(gone, key=_depth_and_place)),
        ]
        new = tuple(
            person_id
            for person_id, mailbox in sorted(people.items())
            if normalized(mailbox.dn) not in self.present
        )
        words = tuple(line for change in changes for line in self._words(change))
        return Plan(tuple(changes), words, tuple(sorted(unmanaged)), people, units, new)

    def _reserve_lost(
        self, wanted: dict[str, Attributes], by_key: Mapping[str, str], gone: Sequence[str]
    ) -> None:
        """Reserve what somebody loses: it is given to nobody else."""
        free = set(self._role_addresses())
        for key, found in self.present.items():
            if key not in by_key and key not in gone:
                continue
            keeps = _addresses(wanted[by_key[key]]) if key in by_key else set()
            for address in _addresses(found) - keeps - free:
                self.former.setdefault(address, (key.partition(",")[0], "none"))

    def _reservations(self) -> list[Change]:
        changes = []
        for address, (owner, kind) in sorted(self.former.items()):
            dn = self.target.reservation(address)
            if address not in self.reserved:
                attributes = _filled(
                    objectClass=["addressReservation"],
                    reservedAddress=[address],
                    reservedFor=[owner],
                    reservedAs=[kind],
                    validFrom=[self.target.now.strftime("%Y%m%d%H%M%SZ")],
                    managedBy=["registry"],
                )
                changes.append(Change("add", dn, attributes))
            elif self.reserved[address] != (owner, kind):
                values = {"reservedFor": [owner], "reservedAs": [kind]}
                changes.append(Change("modify", dn, values))
        return changes

    def _freed(self, added: Sequence[Change], modified: Sequence[Change]) -> list[Change]:
        """First steps for addresses that go from one mailbox to another in this very run."""
        gained = {address for change in added for address in _addresses(change.attributes)}
        lost: dict[str, set[str]] = {}
        for change in modified:
            before = _addresses(self.present[normalized(change.dn)])
            after = set(change.attributes.get("mailLocalAddress", before))
            gained |= after - before
            lost[change.dn] = before - after
        return [
            Change("modify", dn, {"mailLocalAddress": sorted(left)})
            for dn, addresses in lost.items()
            if addresses & gained
            and (left := _addresses(self.present[normalized(dn)]) - (addresses & gained))
        ]

    def _words(self, change: Change) -> list[str]:
        found = self.present.get(normalized(change.dn), {})
        what = _called(change.dn, {**found, **change.attributes})
        if change.kind == "add":
            return [f"+ {what}{_summary(change.attributes)}"]
        if change.kind == "delete":
            return [f"- {what}"]
        lines = []
        for name, values in change.attributes.items():
            before = next((v for k, v in found.items() if k.lower() == name.lower()), [])
            if name == "mailboxStateSince":
                continue
            if max(len(before), len(values)) <= 1:
                step = f"{_or_none(before)} -> {_or_none(values)}"
            else:
                gone = [f"-{_short(value)}" for value in before if value not in values]
                step = " ".join([*gone, *(f"+{_short(v)}" for v in values if v not in before)])
            lines.append(f"~ {what}: {name}: {step}")
        return lines


_RIGHT_ATTRIBUTES: tuple[tuple[Right, str], ...] = (
    ("read", "mailboxReader"),
    ("file", "mailboxFiler"),
    ("send", "mailboxSender"),
)


def with_passwords(plan: Plan, hashes: Mapping[str, str]) -> Plan:
    """The plan with the first password of each new person, by ID."""
    by_dn = {plan.people[person_id].dn: value for person_id, value in hashes.items()}
    changes = tuple(
        replace(change, attributes={**change.attributes, "userPassword": [by_dn[change.dn]]})
        if change.kind == "add" and change.dn in by_dn
        else change
        for change in plan.changes
    )
    return replace(plan, changes=changes)


def _filled(**attributes: list[str]) -> Attributes:
    """Attributes without those that are empty."""
    return {name: values for name, values in attributes.items() if any(values)}


def _addresses(attributes: Mapping[str, Sequence[str]]) -> set[str]:
    values = (*attributes.get("mail", ()), *attributes.get("mailLocalAddress", ()))
    return {address.lower() for address in values}


def _differing(wanted: Attributes, found: Attributes) -> Attributes:
    """The attributes that the registry decides and that differ."""
    result = {
        name: values
        for name, values in wanted.items()
        if name.lower() in _MANAGED and not same_set(name, values, found.get(name, []))
    }
    for name in found:
        if name.lower() in _MANAGED and name not in wanted:
            result[name] = []
    return result


def _natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts `9` before `10`."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _place(dn: str) -> tuple[int, str]:
    """Units before people before mailboxes: what is named is there before what names it."""
    for place, container in enumerate(("ou=units", "ou=people", "ou=mailboxes")):
        if f",{container}," in normalized(dn):
            return place, dn
    return len(dn), dn


def _depth_and_place(dn: str) -> tuple[int, int, str]:
    """What lies below an entry goes before it; mailboxes before people before units."""
    place, name = _place(dn)
    return -dn.count(","), -place, name


def _called(dn: str, attributes: Mapping[str, Sequence[str]]) -> str:
    """An entry in words."""
    rdn, _, above = normalized(dn).partition(",")
    value = rdn.partition("=")[2]
    name = " ".join(attributes.get("displayName", ()))
    address = "".join(attributes.get("mail", ())[:1])
    if above.startswith("ou=reservations"):
        return f"reserved address {value}"
    if above.startswith("ou=units"):
        return f"unit {value} ({name})"
    kind = "unit mailbox" if above.startswith("ou=mailboxes") else f"person {value}"
    return f"{kind} <{address}> ({name})"


def _summary(attributes: Mapping[str, Sequence[str]]) -> str:
    """What is worth knowing of a new entry."""
    names = (
        "departmentNumber", "title", "mailHost", "mailboxQuota", "mailboxGroup", "unitParent",
        "reservedFor", "reservedAs",
    )  # fmt: skip
    shown = [
        f"{name} {' '.join(_short(value) for value in attributes[name])}"
        for name in names
        if attributes.get(name)
    ]
    return f": {', '.join(shown)}" if shown else ""


def _short(value: str) -> str:
    """A DN by its first value, anything else as it is."""
    match = re.match(r"\w+=([^,]+),ou=(units|people|mailboxes),", value)
    return match[1] if match else value


def _or_none(values: Sequence[str]) -> str:
    return _short(values[0]) if values else "nothing"
