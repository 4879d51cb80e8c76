"""The registry brought into the directory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from pyinfra import logger
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from roles.accounts.handover import hand_over, hashes
from roles.accounts.reconcile import Target, reconcile, with_passwords
from roles.accounts.registry import Registry
from roles.common.site import Site
from roles.directory.facts import DirectoryText
from roles.directory.ldif import entries
from roles.directory.operations import Commands, feed
from roles.directory.tree import service_dn


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without looking for garbage, of which there is none yet: three times as fast with 20,000."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@operation()
def registry_entries(
    registry: Registry, target: Target, site: Site, password_file: str
) -> Commands:
    """Units, people and unit mailboxes, as the registry has them.

    Everything is read in one go and compared here; only what differs is sent, under the name
    `cn=accounts`, so that the audit log tells the registry's changes from an administrator's.

    Args:
        registry: what shall be.
        target: where it goes.
        site: the environment; first passwords are handed over in its state folder.
        password_file: file on the host that holds the password of `cn=accounts`.
    """
    text = host.get_fact(DirectoryText, base=site.base_dn)
    with _no_collection():
        plan = reconcile(registry, entries(text.splitlines()), target)
    if not state.is_executing:
        alien = [f"not of the registry, left alone: {dn}" for dn in plan.unmanaged]
        for line in (*registry.notes, *alien, *plan.words):
            logger.info(f"{host.print_prefix}{line}")
    if not plan.changes:
        return
    if state.is_executing:
        passwords = hand_over(site.state / "accounts.json", plan)
        plan = with_passwords(plan, hashes(passwords, target.settings))
    options = f"-x -D '{service_dn(site, 'accounts')}' -y {password_file} -H ldapi:///"
    yield from feed(plan.changes, options)
