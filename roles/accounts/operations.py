"""The registry brought into the directory."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from pyinfra import logger
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from roles.accounts.handover import hand_over, hashes
from roles.accounts.reconcile import READ, Plan, Target, reconcile, with_passwords
from roles.accounts.registry import Registry
from roles.accounts.settings import AccountsSettings
from roles.common.site import Site
from roles.directory.facts import DirectoryText, Written
from roles.directory.ldif import entries
from roles.directory.operations import Commands, feed
from roles.directory.settings import DirectorySettings
from roles.directory.tree import service_dn

_FEW = 3
"""So many mailboxes may always be closed: of a small site each is a large share."""


@contextmanager
def _all_stays() -> Iterator[None]:
    """Without looking for garbage, now or later: what is read stays down to the program's end.

    Three times as fast with 20,000 people, and the end comes half a second sooner.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def refusal(plan: Plan, settings: AccountsSettings, allowed: str | int | None) -> str:
    """Why a plan takes too many mailboxes out of use to be carried out; empty if it does not.

    Args:
        plan: the plan.
        settings: the role's; up to three never count as too many.
        allowed: the number that an operator typed, as a plan showed it.
    """
    many = plan.removals > max(_FEW, settings.removal_limit * plan.in_service)
    if not many or str(plan.removals) == str(allowed):
        return ""
    found = f", not {allowed}" if allowed is not None else ""
    return (
        f"the registry would lock or close {plan.removals} of {plan.in_service} mailboxes"
        f"{found}; expected at most {settings.removal_limit:.0%} (accounts.removal_limit). If that "
        f"is meant, say so: REMOVALS={plan.removals} with make, --removals {plan.removals} with "
        f"deploy.run, --data removals={plan.removals} with pyinfra"
    )


class Planner:
    """Compares a registry with a directory, once for each state of it.

    A run looks at the directory once more before it acts, and mostly finds it as it was.
    """

    def __init__(self, read: Callable[[], Registry], target: Target) -> None:
        """Take note of what shall be, and where.

        Args:
            read: returns the registry; may raise SiteError.
            target: where it goes.
        """
        self._read = read
        self.target = target
        self._compared: _Compared | None = None

    @cached_property
    def registry(self) -> Registry:
        """What shall be."""
        return self._read()

    def plan(self, written: str, text: Callable[[], str]) -> Plan:
        """The plan for a directory.

        Args:
            written: when it was last written, asked before it is read; empty if nobody knows.
            text: reads it, as LDIF.
        """
        known = self._compared
        if known and written and known.written == written:
            return known.plan
        found = text()
        if known and known.text == found:
            # Log-ins are written, too.
            plan = known.plan
        else:
            with _all_stays():
                plan = reconcile(self.registry, entries(found.splitlines()), self.target)
        self._compared = _Compared(written, found, plan)
        return plan


@dataclass(frozen=True)
class _Compared:
    """A directory that was compared: when it was written, what it held, what was to be done."""

    written: str
    text: str
    plan: Plan


@operation()
def registry_entries(planner: Planner, site: Site, password_file: str) -> Commands:
    """Units, people and unit mailboxes, as the registry has them.

    Everything is read in one go and compared here; only what differs is sent, under the name
    `cn=accounts`, so that the audit log tells the registry's changes from an administrator's.

    Args:
        planner: what shall be, and where it goes.
        site: the environment; first passwords are handed over in its state folder.
        password_file: file on the host that holds the password of `cn=accounts`.
    """
    settings = planner.target.settings
    plan = planner.plan(
        host.get_fact(Written),
        lambda: host.get_fact(DirectoryText, base=site.base_dn, attributes=READ),
    )
    if not state.is_executing:
        alien = [f"not of the registry, left alone: {dn}" for dn in plan.unmanaged]
        for line in (*planner.registry.notes, *alien, *plan.words, *plan.coming):
            logger.info(f"{host.print_prefix}{line}")
    if words := refusal(plan, settings, host.data.get("removals")):
        if not state.is_executing:
            raise OperationError(words)
        yield StringCommand("echo", QuoteString(words), ">&2; exit 1")
        return
    if not plan.changes:
        return
    if state.is_executing:
        passwords = hand_over(site.state / "accounts.json", plan)
        plan = with_passwords(
            plan,
            hashes(passwords, site.of(DirectorySettings)),
            change_first=site.of(DirectorySettings).password_change_first,
        )
    # Not in transactions (RFC 5805), which are three times as fast: in OpenLDAP 2.6.10 one that is
    # refused leaves attributes in later entries that no other program can read: slapcat crashes.
    options = f"-x -D '{service_dn(site, 'accounts')}' -y {password_file} -H ldapi:///"
    # Of a directory that holds nobody, nothing can be lost: the registry has it all.
    yield from feed(plan.changes, options, durable=plan.in_service > 0)
