"""What a store needs besides files and services."""

from collections.abc import Generator

from pyinfra import logger
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state
from pyinfra.facts.files import File

from roles.mailstore.facts import (
    NO_ANSWER,
    UNITS,
    MailOwner,
    UncompiledSieve,
    UnitMailboxesToDo,
)


@operation()
def vmail_user(uid: int) -> Generator[StringCommand, None, None]:
    """The user that owns all mail, with the same number on every store.

    A mailbox may be brought to another store by its files: their owner must be known there.

    Args:
        uid: number of the user and of the group.
    """
    if not host.get_fact(MailOwner):
        yield StringCommand(
            f"groupadd --force --gid {uid} vmail && useradd --uid {uid} --gid {uid}"
            " --home-dir /var/vmail --no-create-home --shell /usr/sbin/nologin vmail"
        )


@operation()
def sieve_compiled(after: list[OperationMeta]) -> Generator[StringCommand, None, None]:
    """The site's Sieve scripts as binaries: those who run them may not write there.

    Args:
        after: the operations that write scripts.
    """
    scripts = host.get_fact(UncompiledSieve)
    if not state.is_executing and any(meta.will_change for meta in after):
        scripts = scripts or ["the changed scripts"]
    if scripts:
        # By the file: without it, sievec takes the settings of the Dovecot that still runs.
        compiler = "sievec -c /etc/dovecot/dovecot.conf"
        yield StringCommand(" && ".join(f"{compiler} {script}" for script in scripts))


@operation()
def unit_mailboxes(script: bytes) -> Generator[StringCommand, None, None]:
    """The unit mailboxes of this store, with their rights (regulation, article 3.1a).

    A directory that does not answer is no reason to leave a store without its configuration: the
    run says so and goes on, and the timer makes them later.

    Args:
        script: the program that makes them, as it shall be.
    """
    found = host.get_fact(UnitMailboxesToDo, script=script)
    if NO_ANSWER in found:
        logger.warning(f"{host.print_prefix}{NO_ANSWER}")
    elif found:
        if not state.is_executing:
            for line in found:
                logger.info(f"{host.print_prefix}{line}")
        yield StringCommand(f"{UNITS} >&2")


@operation()
def accounts_file(path: str) -> Generator[StringCommand, None, None]:
    """A file that Dovecot reads accounts from; what stands in it is no deploy's business.

    Args:
        path: where.
    """
    if not host.get_fact(File, path=path):
        yield StringCommand("install -m 644 /dev/null", QuoteString(path))
