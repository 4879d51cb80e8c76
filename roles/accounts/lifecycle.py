"""What comes with time alone: service, delegations, lists, domains that begin or end, addresses.

The registry's run decides by these rules, and so does `site-lifecycle.service` on the directory
hosts, which need nothing for it but Python and ldap-utils.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from roles.directory.ldif import Attributes, Change, Entries, entries, normalized

IN_SERVICE = ("active", "expiring", "locked")
"""States of a mailbox that receives; the others come with a departure, and after it."""
ARCHIVED = ("archived", "purged")
"""States in which the store has no mail any more."""
RIGHT_ATTRIBUTES = (("read", "mailboxReader"), ("file", "mailboxFiler"), ("send", "mailboxSender"))
"""Rights on a unit mailbox, and who is said to have them."""
NO_DOMAIN = "purged.invalid"
"""Domain of what stands for the address of a mailbox that was purged (RFC 2606)."""
_DATES = ("mailboxExpires", "mailboxStateSince", "validFrom", "validUntil")
_ENDED_KEPT = timedelta(days=7)
"""How long a password for an application that ended stays in the directory: stores and fronts see
the end even where `site-access` was away for days."""
_COMPLETE = 600
"""Seconds after which everything is looked at, not only what became due."""
_AT_ONCE = 200
"""Entries that one question names."""
_UNREACHABLE = (51, 52, 80, 255)
"""How ldap-utils end while the directory is down: busy, unavailable, other, cannot contact."""

log = logging.getLogger("site-lifecycle")


@dataclass(frozen=True)
class Keep:
    """How long something outlasts its end."""

    mail: timedelta
    """The mail of who departed."""
    reservation: timedelta
    """The reservation of an address that nobody has any more."""


@dataclass(frozen=True)
class Step:
    """A change that time brings, and what it is in words."""

    change: Change
    words: str


def written(moment: datetime) -> str:
    """A moment as the directory has it."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")


def later(moment: str, by: timedelta) -> str:
    """A moment of the directory, moved."""
    return written(datetime.strptime(f"{moment[:14]}+0000", "%Y%m%d%H%M%S%z") + by)


def over(moment: str, now: str) -> bool:
    """Whether a moment has come; what has no date does not end."""
    return bool(moment) and moment[:14] <= now[:14]


def one(attributes: Mapping[str, Sequence[str]], name: str) -> str:
    """An attribute's only value; empty where it has none."""
    values = attributes.get(name)
    return values[0] if values else ""


def counts(entry: Attributes, now: str) -> bool:
    """Whether a delegation, list or domain has begun and not ended."""
    since = one(entry, "validFrom")
    return (not since or over(since, now)) and not over(one(entry, "validUntil"), now)


def in_force(entry: Attributes, now: str) -> Attributes:
    """What the mail servers ask of a list or domain that has a date: whether it counts now."""
    return {"inForce": ["TRUE" if counts(entry, now) else "FALSE"]}


def owner_name(dn: str) -> str:
    """What a reservation calls whose an address is: the RDN.

    Of a list with its container: units and lists are both named by `cn`.
    """
    rdn, _, above = normalized(dn).partition(",")
    return f"{rdn},ou=lists" if above.startswith("ou=lists,") else rdn


def serves(mailbox: Attributes, now: str) -> bool:
    """Whether somebody is in service, and so may have rights."""
    return one(mailbox, "mailboxState") in IN_SERVICE and not over(
        one(mailbox, "mailboxExpires"), now
    )


def rights(
    head: str, delegations: Iterable[Attributes], away: Collection[str], now: str
) -> dict[str, set[str]]:
    """Who has which right on a unit mailbox: by DN (normalised).

    The head has every right; to file means to read as well.

    Args:
        head: DN of the unit's head; empty for none.
        delegations: of this unit.
        away: normalised DNs of those who are not in service.
        now: the moment that counts.
    """
    result: dict[str, set[str]] = {}
    if head:
        result[normalized(head)] = {right for right, _ in RIGHT_ATTRIBUTES}
    for given in delegations:
        if counts(given, now):
            held = result.setdefault(normalized(one(given, "delegate")), set())
            held.update(given["delegationRight"])
            if "file" in held:
                held.add("read")
    return {dn: held for dn, held in result.items() if dn not in away}


def groups(code: str, held: Collection[str]) -> set[str]:
    """Values of `mailboxGroup` for somebody's rights on a unit mailbox."""
    # The second is the group whose rights the stores give to those who also file and delete.
    both = (("read", code), ("file", f"{code}+file"))
    return {group for right, group in both if right in held}


def handover_group(person_id: str) -> str:
    """The value of `mailboxGroup` that opens the mail of a departed person to the successor.

    No code of a unit has a colon.
    """
    return f"handover:{person_id}"


def departure(mailbox: Attributes, since: str, keep: Keep) -> Attributes:
    """What becomes of a mailbox that departs."""
    return {
        "mailboxState": ["departed"],
        "mailboxStateSince": [since],
        "mailboxRetainUntil": [one(mailbox, "mailboxRetainUntil") or later(since, keep.mail)],
    }


def transitions(present: Entries, base: str, now: str, keep: Keep, due: str = "") -> list[Step]:
    """What time has brought and the directory does not say yet.

    Only entries that the registry made count, and of them only what a date concerns. The steps are
    in an order that may be cut off anywhere: what is left is found again.

    Args:
        present: entries by normalised DN; all, or those that a date concerns with all they name.
        base: the suffix.
        now: the moment that counts.
        keep: how long something outlasts its end.
        due: only what was due at this earlier moment is begun with; another host does the rest.
    """
    due = due or now
    managed = {dn: e for dn, e in present.items() if one(e, "managedBy") == "registry"}
    people = {dn: e for dn, e in managed.items() if dn.endswith(f",ou=people,{base}".lower())}
    closed = list(purged_addresses(managed, base, due, keep))
    after = applied(managed, (step.change for step in closed))
    return [
        *_departures(managed, people, (now, due), keep),
        *_in_force(managed, base, now, due),
        *closed,
        *old_addresses(after, base, due, keep),
    ]


def applied(present: Entries, changes: Iterable[Change]) -> Entries:
    """The entries as changes leave them; the given ones stay as they are."""
    after = dict(present)
    for change in changes:
        dn = normalized(change.dn)
        if change.kind == "delete":
            del after[dn]
            continue
        entry = {**after.get(dn, {}), **{n: list(v) for n, v in change.attributes.items()}}
        after[dn] = {name: values for name, values in entry.items() if values}
    return after


def _in_force(managed: Entries, base: str, now: str, due: str) -> Iterator[Step]:
    """Lists and domains that begin or end."""
    containers = {normalized(f"ou={name},{base}"): name for name in ("lists", "domains")}
    for dn, entry in managed.items():
        container = containers.get(dn.partition(",")[2])
        if container is None or not _dated(entry, due):
            continue
        change = in_force(entry, now)
        if change["inForce"] != entry.get("inForce"):
            counts_now = "counts from now on" if counts(entry, now) else "does not count any more"
            what = f"{container.removesuffix('s')} {one(entry, 'mail') or dn.partition(',')[0]}"
            yield Step(Change("modify", dn, change), f"{what}: {counts_now}")


def _departures(
    managed: Entries, people: Entries, moments: tuple[str, str], keep: Keep
) -> Iterator[Step]:
    """Service that ends, and delegations that begin and end; mailboxes first, then people."""
    now, due = moments
    away = {dn for dn, person in people.items() if not serves(person, now)}
    leaving = {
        dn
        for dn, person in people.items()
        if one(person, "mailboxState") in IN_SERVICE and over(one(person, "mailboxExpires"), due)
    }
    below: dict[str, list[Attributes]] = {}
    for dn, entry in managed.items():
        if "delegate" in entry:
            below.setdefault(dn.partition(",")[2], []).append(entry)
    opens: dict[str, dict[str, set[str]]] = {}
    """Of people whose rights may differ: by the mailbox's DN, which ones they have."""
    for dn, mailbox in managed.items():
        if not dn.partition(",")[2].startswith("ou=mailboxes,"):
            continue
        head, given = one(mailbox, "owner"), below.get(dn, [])
        if one(mailbox, "mailboxState") not in IN_SERVICE:
            head, given = "", []
        held = rights(head, given, away, now)
        names = {
            normalized(name)
            for _, attribute in RIGHT_ATTRIBUTES
            for name in mailbox.get(attribute, ())
        }
        concerned = {normalized(one(entry, "delegate")) for entry in given if _dated(entry, due)}
        concerned |= (names | {normalized(head)}) & away
        change = _holders(mailbox, held, concerned, people)
        if normalized(head) in away and "mailRoutingAddress" in mailbox:
            change["mailRoutingAddress"] = []
        if change:
            yield Step(Change("modify", dn, change), _words_of_rights(mailbox, held, concerned))
        for person in concerned & people.keys():
            opens.setdefault(person, {})[dn] = held.get(person, set())
    gained, lost = _handovers(people, leaving, away)
    # Successors first: once somebody has departed, nothing is due that would remind of them.
    for dn in [*sorted({*gained, *lost} - leaving), *sorted({*opens} - {*gained, *lost} - leaving),
               *sorted(leaving)]:  # fmt: skip
        change = _opened(
            people[dn], opens.get(dn, {}), managed, gained.get(dn, set()), lost.get(dn, set())
        )
        yield from _person(dn, people[dn], change, leaving=dn in leaving, keep=keep)


def _handovers(
    people: Entries, leaving: Collection[str], away: Collection[str]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The groups that successors get from those who leave now, and lose where mail is archived."""
    gained: dict[str, set[str]] = {}
    lost: dict[str, set[str]] = {}
    for dn, person in people.items():
        successor = normalized(one(person, "mailboxSuccessor"))
        if successor not in people or successor in away:
            continue
        group = handover_group(one(person, "employeeNumber"))
        if dn in leaving:
            gained.setdefault(successor, set()).add(group)
        elif one(person, "mailboxState") in ARCHIVED:
            lost.setdefault(successor, set()).add(group)
    return gained, lost


def _person(
    dn: str, person: Attributes, change: Attributes, *, leaving: bool, keep: Keep
) -> Iterator[Step]:
    """The step of one person, if there is any."""
    name = f"person {dn.partition(',')[0].partition('=')[2]} <{one(person, 'mail')}>"
    if leaving:
        change |= departure(person, one(person, "mailboxExpires"), keep)
        change |= {name: [] for name in ("mailboxGroup", "mailboxSendAs") if name in person}
        said = "the last day of service is over: departed"
    else:
        opened = change.get("mailboxGroup", person.get("mailboxGroup", []))
        said = f"opens {' '.join(sorted(opened)) or 'no unit mailbox'}"
    if change:
        yield Step(Change("modify", dn, change), f"{name}: {said}")


def _dated(delegation: Attributes, due: str) -> bool:
    """Whether a date of a delegation has come."""
    return any(over(one(delegation, name), due) for name in ("validFrom", "validUntil"))


def _holders(
    mailbox: Attributes,
    held: Mapping[str, Collection[str]],
    concerned: Collection[str],
    people: Entries,
) -> Attributes:
    """What differs in who has rights on a mailbox; those who are not concerned stay."""
    result: Attributes = {}
    for right, attribute in RIGHT_ATTRIBUTES:
        before = mailbox.get(attribute, [])
        after = [
            name
            for name in before
            if normalized(name) not in concerned or right in held.get(normalized(name), ())
        ]
        have = {normalized(name) for name in after}
        after += [
            f"employeeNumber={people[dn]['employeeNumber'][0]},{dn.partition(',')[2]}"
            for dn in sorted(concerned)
            if right in held.get(dn, ()) and dn not in have and dn in people
        ]
        # In the order of the registry (`reconcile.py`); to LDAP it is one.
        after.sort()
        if after != sorted(before):
            result[attribute] = after
    return result


def _opened(
    person: Attributes,
    opens: Mapping[str, Collection[str]],
    managed: Entries,
    gained: Collection[str] = (),
    lost: Collection[str] = (),
) -> Attributes:
    """What differs in the mailboxes that somebody opens, and in whose name he sends."""
    now_in = {*person.get("mailboxGroup", ()), *gained}.difference(lost)
    sends = set(person.get("mailboxSendAs", ()))
    for dn, held in opens.items():
        code = one(managed[dn], "cn")
        now_in = now_in - {code, f"{code}+file"} | groups(code, held)
        addresses = set(managed[dn].get("mailLocalAddress", ()))
        sends = sends | addresses if "send" in held else sends - addresses
    result: Attributes = {}
    for name, values in (("mailboxGroup", now_in), ("mailboxSendAs", sends)):
        if values != set(person.get(name, ())):
            result[name] = sorted(values)
    return result


def _words_of_rights(
    mailbox: Attributes, held: Mapping[str, Collection[str]], concerned: Collection[str]
) -> str:
    said = [
        f"{dn.partition(',')[0].partition('=')[2]} "
        + (f"may {' '.join(sorted(held[dn]))}" if held.get(dn) else "has no right any more")
        for dn in sorted(concerned)
    ]
    return f"unit mailbox <{one(mailbox, 'mail')}>: {', '.join(said)}"


def purged_addresses(present: Entries, base: str, due: str, keep: Keep) -> Iterator[Step]:
    """Addresses of mailboxes whose mail was destroyed: they are reserved, and later free.

    The entry stays, as what tells that there was a mailbox, under an address that is none; so it
    does among those who may write to a list, which would be open to others without anybody.

    Args:
        present: entries by normalised DN.
        base: the suffix.
        due: the moment that counts.
        keep: how long something outlasts its end.
    """
    posters = {
        dn: entry["listPoster"]
        for dn, entry in present.items()
        if "listPoster" in entry and one(entry, "managedBy") == "registry"
    }
    for dn, entry in present.items():
        since = one(entry, "mailboxStateSince")
        if (
            one(entry, "mailboxState") != "purged"
            or one(entry, "managedBy") != "registry"
            or "mailLocalAddress" not in entry
            or not over(since, due)
        ):
            continue
        until, rdn = later(since, keep.reservation), dn.partition(",")[0]
        for address in sorted({value.lower() for value in entry["mailLocalAddress"]}):
            reservation = f"reservedAddress={address},ou=reservations,{base}"
            values = {"reservedFor": [rdn], "reservedAs": ["none"], "validFrom": [since],
                      "validUntil": [until]}  # fmt: skip
            words = f"address {address}: stays reserved, the mailbox was purged"
            if normalized(reservation) in present:
                yield Step(Change("modify", reservation, values), words)
                continue
            own = {"objectClass": ["addressReservation"], "reservedAddress": [address]}
            managed = {"managedBy": ["registry"]}
            yield Step(Change("add", reservation, {**own, **values, **managed}), words)
        nobody = f"{rdn.replace('=', '-')}@{NO_DOMAIN}"
        for name, values_ in posters.items():
            if one(entry, "mail") in values_:
                posters[name] = [nobody if v == one(entry, "mail") else v for v in values_]
                step = Change("modify", name, {"listPoster": posters[name]})
                yield Step(step, f"{name.partition(',')[0]}: {rdn} does not write to it any more")
        left = {"mail": [nobody], "mailLocalAddress": []}
        yield Step(Change("modify", dn, left), f"{rdn}: was purged, has no address any more")


def old_addresses(present: Entries, base: str, due: str, keep: Keep) -> Iterator[Step]:
    """Addresses of before a renaming that are no aliases any more, then reservations that end.

    Args:
        present: entries by normalised DN.
        base: the suffix.
        due: the moment that counts.
        keep: how long something outlasts its end.
    """
    container = f",ou=reservations,{base}".lower()
    addresses: dict[str, list[str]] = {}
    for dn, entry in present.items():
        if not dn.endswith(container) or one(entry, "managedBy") != "registry":
            continue
        until, address = one(entry, "validUntil"), one(entry, "reservedAddress").lower()
        if not over(until, due):
            continue
        if one(entry, "reservedAs") != "alias":
            yield Step(Change("delete", dn, {}), f"address {address}: is free again")
            continue
        owner = owner_dn(one(entry, "reservedFor"), base)
        holder = present.get(owner, {})
        held = addresses.get(owner, holder.get("mailLocalAddress", []))
        left = [value for value in held if value.lower() != address]
        # The reservation last: as long as it is due, the alias is looked for.
        if left != held and one(holder, "mail").lower() != address:
            words = f"address {address}: is no alias of <{one(holder, 'mail')}> any more"
            addresses[owner] = left
            yield Step(Change("modify", owner, {"mailLocalAddress": left}), words)
        free = later(until, keep.reservation)
        if over(free, due):
            yield Step(Change("delete", dn, {}), f"address {address}: is free again")
            continue
        reserved = {"reservedAs": ["none"], "validFrom": [until], "validUntil": [free]}
        yield Step(Change("modify", dn, reserved), f"address {address}: stays reserved")


def owner_dn(rdn: str, base: str) -> str:
    """The normalised DN of the person, unit mailbox or list that a reservation names."""
    if rdn.lower().endswith(",ou=lists"):
        return normalized(f"{rdn},{base}")
    container = "people" if rdn.lower().startswith("employeenumber=") else "mailboxes"
    return normalized(f"{rdn},ou={container},{base}")


# -- the service -----------------------------------------------------------------------------------


class UnreachableError(Exception):
    """The directory does not answer: what is due waits for it."""


@dataclass(frozen=True)
class Directory:
    """The directory on this host, as the registry's account sees it."""

    base: str
    name: str
    """Who binds."""
    password: Path
    """File that holds the password, to the last byte."""
    uri: str = "ldapi:///"

    def _run(self, program: str, *options: str, said: str = "") -> str:
        done = subprocess.run(
            [
                program, "-x", "-H", self.uri, "-D", self.name, "-y", str(self.password),
                "-o", "nettimeout=10", *options,
            ],
            input=said, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode in _UNREACHABLE:
            raise UnreachableError(done.stderr.strip())
        # 32: no such entry, before anything was ever registered.
        if done.returncode not in (0, 32):
            raise RuntimeError(f"{program}: {done.stderr.strip()}")
        return done.stdout

    def find(self, container: str, condition: str) -> Entries:
        """Entries below a container, without passwords."""
        wanted = (
            "cn", "employeeNumber", "managedBy", "mail", "mailLocalAddress", "mailRoutingAddress",
            "mailboxState", "mailboxStateSince", "mailboxExpires", "mailboxRetainUntil",
            "mailboxGroup",
            "mailboxSendAs", "mailboxReader", "mailboxFiler", "mailboxSender", "mailboxSuccessor",
            "owner", "delegate", "delegationRight", "validFrom", "validUntil", "reservedAddress",
            "reservedFor", "reservedAs", "inForce", "listPoster",
        )  # fmt: skip
        said = self._run(
            "ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-b", f"ou={container},{self.base}",
            condition, *wanted,
        )  # fmt: skip
        return entries(said.splitlines())

    def people(self, numbers: Collection[str]) -> Entries:
        """The entries of some people."""
        result: Entries = {}
        every = sorted(numbers)
        for start in range(0, len(every), _AT_ONCE):
            some = "".join(f"(employeeNumber={n})" for n in every[start : start + _AT_ONCE])
            result |= self.find("people", f"(&(objectClass=mailboxAccount)(|{some}))")
        return result

    def change(self, step: Step) -> None:
        """Make one change."""
        self._run("ldapmodify", said=step.change.ldif())


def dates(directory: Directory, due: str) -> dict[str, Entries]:
    """The entries whose date has come, by container."""
    end = f"{due[:14]}Z"
    dated = f"(|(validFrom<={end})(validUntil<={end}))"
    purged = f"(&(mailboxState=purged)(mailLocalAddress=*)(mailboxStateSince<={end}))"
    leaving = f"(&(|(mailboxState=expiring)(mailboxState=locked))(mailboxExpires<={end}))"
    return {
        "people": directory.find("people", f"(|{leaving}{purged})"),
        "mailboxes": directory.find(
            "mailboxes", f"(|(&(objectClass=mailboxDelegation){dated}){purged})"
        ),
        "lists": directory.find("lists", f"(&(objectClass=mailList){dated})"),
        "domains": directory.find("domains", f"(&(objectClass=mailDomain){dated})"),
        "reservations": directory.find(
            "reservations", f"(&(objectClass=addressReservation)(validUntil<={end}))"
        ),
    }


def archived(directory: Directory) -> Entries:
    """People whose mail is archived and was handed over before; no date tells of them."""
    states = "".join(f"(mailboxState={state})" for state in ARCHIVED)
    return directory.find("people", f"(&(|{states})(mailboxSuccessor=*))")


def concerned(directory: Directory, due: Mapping[str, Entries]) -> Entries:
    """The entries whose date has come, with all that they name."""
    present: Entries = {
        **due["people"], **due["lists"], **due["domains"], **due["reservations"],
    }  # fmt: skip
    for entries_ in (due["people"], due["mailboxes"]):
        for dn, entry in entries_.items():
            if one(entry, "mailboxState") == "purged":
                rdn = dn.partition(",")[0]
                present |= directory.find("reservations", f"(reservedFor={rdn})")
                present |= directory.find("lists", f"(listPoster={one(entry, 'mail')})")
    owners = {owner_dn(one(e, "reservedFor"), directory.base) for e in due["reservations"].values()}
    if due["people"] or due["mailboxes"] or any(",ou=mailboxes," in dn for dn in owners):
        present |= directory.find("mailboxes", "(objectClass=*)")
    delegates = {normalized(one(entry, "delegate")) for entry in due["mailboxes"].values()}
    heirs = {normalized(one(entry, "mailboxSuccessor")) for entry in due["people"].values()}
    numbers = {
        dn.partition(",")[0].partition("=")[2]
        for dn in owners | delegates | heirs
        if ",ou=people," in dn
    }
    return present | directory.people(numbers)


def ended_applications(directory: Directory, now: datetime) -> list[Step]:
    """Passwords for applications that ended long ago, or were revoked, and go now."""
    end = written(now - _ENDED_KEPT)
    found = directory.find("people", f"(&(objectClass=appPassword)(pwdEndTime<={end}))")
    return [
        Step(Change("delete", dn, {}), f"{dn.partition(',ou=')[0]}: ended, is deleted")
        for dn in sorted(found)
    ]


class Clockwork:
    """Looks at the time again and again, and acts on what it brought."""

    def __init__(self, directory: Directory, keep: Keep, behind: timedelta) -> None:
        self.directory = directory
        self.keep = keep
        self.behind = behind
        self.done: set[tuple[str, ...]] = set()
        """Dates that were acted upon: an entry, and its dates."""
        self.complete = float("-inf")

    def turn(self, now: datetime, clock: float) -> int:
        """Act once, and return how many steps that took.

        Args:
            now: the time of day.
            clock: seconds of a clock that nobody sets.
        """
        complete = clock - self.complete >= _COMPLETE
        if complete:
            self.done = set()
            self.complete = clock
            for step in ended_applications(self.directory, now - self.behind):
                self.directory.change(step)
                log.info("%s", step.words)
        moment, due = written(now), written(now - self.behind)
        found = dates(self.directory, due)
        if complete:
            found["people"] |= archived(self.directory)
        # By the dates that have come: one that is still to come makes it another one then.
        seen = {
            (dn, *(one(entry, name) for name in _DATES if over(one(entry, name), due)))
            for some in found.values()
            for dn, entry in some.items()
        }
        if seen <= self.done:
            return 0
        present = concerned(self.directory, found)
        steps = transitions(present, self.directory.base, moment, self.keep, due)
        for step in steps:
            self.directory.change(step)
            log.info("%s", step.words)
        # What was changed is looked at once more: nothing then.
        self.done = seen if not steps else set()
        return len(steps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the unit is stopped."""
    parser = argparse.ArgumentParser(prog="site-lifecycle", description=__doc__)
    parser.add_argument("--base", required=True, help="the directory's suffix")
    parser.add_argument("--name", required=True, help="who binds")
    parser.add_argument("--password", required=True, type=Path, help="file with the password")
    parser.add_argument("--every", type=float, default=10, help="seconds between two looks")
    parser.add_argument("--behind", type=int, default=0, help="act on what is overdue so long")
    parser.add_argument("--mail-kept", type=int, required=True, help="seconds")
    parser.add_argument("--reservation-kept", type=int, required=True, help="seconds")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    clockwork = Clockwork(
        Directory(options.base, options.name, options.password),
        Keep(timedelta(seconds=options.mail_kept), timedelta(seconds=options.reservation_kept)),
        timedelta(seconds=options.behind),
    )
    os.umask(0o077)
    answered = True
    while True:
        try:
            clockwork.turn(datetime.now(UTC), time.monotonic())
            if not answered:
                log.info("the directory answers again")
            answered = True
        except (UnreachableError, subprocess.TimeoutExpired) as error:
            if answered:
                # slapd is restarted by every deploy that changes its configuration.
                log.info("the directory does not answer, what is due waits: %s", error)
            answered = False
            clockwork.complete = float("-inf")
        time.sleep(options.every)


if __name__ == "__main__":
    sys.exit(main())
