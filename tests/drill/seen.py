"""What people see of a site, and what the directory says: to be compared with what it was."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from imapclient import IMAPClient

from roles.common.site import Site
from roles.directory.ldif import parse
from roles.directory.tree import CONTAINERS
from tests import clients, managesieve, remote
from tests.clients import Account
from tests.pages import Pages
from tests.recovery.test_archive import Digests, content

Entries = dict[str, frozenset[tuple[str, str]]]
"""Name and digest of each value of an entry."""


@dataclass(frozen=True)
class Seen:
    """What one person sees."""

    letters: Digests
    """By folder, units' as well: digest, flags (what somebody has read is his own), date."""
    folders: frozenset[str]
    subscribed: frozenset[str]
    rights: dict[str, str]
    """What somebody may do with each folder."""
    scripts: dict[str, str]
    """Sieve scripts; the one that is active has `ACTIVE` behind its name."""
    page_size: int
    """A preference of the webmail."""
    contacts: frozenset[str]


def seen(site: Site, people: Iterable[Account]) -> dict[str, Seen]:
    """What each sees, by address."""
    return {person.address: _seen(site, person) for person in people}


def _seen(site: Site, person: Account) -> Seen:
    with clients.imap(site, person) as client:
        folders = {name for flags, _, name in client.list_folders() if rb"\Noselect" not in flags}
        subscribed = {name for _, _, name in client.list_sub_folders()}
        rights = {name: _rights(client, name) for name in folders}
    with managesieve.logged_in(site, person) as sieve:
        scripts = {line: _script(sieve, line) for line in sieve.ask("LISTSCRIPTS")[:-1]}
    pages = Pages(site, person)
    return Seen(
        content(site, person), frozenset(folders), frozenset(subscribed), rights, scripts,
        pages.page_size, frozenset(pages.contacts),
    )  # fmt: skip


def _rights(client: IMAPClient, folder: str) -> str:
    # RFC 4314, which IMAPClient knows in part.
    said = client._command_and_check("myrights", client._normalise_folder(folder), unpack=True)
    return str(said.decode().rpartition(" ")[2])


def _script(sieve: managesieve.ManageSieve, line: str) -> str:
    name = line.removesuffix(" ACTIVE")
    return "\n".join(sieve.ask(f"GETSCRIPT {name}")[:-1])


def entries(site: Site) -> Entries:
    """Units, people and mailboxes of the directory, with passwords and identities."""
    wanted = "'*' entryUUID createTimestamp"
    result: Entries = {}
    for container in CONTAINERS:
        said = remote.shell(
            site, clients.address_of(site, "directory"),
            f"ldapsearch {remote.LDAP} -LLL -o ldif_wrap=no -b ou={container},{site.base_dn}"
            f" -s children '(objectClass=*)' {wanted} || test $? = 32",
        )  # fmt: skip
        for dn, values in parse(said.splitlines()):
            result[dn] = frozenset(
                (name.lower(), sha256(value.encode(errors="surrogateescape")).hexdigest())
                for name, several in values.items()
                for value in several
            )
    return result


def measured(site: Site, address: str, folder: str) -> int:
    """Bytes of the files in a folder of a host."""
    said = remote.shell(site, address, f"du -sb --exclude=.backup {folder}")
    return int(re.split(r"\s", said)[0])
