"""A second site: what the backup host copies there, and what comes back from there."""

from collections.abc import Callable, Iterator

import pytest

from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR
from roles.backup.deploy import clients as holders
from roles.backup.deploy import parts
from roles.backup.targets import ON_CLIENT
from roles.common.site import Site
from tests import clients, remote
from tests.backups import backup_of
from tests.mail.test_access_ends import settle
from tests.mail.test_directory import GOOD, bound, service, somebody
from tests.recovery.test_archive import content
from tests.recovery.test_handover import newcomers
from tests.recovery.test_restore_directory import lets_in, values
from tests.recovery.test_restore_mail import fill
from tests.secondsite import COPY, HOME, NAME, Second, second_site

__all__ = ["somebody"]
"""A fixture."""


@pytest.fixture(scope="module")
def second(site: Site) -> Iterator[Second]:
    """A second site, until the last test here."""
    with second_site(site) as made:
        yield made


def test_the_keepers_own_unit_copies_every_hosts_backup(site: Site, second: Second) -> None:
    assert second.copied() == "success", second.at_keeper(f"journalctl -n 50 -u {COPY}")
    for host in holders(site):
        assert second.snapshots(host) == len(parts(site, host)), host.name
    assert second.alarms() == {}
    said = second.at_keeper("site-backup-keeper status || test $? = 2")
    for host in holders(site):
        assert f"copy at {NAME}: {host.name}: last 20" in said


def test_of_a_day_the_last_copy_is_kept_there(site: Site, second: Second) -> None:
    host = site.group("mx")[0]
    # So many that midnight, which may come between, leaves fewer.
    times = 3
    for _ in range(times):
        remote.shell(site, host.address, "site-backup run keys")
        second.copy(host)
    assert second.snapshots(host) < len(parts(site, host)) - 1 + times


def test_nobody_else_is_taken_for_the_second_site(site: Site, second: Second) -> None:
    host = site.group("mx")[0]
    remote.shell(site, host.address, "site-backup run keys")
    second.copy(host)
    before = second.shell(f"find {HOME} -type f | sort")
    remote.shell(site, host.address, "site-backup run keys")
    with second.somebody_else():
        assert second.copied() == "exit-code"
        told = second.alarms()
        assert {*told} == {one.name for one in holders(site)}
        assert all("Host key verification failed" in words for words in told.values()), told
    assert second.shell(f"find {HOME} -type f | sort") == before
    # And while it is away.
    with second.away():
        assert second.copied() == "exit-code"
        assert "Connection refused" in second.alarms()[host.name]
    second.copy(host)
    assert host.name not in second.alarms()


def test_a_mailbox_comes_back_from_there(site: Site, second: Second) -> None:
    with newcomers(site, 1) as (person,):
        settle(site, person.account)
        before = fill(person)
        store = clients.store_of(site, person.account.address)
        at = backup_of(site, store, "mail")
        second.copy(store)
        with clients.imap(site, person.account) as client:
            client.select_folder("INBOX")
            client.delete_messages(client.search())
            client.expunge()
        request = ("mailbox", person.account.address, "--at", at)
        # The backup host is not asked: it is away.
        with remote.stopped(site, second.keeper.address, "site-backup-server.service"):
            code, said = second.restore("plan", *request)
            assert code == EXIT_CHANGES, said
            code, said = second.restore("apply", *request)
            assert code == EXIT_DONE, said
        assert content(site, person.account) == before
        # What opens the second site stays on no host.
        remote.shell(site, store.address, f"test ! -e {ON_CLIENT}")


def test_the_directory_comes_back_from_there(
    site: Site, second: Second, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, address = somebody()
    before = values(site, dn, "entryUUID", "mail")
    told = site.group("directory")[0]
    at = backup_of(site, told, "directory")
    second.copy(told)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(dn)
    with remote.stopped(site, second.keeper.address, "site-backup-server.service"):
        code, said = second.restore("apply", "directory", address, "--at", at)
        assert code == EXIT_DONE, said
    assert values(site, dn, "entryUUID", "mail") == before
    assert lets_in(site, dn, GOOD)
    remote.shell(site, told.address, f"test ! -e {ON_CLIENT}")


def test_where_the_second_site_is_away_a_restore_says_so_and_leaves_nothing(
    site: Site, second: Second
) -> None:
    told = site.group("directory")[0]
    with second.away():
        code, said = second.restore("plan", "directory", "--at", "now")
    assert code == EXIT_ERROR
    assert "Connection refused" in said
    remote.shell(site, told.address, f"test ! -e {ON_CLIENT}")
