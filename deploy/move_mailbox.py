"""Moves mailboxes to another store: a plan first, then the deed.

    python -m deploy.move_mailbox plan --env production --to store-b anv@tiengiang.gov.vn
    python -m deploy.move_mailbox apply --env production --to store-b 1042 1043
    python -m deploy.move_mailbox apply --env production --to store-b stttt --with-readers

Everything of a mailbox moves as it lies on the disk: letters, flags, UIDs, folders, subscriptions,
rights, Sieve scripts, what its owner has read of units. It is copied while it is in use, by way of
this machine, for no store trusts another one; then it is closed, what changed meanwhile is copied,
the directory is told, and it is open again: a matter of seconds, in which programs get a temporary
failure and letters wait on mx. What a store does for it is in `roles/mailstore/files/move.py`.

Whatever cuts it off, nothing is lost: the same command goes on where it was cut off. One that fails
before the directory was told opens the mailbox again where it was. The old copy stays on the old
store (`mailstore.moved_keep`). Who moved what is in the journal of a directory host.

Exit codes: 0 done, or nothing to do; 2 the plan has changes; 1 an error, which is printed.
"""

import argparse
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.archive import full
from deploy.hosts import escaped, everywhere, first, modify, noted, search, shell, ssh
from deploy.restore import say
from deploy.restore_mail import place, reading
from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR
from deploy.sessions import NO_SESSION
from roles.accounts.deploy import site_registry, site_target
from roles.accounts.reconcile import READ, Target, reconcile
from roles.accounts.registry import Registry
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost, load
from roles.directory.ldif import Attributes, Change, Entries, normalized

COMMAND = "/usr/local/lib/site-mailstore/move"
SPARE = 0.05
"""The share of a store's disk that stays free."""
_KNOWN = 30
"""Seconds in which every directory host must have learnt of a change."""
_ARRIVED = 60
"""Seconds for which what waited on mx is looked after: Postfix remembers for 30 where the last
recipient's mailbox was."""
_PAUSE = 3
"""Seconds between two times that the queues are flushed."""
_ROUNDS = 3
"""How often a mailbox that is in use is compared before it is closed: each takes less."""
_LITTLE = 2**20
"""Bytes that are left for the last step."""

Listing = dict[str, list[Any]]
"""Files by path, as a store lists them: kind, size, time of change, digest."""


@dataclass(frozen=True)
class Mailbox:
    """A mailbox, and where it goes."""

    dn: str
    address: str
    place: str
    """`people/1042`, `mailboxes/stttt`."""
    source: str
    """The alias of the store that the directory names."""
    target: str
    readers: tuple[str, ...]
    """Addresses of others who may open it."""

    @property
    def code(self) -> str:
        """A person's ID, or a unit's code."""
        return self.place.partition("/")[2]

    @property
    def kind(self) -> str:
        """`people` or `mailboxes`."""
        return self.place.partition("/")[0]

    @property
    def users(self) -> list[str]:
        """Whose sessions may have it open: its own address comes first."""
        return [self.address, *self.readers]


# -- which mailboxes, and whether they may ---------------------------------------------------------


def found(site: Site, words: str) -> tuple[str, Attributes]:
    """The one mailbox that is meant: an address, a person's ID or a unit's code.

    Raises:
        SiteError: there is none, or there are several, or it is no mailbox any more.
    """
    text, address = escaped(words.strip()), escaped(full(site, words))
    entries = search(
        site, site.base_dn,
        f"(&(objectClass=mailboxAccount)(|(mailLocalAddress={address})(mail={address})"
        f"(employeeNumber={text})(&(objectClass=unitMailbox)(cn={text}))))",
    )  # fmt: skip
    # A unit's code is the first part of its address, too; an ID may be somebody's address.
    exact = [pair for pair in entries if place(pair[0]).partition("/")[2] == words.strip().lower()]
    if len(exact) == 1:
        entries = exact
    if len(entries) != 1:
        names = ", ".join(first(entry, "mail") for _, entry in entries) or "none"
        raise SiteError(
            f"{words!r}: {len(entries)} mailboxes ({names}); expected the address, the person's ID "
            "or the unit's code of one"
        )
    state = first(entries[0][1], "mailboxState")
    if state in ("archived", "purged"):
        raise SiteError(f"{words!r}: is {state}; expected a mailbox that lies on a store")
    return entries[0]


def chosen(site: Site, options: argparse.Namespace) -> list[Mailbox]:
    """The mailboxes that are named, with their readers where that is asked for.

    Raises:
        SiteError: one is not to be found, or there is no such store.
    """
    if options.to not in site.table.stores:
        raise SiteError(
            f"--to {options.to}: no such store in {site.environment}; expected one of "
            f"{', '.join(site.table.stores)} (site.stores)"
        )
    entries = dict(found(site, words) for words in options.who)
    readers = {dn: reading(site, place(dn)) for dn in entries}
    if options.with_readers:
        wanted = {dn for people in readers.values() for dn, _ in people} - entries.keys()
        for dn in sorted(wanted):
            entries |= search(site, dn, "(objectClass=mailboxAccount)")
            readers[dn] = reading(site, place(dn))
    return [
        Mailbox(
            dn, first(entry, "mail").lower(), place(dn),
            first(entry, "mailHost").lower().partition(".")[0], options.to,
            tuple(sorted(first(reader, "mail").lower() for _, reader in readers[dn])),
        )
        for dn, entry in entries.items()
    ]  # fmt: skip


def misplaced(registry: Registry, mailboxes: Sequence[Mailbox]) -> list[str]:
    """Rows of the registry that name another store than the one that a mailbox goes to."""
    faults = []
    for one in mailboxes:
        table = registry.people if one.kind == "people" else registry.units
        row = table.get(one.code)
        if row is not None and row.store not in ("", one.target):
            faults.append(
                f"{registry.store_places[one.place]}: {row.store!r}, but {one.address} is to go to "
                f"{one.target}; expected {one.target!r}, or nothing"
            )
    return faults


def disagreements(
    registry: Registry, present: Entries, target: Target, mailboxes: Sequence[Mailbox]
) -> list[str]:
    """What the registry would refuse once these mailboxes have moved, and does not now.

    Args:
        registry: what shall be.
        present: the directory.
        target: where the registry goes.
        mailboxes: those that move.
    """
    moved = dict(present)
    for one in mailboxes:
        dn = normalized(one.dn)
        moved[dn] = {**present[dn], "mailHost": [f"{one.target}.{target.domain}"]}

    def refused(entries: Entries) -> set[str]:
        try:
            reconcile(registry, entries, target)
        except SiteError as error:
            return set(str(error).splitlines())
        return set()

    return sorted(refused(moved) - refused(present))


def check(site: Site, mailboxes: Sequence[Mailbox]) -> None:
    """See that the registry says the same when these mailboxes have moved.

    Raises:
        SiteError: it would not; with every reason.
    """
    registry = site_registry(site)
    if faults := misplaced(registry, mailboxes):
        raise SiteError("\n".join(faults))
    read = search(site, site.base_dn, "(objectClass=*)", *READ)
    present = {normalized(dn): entry for dn, entry in read}
    faults = disagreements(registry, present, site_target(site), mailboxes)
    # The command that they name is this one.
    faults = [fault.partition(": python -m ")[0] for fault in faults]
    if faults:
        raise SiteError(
            "\n".join([*faults, "nothing was changed; --with-readers moves a unit and everybody "
                       "who reads it, and several may be named at once"])
        )  # fmt: skip


def apart(site: Site, mailboxes: Sequence[Mailbox]) -> list[str]:
    """Who will not see a mailbox any more, as far as the directory says, in words."""
    goes = {normalized(one.dn) for one in mailboxes}
    lines = []
    for one in mailboxes:
        store = f"{one.target}.{site.domain}"
        left = sorted(
            first(entry, "mail")
            for dn, entry in reading(site, one.place)
            if normalized(dn) not in goes and first(entry, "mailHost").lower() != store
        )
        if left:
            lines.append(f"{one.address}: will not be seen any more by {', '.join(left)}")
    return lines


# -- stores ----------------------------------------------------------------------------------------


def told(site: Site, store: SiteHost, job: str, where: str, *more: str, stdin: str = "") -> Any:
    """What a store's part answers.

    Raises:
        SiteError: it does not answer, or failed, with its words.
    """
    answer = shell(site, store, shlex.join([COMMAND, job, where, *more]), stdin)
    return json.loads(answer)


def listed(site: Site, store: SiteHost, where: str, folder: str, known: Collection[str]) -> Listing:
    """The files of a mailbox on a store.

    Args:
        site: the site.
        store: which.
        where: the mailbox's place.
        folder: `home`, `outgoing` or `incoming`.
        known: letters of which no digest is wanted any more.
    """
    names = json.dumps(sorted(known), ensure_ascii=False)
    result: Listing = told(site, store, "list", where, folder, stdin=names)
    return result


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two files are the same, as far as both were looked at."""
    if one[0] != other[0]:
        return False
    if one[3] and other[3] and one[3] != other[3]:
        return False
    return one[0] != "f" or one[1:3] == other[1:3]


def differing(source: Listing, target: Listing) -> tuple[list[str], list[str]]:
    """What must be sent, and what must be removed before, that a copy be like its source."""
    wrong = [name for name, file in target.items() if name not in source
             or file[0] != source[name][0]]  # fmt: skip
    kept = target.keys() - set(wrong)
    missing = [
        name for name, file in source.items() if name not in kept or not same(file, target[name])
    ]
    return sorted(missing), sorted(wrong)


def size(listing: Listing, names: Collection[str]) -> int:
    """Bytes of some files."""
    return sum(listing[name][1] for name in names)


def passed_on(
    site: Site, where: str, source: tuple[SiteHost, str], target: SiteHost, names: Sequence[str]
) -> None:
    """Files from one store to another, through this machine.

    Args:
        site: the site.
        where: the mailbox's place.
        source: the store that has them, and its folder.
        target: the store that gathers them.
        names: which.

    Raises:
        SiteError: they did not all come.
    """
    store, folder = source
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(
            ssh(site, store, shlex.join([COMMAND, "send", where, folder])),
            stdin=pipe, stdout=pipe, stderr=pipe,
        ) as sending,
        subprocess.Popen(
            ssh(site, target, shlex.join([COMMAND, "receive", where])),
            stdin=sending.stdout, stdout=subprocess.DEVNULL, stderr=pipe,
        ) as receiving,
    ):  # fmt: skip
        if sending.stdin is None or sending.stdout is None:
            raise AssertionError("they were asked for")
        # It ends where the other one does.
        sending.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            sending.stdin.write(b"".join(name.encode(errors="surrogateescape") + b"\0"
                                         for name in names))  # fmt: skip
            sending.stdin.close()
        words = receiving.stderr.read() if receiving.stderr else b""
        receiving.wait()
        if receiving.returncode:
            sending.kill()
        more = sending.stderr.read() if sending.stderr else b""
    if receiving.returncode:
        raise SiteError(f"{target.name}: {words.decode(errors='replace').strip()}")
    if sending.returncode:
        raise SiteError(f"{store.name}: {more.decode(errors='replace').strip()}")


# -- moving one ------------------------------------------------------------------------------------


class Move:
    """One mailbox on its way."""

    def __init__(self, site: Site, mailbox: Mailbox) -> None:
        """Ask both stores what there is.

        Raises:
            SiteError: one does not answer.
        """
        self.site = site
        self.mailbox = mailbox
        self.source = site.store_host(mailbox.source)
        self.target = site.store_host(mailbox.target)
        self._asked = False
        """Whether a directory was told where it lies now, or may have been."""
        self._letters: set[str] = set()
        """Letters whose digests were found alike."""
        self.before = self._state(self.source)
        self.there = self._state(self.target)

    @property
    def apart(self) -> bool:
        """Whether the two stores are two hosts."""
        return self.source != self.target

    @property
    def _folder(self) -> str:
        return "outgoing" if self.before["outgoing"] else "home"

    @property
    def missing(self) -> int:
        """Bytes that the target has not yet, about."""
        return max(self.before["bytes"] - self.there["gathered"], 0) if self.apart else 0

    def _state(self, store: SiteHost) -> dict[str, Any]:
        state: dict[str, Any] = told(self.site, store, "state", self.mailbox.place)
        return state

    def said(self) -> list[str]:
        """What would be done, in words."""
        one, state = self.mailbox, self.before
        if one.source == one.target:
            cut = "it is closed since a move was cut off, and will be opened"
            return [f"{one.address}: lies on {one.target} already; "
                    f"{cut if self.left() else 'nothing to do'}"]  # fmt: skip
        lines = [
            f"{one.address}: {one.place}, {state['bytes'] / 2**20:.1f} MiB in {state['files']} "
            f"files, from {one.source} ({self.source.name}) to {one.target} ({self.target.name})"
        ]
        if state["outgoing"] or state["closed"]:
            lines.append("  a move of it was cut off, and it is closed; that one is completed")
        elif self.there["gathered"]:
            lines.append(f"  {self.there['gathered'] / 2**20:.1f} MiB of it are there already")
        return lines

    def left(self) -> list[SiteHost]:
        """Stores on which a move that was cut off has left it closed."""
        return [
            store
            for store in self.site.group("store")
            if (state := self._state(store))["closed"] or state["outgoing"]
        ]

    # -- the steps ---------------------------------------------------------------------------------

    def copy(self) -> None:
        """Copy it while it is in use, again and again until little is left to be copied."""
        if not self.apart:
            return
        cut = self.before["outgoing"]
        if cut and self.there["home"]:
            # Put into place by a run that was cut off before the directory was told.
            told(self.site, self.target, "unplace", self.mailbox.place)
        for _ in range(_ROUNDS):
            begun = time.monotonic()
            number, sent = self._brought(in_use=True)
            seconds, use = time.monotonic() - begun, "" if cut else ", while it was in use"
            say([f"  {number} files, {sent / 2**20:.1f} MiB copied in {seconds:.1f} s{use}"])
            if sent < _LITTLE:
                break

    def _brought(self, *, in_use: bool) -> tuple[int, int]:
        """Make the copy like its source; how many files came, and bytes.

        Raises:
            SiteError: it is not like its source, though nobody has that open.
        """
        where, folder = self.mailbox.place, self._folder
        known = frozenset(self._letters)
        with ThreadPoolExecutor() as pool:
            there = pool.submit(listed, self.site, self.target, where, "incoming", known)
            source = listed(self.site, self.source, where, folder, known)
            copy = there.result()
        missing, wrong = differing(source, copy)
        if wrong:
            names = json.dumps(wrong, ensure_ascii=False)
            told(self.site, self.target, "remove", where, stdin=names)
        if missing:
            passed_on(self.site, where, (self.source, folder), self.target, missing)
        if missing or wrong:
            copy = listed(self.site, self.target, where, "incoming", known)
        self._letters |= {
            name for name, file in source.items() if name in copy and same(file, copy[name])
        }
        late, more = differing(source, copy)
        if (late or more) and not in_use:
            raise SiteError(
                f"{self.mailbox.address}: {(late or more)[0]}: differs on {self.target.name} "
                "though nobody has it open; expected the same bytes; run it again"
            )
        return len(missing), size(source, missing)

    def close(self) -> float:
        """Close it, bring the rest over, tell the directory, open it: the seconds it took.

        Raises:
            SiteError: it could not be done; it is open as before, or the message says that the
                command must be run again.
        """
        begun = time.monotonic()
        try:
            self._closed()
        except BaseException:
            self._undone()
            raise
        # What is remembered of where it lies.
        end_sessions(self.site, self.mailbox.users)
        seconds = time.monotonic() - begun
        if self.apart:
            self._finished(self.source)
        return seconds

    def _closed(self) -> None:
        one, site = self.mailbox, self.site
        if self.apart:
            self.before |= told(site, self.source, "close", one.place, *one.users)
            if self.before["outgoing"]:
                self._brought(in_use=False)
            told(site, self.target, "place", one.place, moment())
        host = f"{one.target}.{site.domain}"
        self._asked = True
        modify(site, Change("modify", one.dn, {"mailHost": [host]}).ldif())
        self._known(host)

    def _known(self, host: str) -> None:
        """Wait until every directory host that answers says where it lies now."""
        command = (
            f"ldapsearch -Q -Y EXTERNAL -H ldapi:/// -LLL -o ldif_wrap=no -s base "
            f"-b {shlex.quote(self.mailbox.dn)} mailHost | sed -n 's/^mailHost: //p'"
        )
        end = time.monotonic() + _KNOWN
        while True:
            said, _ = everywhere(self.site, self.site.group("directory"), command)
            late = [name for name, text in said.items() if text.strip().lower() != host]
            if not late:
                return
            if time.monotonic() > end:
                # Whoever asks it is led to the old store, where there is nothing to be opened.
                say([f"  {', '.join(late)}: has not learnt of it for {_KNOWN} s; whoever asks it "
                     "gets a temporary failure until it has"])  # fmt: skip
                return
            time.sleep(0.2)

    def _undone(self) -> None:
        """Open it where it was, unless a directory may have been told."""
        one = self.mailbox
        again = f"{one.address}: is closed; run the same command again to complete it"
        if self._asked:
            say([again])
            return
        try:
            if self.apart:
                with contextlib.suppress(SiteError):
                    # Where it does not answer: what lies there is reached by nobody.
                    told(self.site, self.target, "unplace", one.place)
                told(self.site, self.source, "reopen", one.place, *one.users)
                flushed(self.site)
        except SiteError as error:
            say([f"{one.address}: {error}", again])
            return
        say([f"{one.address}: is open on {one.source} again, as before; what was copied stays on "
             f"{self.target.name} for the next try"])  # fmt: skip

    old = ""
    """Where the old copy is: host and path."""

    def _finished(self, store: SiteHost) -> None:
        path = told(self.site, store, "finish", self.mailbox.place, moment())["old"]
        self.old = f"{store.name}:{path}" if path else ""

    def completed(self) -> bool:
        """Open what a run that was cut off left closed behind it; whether there was anything."""
        one, left = self.mailbox, self.left()
        for store in left:
            if store == self.target:
                told(self.site, store, "reopen", one.place, *one.users)
            else:
                self._finished(store)
        if left:
            end_sessions(self.site, one.users)
        return bool(left)


def moment() -> str:
    """The time, as names of old copies say it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def end_sessions(site: Site, users: Sequence[str]) -> None:
    """Forget what is remembered of accounts, and end their sessions; a host that is down has none.

    Args:
        site: the site.
        users: log-in names.
    """
    names = shlex.join(users)
    command = (
        f"doveadm auth cache flush {names} >/dev/null && for user in {names}; do "
        f'doveadm kick "$user" >/dev/null || test $? = {NO_SESSION}; done'
    )
    _, faults = everywhere(site, site.group("store", "front"), command)
    say([f"  {fault}" for fault in faults])


# -- what follows ----------------------------------------------------------------------------------


def flushed(site: Site) -> None:
    """Let every mx try again what waits."""
    _, faults = everywhere(site, site.group("mx"), "postqueue -f")
    say([f"  {fault}" for fault in faults])


def waiting(site: Site, addresses: Collection[str], before: float) -> tuple[int, int]:
    """How many letters to addresses wait in mx's queues, and how many of them are put off.

    Args:
        site: the site.
        addresses: of mailboxes.
        before: a time, in seconds since 1970: what came later and is on its way does not count.
    """
    said, _ = everywhere(site, site.group("mx"), "postqueue -j")
    items = [json.loads(line) for text in said.values() for line in text.splitlines()]
    ours = [
        item["queue_name"] == "deferred"
        for item in items
        if any(one["address"].lower() in addresses for one in item["recipients"])
        and (item["queue_name"] == "deferred" or item["arrival_time"] <= before)
    ]
    return len(ours), sum(ours)


def delivered(site: Site, addresses: Collection[str]) -> list[str]:
    """Let what waited on mx arrive; what is left of it, in words."""
    flushed(site)
    opened, end = time.time(), time.monotonic() + _ARRIVED
    while True:
        every, late = waiting(site, addresses, opened)
        if not every:
            return []
        if time.monotonic() > end:
            return [f"{every} letters are still on mx; they arrive by themselves"]
        if late:
            # It was just being put off when the queues were flushed.
            flushed(site)
        time.sleep(_PAUSE if late else 0.5)


def units_told(site: Site, stores: Collection[SiteHost]) -> None:
    """Let stores give rights, and list units, as the directory now has them."""
    _, faults = everywhere(site, list(stores), "systemctl start site-units.service")
    # Its timer comes within a minute, too.
    say([f"  {fault}" for fault in faults])


def room(moves: Sequence[Move]) -> None:
    """See that what is to come has room.

    Raises:
        SiteError: it has not.
    """
    coming = sum(move.missing for move in moves)
    if not coming:
        return
    state, target = moves[0].there, moves[0].target
    left = state["free"] - coming
    if left < SPARE * state["size"]:
        raise SiteError(
            f"{target.name}: /var/vmail: {state['free'] / 2**20:.0f} MiB are free, and "
            f"{coming / 2**20:.0f} MiB are to come; expected {SPARE:.0%} of "
            f"{state['size'] / 2**20:.0f} MiB to stay free; make room there"
        )


def run(site: Site, options: argparse.Namespace) -> int:
    """Print the plan, and with `options.action` of `apply` do it.

    Raises:
        SiteError: it cannot be done.
    """
    mailboxes = chosen(site, options)
    check(site, mailboxes)
    moves = [Move(site, one) for one in mailboxes]
    todo = [move for move in moves if move.mailbox.source != move.mailbox.target]
    room(todo)
    say([line for move in moves for line in move.said()])
    say(apart(site, [move.mailbox for move in todo]))
    unfinished = [move for move in moves if move not in todo and move.left()]
    if options.action == "plan":
        return EXIT_CHANGES if todo or unfinished else EXIT_DONE
    for move in (*unfinished, *todo):
        noted(site, f"move to {options.to} of", move.mailbox.address)
    for move in unfinished:
        move.completed()
        say([f"{move.mailbox.address}: is open on {options.to}", *kept(move)])
    for move in todo:
        say([f"{move.mailbox.address}:"])
        move.copy()
    for move in todo:
        seconds = move.close()
        say([f"{move.mailbox.address}: lies on {options.to}; it was closed for {seconds:.1f} s",
             *kept(move)])  # fmt: skip
    done = [*unfinished, *todo]
    if done:
        units_told(site, {host for move in done for host in (move.source, move.target)})
        say(delivered(site, {move.mailbox.address for move in done}))
        say(["done"])
    return EXIT_DONE


def kept(move: Move) -> list[str]:
    """Where the old copy is, in words."""
    return [f"  its old copy is {move.old}"] if move.old else []


# -- the command line ------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    result = argparse.ArgumentParser(
        prog="python -m deploy.move_mailbox", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = result.add_subparsers(dest="action", required=True)
    for action, text in (("plan", "say what would happen"), ("apply", "do it")):
        job = actions.add_parser(action, help=text)
        job.add_argument("--env", required=True, help="a folder in inventories/")
        job.add_argument("--to", required=True, metavar="STORE", help="such as store-b")
        job.add_argument(
            "--with-readers", action="store_true",
            help="also everybody who reads the mailboxes that are named",
        )  # fmt: skip
        job.add_argument(
            "who", nargs="+", metavar="WHO", help="an address, a person's ID, or a unit's code"
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and do it."""
    options = parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Who is asked to end, or loses the terminal, opens the mailbox before.
        signal.signal(number, signal.default_int_handler)
    try:
        return run(load(options.env), options)
    except SiteError as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        sys.stderr.write("cut off; see above\n")
    return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
