"""What the directory must change to say what the registry says."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from roles.accounts.lifecycle import (
    IN_SERVICE,
    NO_DOMAIN,
    RIGHT_ATTRIBUTES,
    Keep,
    applied,
    departure,
    groups,
    handover_group,
    in_force,
    old_addresses,
    one,
    over,
    owner_name,
    purged_addresses,
    rights,
    written,
)
from roles.accounts.names import folded, local_part, taken_apart
from roles.accounts.registry import (
    Delegation,
    Hidden,
    MailDomain,
    MailList,
    Person,
    Registry,
    State,
    Unit,
)
from roles.accounts.report import ahead, report
from roles.accounts.settings import AccountsSettings
from roles.common.errors import SiteError
from roles.directory.ldif import Attributes, Change, Entries, normalized, same_set

_DECIDED = (
    "cn", "sn", "givenName", "displayName", "title", "telephoneNumber", "departmentNumber",
    "mail", "mailLocalAddress", "mailHost", "mailRoutingAddress", "mailboxState",
    "mailboxStateSince", "mailboxExpires", "mailboxRetainUntil", "mailboxSuccessor",
    "mailboxQuota", "mailboxService", "mailboxGroup", "mailboxSendAs", "mailboxReader",
    "mailboxFiler", "mailboxSender", "owner", "unitKind", "unitParent", "searchName",
    "postalAddress", "directoryHidden", "directoryOrder", "delegate", "delegationRight",
    "validFrom", "validUntil", "inForce", "listScope", "listPoster", "member", "memberURL",
)  # fmt: skip
"""Attributes that the registry decides, as the schema spells them; others on its entries are left
alone."""
_MANAGED = frozenset(name.lower() for name in _DECIDED)
READ = (
    *_DECIDED, "employeeNumber", "ou", "managedBy", "reservedAddress", "reservedFor", "reservedAs",
)  # fmt: skip
"""Attributes that `reconcile` looks at."""
_DERIVED = frozenset(
    name.lower()
    for name in (
        "mailRoutingAddress", "mailboxGroup", "mailboxSendAs", "mailboxReader", "mailboxFiler",
        "mailboxSender", "owner",
    )
)  # fmt: skip
"""What a mailbox loses that departs."""
_HIDDEN: Mapping[Hidden, str] = {
    "phone": "telephoneNumber", "address": "mail", "location": "postalAddress", "*": "*",
}  # fmt: skip
"""What the registry calls an attribute that the public directory leaves out."""


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
    timezone: str = "Asia/Ho_Chi_Minh"
    """Where the registry's days begin."""
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

    def mail_list(self, address: str) -> str:
        """DN of a distribution list, by the part of its address before the @."""
        return f"cn={address},ou=lists,{self.base}"

    def mail_domain(self, name: str) -> str:
        """DN of a further mail domain."""
        return f"associatedDomain={name},ou=domains,{self.base}"

    def reservation(self, address: str) -> str:
        """DN of a reserved address."""
        return f"reservedAddress={address},ou=reservations,{self.base}"

    def delegation(self, name: str, code: str) -> str:
        """DN of a delegation."""
        return f"cn={name},{self.mailbox(code)}"

    def address(self, local: str) -> str:
        """A full address."""
        return f"{local}@{self.domain}"

    def begin(self, day: date | None) -> str:
        """When a day begins, as the directory has it; empty for none."""
        if day is None:
            return ""
        return written(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.timezone)))

    def end(self, day: date | None) -> str:
        """When a day is over."""
        return self.begin(day + timedelta(days=1)) if day else ""

    @property
    def keep(self) -> Keep:
        """How long something outlasts its end."""
        return Keep(
            timedelta(seconds=self.settings.departed_keep),
            timedelta(seconds=self.settings.reservation_keep),
        )


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
    """The steps in words, by unit; empty where there is none."""
    unmanaged: tuple[str, ...]
    """DNs of entries that the registry did not make."""
    people: Mapping[str, Mailbox]
    """Every person of the registry who is in service, by ID."""
    units: Mapping[str, Mailbox]
    """Every unit, by code."""
    new: tuple[str, ...]
    """IDs of people who need a first password."""
    returning: Mapping[str, str] = field(default_factory=dict)
    """Those among them who had departed, and since when."""
    removals: int = 0
    """Mailboxes that would be locked or depart, by the registry and not by time alone."""
    in_service: int = 0
    """Mailboxes that are in service now."""
    coming: tuple[str, ...] = ()
    """What time alone will bring, in words; no step of this plan."""


def reconcile(registry: Registry, present: Entries, target: Target) -> Plan:
    """Compare the registry with the directory.

    Args:
        registry: what shall be.
        present: every entry of the directory, by normalised DN, with the attributes `READ`.
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
        self.now = written(target.now)
        self.closed = [
            step.change for step in purged_addresses(present, target.base, self.now, target.keep)
        ]
        """What time alone brings to mailboxes that were purged; the rest follows it."""
        self.before = present
        self.present = present = applied(present, self.closed)
        self.mistakes: list[str] = []
        self.reserved: dict[str, tuple[str, str]] = {}
        """Address -> for whom (RDN), as what."""
        self.reserved_for: dict[str, list[str]] = {}
        """RDN -> the addresses reserved for it."""
        self.owners: dict[str, str] = {}
        """Address -> who has it or had it (RDN), in the directory."""
        self.former: dict[str, tuple[str, str]] = {}
        """Reservations to make."""
        self.rules: dict[tuple[str, str], Any] = {}
        """Unit and name of a setting -> as it holds there."""
        self.stated: dict[str, str] = {}
        """Address -> who has it by the registry (RDN), other than for having been renamed."""
        self.ended = [
            step.change
            for step in old_addresses(present, target.base, self.now, target.keep)
            if ",ou=reservations," in step.change.dn
        ]
        """Reservations that time ended."""
        self.ended_aliases = {
            _reserved_address(change.dn)
            for change in self.ended
            if one(present[change.dn], "reservedAs") == "alias"
        }
        self._read_present()

    def _read_present(self) -> None:
        ended = {change.dn: change for change in self.ended}
        for dn, attributes in self.present.items():
            if ",ou=reservations," in dn:
                if dn in ended and ended[dn].kind == "delete":
                    continue
                address = attributes["reservedAddress"][0].lower()
                owner = attributes["reservedFor"][0].lower()
                kind = "none" if dn in ended else one(attributes, "reservedAs") or "none"
                self.reserved[address] = (owner, kind)
                self.reserved_for.setdefault(owner, []).append(address)
                self.owners[address] = owner
        for dn, attributes in self.present.items():
            for address in _addresses(attributes):
                self.owners[address] = owner_name(dn)

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
        own = owner_name(dn)
        owner = self.owners.setdefault(address, own)
        if owner != own and self._goes_on(owner, own):
            self.owners[address] = owner = own
        if owner != own:
            reserved = "reserved for" if address in self.reserved else "the address of"
            self.mistakes.append(
                f"{what}: {address} is {reserved} {owner} in the directory; expected an address "
                "that nobody else has or had"
            )
        self.stated[address] = own
        return address

    def _goes_on(self, owner: str, to: str) -> bool:
        """Whether an address may go from one to another: from list to list, for nobody reads them.

        The registry does not give it to both.
        """
        lists = owner.endswith(",ou=lists") and to.endswith(",ou=lists")
        entry = self.present.get(normalized(f"{owner},{self.target.base}"))
        return lists and (entry is None or one(entry, "managedBy") == "registry")

    def _purged(self, dn: str, wish: State = "departed", until: date | None = None) -> bool:
        """Whether a mailbox was purged, and stays so: it has no address."""
        found = self.present.get(normalized(dn), {})
        purged = one(found, "mailboxState") == "purged" and "mailLocalAddress" not in found
        return purged and one(self._life(dn, wish, until), "mailboxState") == "purged"

    def _people_addresses(self) -> dict[str, str]:
        """Each person's primary address: the registry's, else the present, else a new one.

        New ones are given in the order of IDs, so the order of rows does not matter.
        """
        result: dict[str, str] = {}
        fresh: list[Person] = []
        for person in self.registry.people.values():
            dn = self.target.person(person.id)
            found = self.present.get(normalized(dn))
            if found and self._purged(dn, person.state, person.until):
                result[person.id] = found["mail"][0]
            elif person.address:
                result[person.id] = self._claim(person.address, dn, f"person {person.id}")
            elif found and _addresses(found):
                result[person.id] = found["mail"][0].lower()
            else:
                fresh.append(person)
        for person in sorted(fresh, key=lambda person: _natural(person.id)):
            own = normalized(self.target.person(person.id)).partition(",")[0]
            wish = local_part(person.name, self.target.settings.address_policy)
            number = 1
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
        self.stated[primary] = own
        before = one(found, "mail").lower()
        former = before not in addresses and before in _addresses(found)
        if former and self.target.settings.alias_keep:
            self.former[before] = (own, "alias")
            addresses.add(before)
        return [primary, *sorted(addresses - {primary})]

    # -- entries -------------------------------------------------------------------------------

    def _store_name(self, alias: str) -> str:
        """A store's full name; none for none."""
        return f"{alias}.{self.target.domain}" if alias else ""

    def _store(self, dn: str, store: str, unit: str, place: str) -> str:
        """Where a mailbox lies: where it is, else where the registry says, else with its top unit.

        All of a department share one store, because a mailbox is shared within one store only: a
        new one goes to where the top unit's mailbox is, also after a store was added.
        """
        found = self.present.get(normalized(dn), {}).get("mailHost", [""])[0].lower()
        wish = self._store_name(store)
        if found:
            if wish and wish != found:
                where = self.registry.store_places.get(place, f"{place}: column store")
                self.mistakes.append(
                    f"{where}: {store!r}, but the mailbox lies on {found}; expected "
                    f"{_alias(found)!r}, or nothing, or the mailbox moved: "
                    f"{_move(store, place.partition('/')[2])}"
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

    def _life(self, dn: str, wish: State, until: date | None = None) -> Attributes:
        """The state of a mailbox, since when, and what comes with it.

        Args:
            dn: the mailbox.
            wish: what the registry says.
            until: the last day of service, that day included.
        """
        found = self.present.get(normalized(dn), {})
        before, ended = one(found, "mailboxState"), one(found, "mailboxExpires")
        end = self.target.end(until)
        expires = {"mailboxExpires": [end]} if end else {}
        if wish == "departed" or over(end, self.now):
            if before and before not in IN_SERVICE:
                names = ("mailboxState", "mailboxStateSince", "mailboxRetainUntil")
                return expires | {name: found[name] for name in names if name in found}
            since = ended if over(ended, self.now) else self.now
            return expires | departure(found, since, self.target.keep)
        state = "expiring" if end and wish == "active" else wish
        since = one(found, "mailboxStateSince") if before == state else self.now
        return expires | _filled(mailboxState=[state], mailboxStateSince=[since])

    def _vanished(self, dn: str) -> Attributes:
        """A mailbox whose row is gone from the registry: it departs, with its addresses."""
        found = self.present[dn]
        own = dn.partition(",")[0]
        result = {
            name: values for name, values in found.items() if name.lower() in _MANAGED - _DERIVED
        } | self._life(dn, "departed")
        result["mailLocalAddress"] = [
            address
            for address in found.get("mailLocalAddress", [])
            if self.owners[address.lower()] == own
            and (
                address in found["mail"]
                or (
                    address.lower() not in self.ended_aliases
                    and self.reserved.get(address.lower()) != (own, "none")
                )
            )
        ]
        return {name: values for name, values in result.items() if values}

    def _rule(self, code: str, name: str) -> Any:
        """A setting as it holds in a unit: by its rule, by a unit's above, or by the province's."""
        if (code, name) not in self.rules:
            settings, units = self.target.settings, self.registry.units
            above = code
            while above and getattr(settings.unit_rules.get(above), name, None) is None:
                above = units[above].parent
            self.rules[code, name] = getattr(settings.unit_rules.get(above, settings), name)
        return self.rules[code, name]

    def _unit(self, unit: Unit) -> Attributes:
        return _filled(
            objectClass=["organizationalUnit", "unitProfile"],
            ou=[unit.code],
            displayName=[unit.name],
            unitKind=[unit.kind],
            unitParent=[self.target.unit(unit.parent)] if unit.parent else [],
            telephoneNumber=[unit.phone],
            # `$` parts the lines of such a value (RFC 4517).
            postalAddress=[unit.location.replace("\\", "\\5C").replace("$", "\\24")],
            owner=[self.target.person(unit.head)] if unit.head else [],
            searchName=[folded(unit.name)],
            directoryHidden=[_HIDDEN[name] for name in unit.hidden],
            directoryOrder=_number(unit.order),
            managedBy=["registry"],
        )

    def _lists_addresses(self) -> dict[str, list[str]]:
        """Each list's addresses, the primary one first."""
        result = {}
        for one_ in self.registry.lists.values():
            dn, what = self.target.mail_list(one_.address), f"list {one_.address}"
            names = (one_.address, *sorted(one_.aliases))
            result[one_.address] = [self._claim(name, dn, what) for name in names]
        return result

    def _lists(
        self, addresses: Mapping[str, list[str]], primaries: Mapping[str, str]
    ) -> dict[str, Attributes]:
        """The entries of distribution lists and further domains, by DN."""
        result = {
            self.target.mail_list(name): self._list(one_, addresses[name], primaries)
            for name, one_ in self.registry.lists.items()
        }
        for name, domain in self.registry.domains.items():
            result[self.target.mail_domain(name)] = _filled(
                objectClass=["mailDomain"],
                associatedDomain=[name],
                **self._days(domain),
                managedBy=["registry"],
            )
        return result

    def _list(
        self, wanted: MailList, addresses: list[str], primaries: Mapping[str, str]
    ) -> Attributes:
        """The entry of a distribution list (roles/directory/files/schema.ldif)."""
        target, registry = self.target, self.registry
        members = {self._named(word) for word in wanted.members}
        scope = wanted.scope
        if scope == "heads":
            heads = {registry.units[code].head for code in registry.below(wanted.unit)} - {""}
            members |= {target.person(head) for head in heads}
            scope = "members"
        posters = {
            primaries.get(word) or (target.address(word) if word in registry.units else word)
            for word in wanted.posters
        }
        return _filled(
            objectClass=["mailList"],
            cn=[wanted.address],
            displayName=[wanted.name],
            mail=addresses[:1],
            mailLocalAddress=addresses,
            listScope=[scope],
            departmentNumber=[wanted.unit],
            member=sorted(members),
            listPoster=sorted(posters),
            owner=[self._named(wanted.owner)] if wanted.owner else [],
            searchName=[folded(wanted.name)],
            **self._days(wanted),
            managedBy=["registry"],
        )

    def _named(self, word: str) -> str:
        """DN of the person, unit mailbox or list that a word of the registry names."""
        if word in self.registry.people:
            return self.target.person(word)
        if word in self.registry.units:
            return self.target.mailbox(word)
        return self.target.mail_list(word)

    def _days(self, wanted: MailList | MailDomain) -> Attributes:
        """When a list or domain begins and ends, and whether it counts now."""
        days = _filled(
            validFrom=[self.target.begin(wanted.since)], validUntil=[self.target.end(wanted.until)]
        )
        return days and days | in_force(days, self.now)

    def _delegations(self, code: str, given: Iterable[Delegation]) -> dict[str, Attributes]:
        """The entries of a unit's delegations, by DN: one a person and pair of dates."""
        target = self.target
        by_dates: dict[tuple[str, str, str], set[str]] = {}
        for one_ in given:
            key = (one_.person, target.begin(one_.since), target.end(one_.until))
            by_dates.setdefault(key, set()).add(one_.right)
        result: dict[str, Attributes] = {}
        taken = {person.lower() for person, _, _ in by_dates}
        first: set[str] = set()
        for person, since, until in sorted(by_dates):
            name, number = person, 2
            while person in first and name.lower() in taken:
                name, number = f"{person}-{number}", number + 1
            first.add(person)
            taken.add(name.lower())
            result[target.delegation(name, code)] = _filled(
                objectClass=["mailboxDelegation"],
                cn=[name],
                delegate=[target.person(person)],
                delegationRight=sorted(by_dates[person, since, until]),
                validFrom=[since],
                validUntil=[until],
                managedBy=["registry"],
            )
        return result

    def _rights(
        self, mailboxes: dict[str, Attributes], primaries: Mapping[str, str], away: set[str]
    ) -> tuple[dict[str, Attributes], dict[str, set[str]], dict[str, set[str]]]:
        """Write on each unit mailbox who has rights on it now.

        Returns:
            The entries of delegations, by DN; the groups of people, and in whose name they send,
            by ID.
        """
        target = self.target
        result: dict[str, Attributes] = {}
        by_unit: dict[str, list[Delegation]] = {}
        for given in self.registry.delegations:
            by_unit.setdefault(given.unit, []).append(given)
        ids = {
            normalized(target.person(person_id)): person_id for person_id in self.registry.people
        }
        opens: dict[str, set[str]] = {}
        send_as: dict[str, set[str]] = {}
        for code, unit in self.registry.units.items():
            entries = self._delegations(code, by_unit.get(code, ()))
            result.update(entries)
            attributes = mailboxes[code]
            head = target.person(unit.head) if unit.head else ""
            held = rights(head, entries.values(), away, self.now)
            for right, name in RIGHT_ATTRIBUTES:
                holders = sorted(ids[dn] for dn, given_ in held.items() if right in given_)
                if holders:
                    attributes[name] = [target.person(holder) for holder in holders]
            if unit.redirect and unit.head and normalized(head) not in away:
                attributes["mailRoutingAddress"] = [primaries[unit.head]]
            for dn, given_ in held.items():
                opens.setdefault(ids[dn], set()).update(groups(code, given_))
                if "send" in given_:
                    send_as.setdefault(ids[dn], set()).update(attributes["mailLocalAddress"])
        return result, opens, send_as

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
                mailHost=[self._store(dn, unit.store, unit.code, f"mailboxes/{unit.code}")],
                **self._life(dn, "active"),
                mailboxService=["lmtp"],
                mailboxQuota=[str(unit.quota or self._rule(unit.code, "unit_quota"))],
                owner=[target.person(unit.head)] if unit.head else [],
                searchName=[folded(unit.name)],
                directoryHidden=[_HIDDEN[name] for name in unit.hidden],
                managedBy=["registry"],
            )
        # Addresses that the registry names come before those that are made.
        aliases_of = {
            person.id: [
                self._claim(alias, target.person(person.id), f"person {person.id}")
                for alias in person.aliases
            ]
            for person in self.registry.people.values()
            if not self._purged(target.person(person.id), person.state, person.until)
        }
        lists_addresses = self._lists_addresses()
        primaries = self._people_addresses()
        result.update(self._lists(lists_addresses, primaries))
        lives = {
            person.id: self._life(target.person(person.id), person.state, person.until)
            for person in self.registry.people.values()
        }
        away = {
            normalized(target.person(person_id))
            for person_id, life in lives.items()
            if life["mailboxState"][0] not in IN_SERVICE
        }
        delegations, opens, send_as = self._rights(mailboxes, primaries, away)
        result.update(delegations)
        people: dict[str, Mailbox] = {}
        for person in self.registry.people.values():
            dn, primary = target.person(person.id), primaries[person.id]
            if normalized(dn) not in away:
                people[person.id] = Mailbox(dn, primary, person.name)
            parts = taken_apart(person.name)
            result[dn] = _filled(
                objectClass=["inetOrgPerson", "inetLocalMailRecipient", "mailboxAccount"],
                employeeNumber=[person.id],
                cn=[person.name],
                displayName=[person.name],
                sn=[parts.family or parts.given],
                givenName=[parts.given],
                title=[person.title],
                telephoneNumber=[person.phone],
                departmentNumber=[person.unit],
                mail=[primary],
                mailLocalAddress=self._all_addresses(dn, primary, aliases_of[person.id])
                if person.id in aliases_of
                else [],
                mailHost=[self._store(dn, person.store, person.unit, f"people/{person.id}")],
                **lives[person.id],
                mailboxSuccessor=[target.person(person.successor)] if person.successor else [],
                mailboxService=list(person.services or self._rule(person.unit, "services")),
                mailboxQuota=[str(person.quota or self._rule(person.unit, "person_quota"))],
                mailboxGroup=sorted(opens.get(person.id, ())),
                mailboxSendAs=sorted(send_as.get(person.id, ())),
                searchName=[folded(person.name)],
                directoryHidden=[_HIDDEN[name] for name in person.hidden],
                directoryOrder=_number(person.order),
                managedBy=["registry"],
            )
        for code, attributes in mailboxes.items():
            result[units[code].dn] = attributes
        self._check_stores(result, units)
        return result, people, units

    def _hand_over(self, wanted: Mapping[str, Attributes], by_key: Mapping[str, str]) -> None:
        """Let those who departed be read by their successors, as long as these are in service."""
        for dn, entry in wanted.items():
            successor = by_key.get(normalized(one(entry, "mailboxSuccessor")), "")
            if one(entry, "mailboxState") != "departed" or not successor:
                continue
            # Of those who are not in the registry any more, only what departs is looked at.
            heir, number = wanted[successor], dn.partition(",")[0].partition("=")[2]
            if one(heir, "mailboxState") not in IN_SERVICE:
                continue
            heir["mailboxGroup"] = sorted({*heir.get("mailboxGroup", ()), handover_group(number)})
            if heir["mailHost"] != entry["mailHost"]:
                self.mistakes.append(
                    f"person {one(heir, 'employeeNumber')} succeeds {number}, but lies on "
                    f"{one(heir, 'mailHost')} and the mail to be read on {one(entry, 'mailHost')}; "
                    f"expected both on one store: {_move(_alias(one(heir, 'mailHost')), number)}"
                )

    def _check_stores(self, entries: dict[str, Attributes], units: dict[str, Mailbox]) -> None:
        for code, mailbox in units.items():
            store = entries[mailbox.dn]["mailHost"]
            for holder in entries[mailbox.dn].get("mailboxReader", ()):
                other = entries[holder]["mailHost"]
                if other != store:
                    person = entries[holder]["employeeNumber"][0]
                    self.mistakes.append(
                        f"person {person} reads the mailbox of {code}, but lies on {other[0]} and "
                        f"the mailbox on {store[0]}; expected both on one store: "
                        f"{_move(_alias(store[0]), person)}"
                    )

    def _check_moves(self) -> None:
        """Refuse a move that leaves rights on the former unit's mailbox without a new decision.

        Decided is what a row of delegations gives from today on or later. The day alone counts, not
        whether the row is new: a run that was cut off is completed by the same rule.
        """
        registry, target = self.registry, self.target
        moved: dict[tuple[str, str], Person] = {}
        for person in registry.people.values():
            before = one(
                self.present.get(normalized(target.person(person.id)), {}), "departmentNumber"
            )
            if before not in ("", person.unit) and before in registry.units:
                moved[person.id, before] = person
        if not moved:
            return
        today = target.now.astimezone(ZoneInfo(target.timezone)).date()
        decided: set[tuple[str, str]] = set()
        held: dict[tuple[str, tuple[str, str]], set[str]] = {}
        for given in registry.delegations:
            who = given.person, given.unit
            if who not in moved or (given.until or today) < today:
                continue
            if given.since and given.since >= today:
                decided.add(who)
            else:
                place = registry.places.get(given, "delegations")
                held.setdefault((place, who), set()).add(given.right)
        said = {key: f"may {' '.join(sorted(rights_))} there" for key, rights_ in held.items()}
        for person_id, code in moved:
            if registry.units[code].head == person_id and (person_id, code) not in decided:
                said[registry.places.get(code, "units"), (person_id, code)] = "is its head"
        for (place, (person_id, code)), still in said.items():
            self.mistakes.append(
                f"{place}: person {person_id} moves from {code} to "
                f"{moved[person_id, code].unit} and still {still}; expected no right on the former "
                "unit's mailbox, or, if that is meant, a row of delegations with since from "
                f"{today} on"
            )

    # -- the plan ------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Every step, in the order in which it may be cut off anywhere and done again."""
        wanted, people, units = self.wanted()
        by_key = {normalized(dn): dn for dn in wanted}
        unmanaged = []
        gone = []
        containers = {
            normalized(f"ou={name},{self.target.base}")
            for name in ("units", "people", "mailboxes", "lists", "domains")
        }
        for key, attributes in self.present.items():
            above = key.partition(",")[2]
            if above not in containers and "delegate" not in attributes:
                continue
            if attributes.get("managedBy") == ["registry"]:
                if key in by_key:
                    continue
                if "mailboxState" in attributes:
                    wanted[key], by_key[key] = self._vanished(key), key
                else:
                    gone.append(key)
            else:
                unmanaged.append(key)
                if key in by_key:
                    self.mistakes.append(
                        f"{by_key[key]}: is in the directory, but not made by the registry; "
                        "expected another ID or code, or its attribute managedBy set to registry"
                    )
        self._hand_over(wanted, by_key)
        self._check_moves()
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
        returning = {
            person_id: one(found, "mailboxStateSince")
            for person_id, mailbox in people.items()
            if (found := self.present.get(normalized(mailbox.dn)))
            and one(found, "mailboxState") not in IN_SERVICE
        }
        back = {normalized(people[person_id].dn) for person_id in returning}
        ended_lists = {key for key in gone if ",ou=lists," in key}
        changes = [
            *self.closed,
            # An address is reserved before anybody loses it: a run that is cut off here forgets
            # nothing.
            *self._reservations(),
            *self._freed(added, modified),
            # Who comes back has new passwords only, for applications as well.
            *(Change("delete", key, {}) for key in self.present if key.partition(",")[2] in back),
            # An address may go on to another list.
            *(Change("delete", key, {}) for key in sorted(ended_lists)),
            *sorted(added, key=lambda change: _place(change.dn)),
            *sorted(modified, key=lambda change: _place(change.dn)),
            *(
                Change("delete", dn, {})
                for dn in sorted({*gone} - ended_lists, key=_depth_and_place)
            ),
            *self._needless(),
        ]
        new = tuple(
            person_id
            for person_id, mailbox in sorted(people.items())
            if normalized(mailbox.dn) not in self.present or person_id in returning
        )
        after = {key: wanted[dn] for key, dn in by_key.items()}
        words = report(changes, self.before, after, self.target.timezone)
        serving = [
            key
            for key, found in self.present.items()
            if one(found, "mailboxState") in IN_SERVICE and one(found, "managedBy") == "registry"
        ]
        return Plan(
            tuple(changes), words, tuple(sorted(unmanaged)), people, units, new, returning,
            sum(self._removed(key, wanted[by_key[key]]) for key in serving), len(serving),
            ahead(after, self.target.now, self.target.timezone),
        )  # fmt: skip

    def _removed(self, key: str, wanted: Attributes) -> bool:
        """Whether the registry takes a mailbox out of use; what time alone ends was announced."""
        found = self.present[key]
        before, after = one(found, "mailboxState"), one(wanted, "mailboxState")
        if after == "locked":
            return before != "locked"
        return after not in IN_SERVICE and not over(one(found, "mailboxExpires"), self.now)

    def _needless(self) -> list[Change]:
        """Reservations of what their owners have again by the registry."""
        ended = {change.dn for change in self.ended if change.kind == "delete"}
        return [
            Change("delete", dn, {})
            for address, (owner, _) in sorted(self.reserved.items())
            if (by := self.stated.get(address))
            and (by == owner or self._goes_on(owner, by))
            and address not in self.former
            and (dn := normalized(self.target.reservation(address))) not in ended
        ]

    def _reserve_lost(
        self, wanted: Mapping[str, Attributes], by_key: Mapping[str, str], gone: Collection[str]
    ) -> None:
        """Reserve what somebody loses: it is given to nobody else."""
        free = set(self._role_addresses())
        # Their reservation counts from the day on which they ended as aliases.
        free |= self.ended_aliases
        for key, found in self.present.items():
            if key not in by_key and key not in gone:
                continue
            after = wanted[by_key[key]] if key in by_key else {}
            if all(found.get(name) == after.get(name) for name in ("mail", "mailLocalAddress")):
                continue
            own, left = owner_name(key), _addresses(after)
            for address in _addresses(found) - left - free:
                # What another list takes over is not lost.
                if self.stated.get(address, own) == own:
                    self.former.setdefault(address, (own, "none"))

    def _reservations(self) -> list[Change]:
        # Of one address only one step: it is reserved anew, or its reservation ends.
        changes = [c for c in self.ended if _reserved_address(c.dn) not in self.former]
        settings = self.target.settings
        for address, (owner, kind) in sorted(self.former.items()):
            dn = self.target.reservation(address)
            keep = settings.alias_keep if kind == "alias" else settings.reservation_keep
            values = {
                "reservedFor": [owner],
                "reservedAs": [kind],
                "validFrom": [self.now],
                "validUntil": [written(self.target.now + timedelta(seconds=keep))],
            }
            if normalized(dn) not in self.present:
                attributes = _filled(
                    objectClass=["addressReservation"],
                    reservedAddress=[address],
                    **values,
                    managedBy=["registry"],
                )
                changes.append(Change("add", dn, attributes))
            else:
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


def with_passwords(plan: Plan, hashes: Mapping[str, str], *, change_first: bool = False) -> Plan:
    """The plan with the first password of each new person, by ID.

    Args:
        plan: the plan.
        hashes: what each password is kept as.
        change_first: whether it must be changed before anything else.
    """
    more = {"pwdReset": ["TRUE"]} if change_first else {}
    by_dn = {plan.people[person_id].dn: value for person_id, value in hashes.items()}
    changes = tuple(
        replace(
            change, attributes={**change.attributes, "userPassword": [by_dn[change.dn]], **more}
        )
        if change.dn in by_dn and "mailboxState" in change.attributes
        else change
        for change in plan.changes
    )
    return replace(plan, changes=changes)


def _alias(store: str) -> str:
    """A store's alias, by its full name."""
    return store.partition(".")[0]


def _move(store: str, who: str) -> str:
    """The command that moves a mailbox."""
    return f"python -m deploy.move_mailbox apply --env … --to {store} {who}"


def _filled(**attributes: list[str]) -> Attributes:
    """Attributes without those that are empty."""
    return {name: values for name, values in attributes.items() if any(values)}


def _addresses(attributes: Mapping[str, Sequence[str]]) -> set[str]:
    values = (*attributes.get("mail", ()), *attributes.get("mailLocalAddress", ()))
    return {address.lower() for address in values if not address.endswith(f"@{NO_DOMAIN}")}


def _differing(wanted: Attributes, found: Attributes) -> Attributes:
    """The attributes that the registry decides and that differ."""
    result = {
        name: values
        for name, values in wanted.items()
        # The same list in the same order is the rule, and seen at once.
        if values != (present := found.get(name, []))
        and name.lower() in _MANAGED
        and not same_set(name, values, present)
    }
    for name in sorted(found.keys() - wanted.keys()):
        if name.lower() in _MANAGED:
            result[name] = []
    return result


def _natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts `9` before `10`."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _number(value: int | None) -> list[str]:
    return [] if value is None else [str(value)]


def _reserved_address(dn: str) -> str:
    return normalized(dn).partition(",")[0].partition("=")[2]


def _place(dn: str) -> tuple[int, int, str]:
    """Units before people before mailboxes before delegations: what is named is there first."""
    containers = ("ou=units", "ou=people", "ou=mailboxes", "ou=lists", "ou=domains")
    for place, container in enumerate(containers):
        if f",{container}," in normalized(dn):
            return place, dn.count(","), dn
    return len(dn), 0, dn


def _depth_and_place(dn: str) -> tuple[int, int, str]:
    """What lies below an entry goes before it; mailboxes before people before units."""
    place, _, name = _place(dn)
    return -dn.count(","), -place, name
