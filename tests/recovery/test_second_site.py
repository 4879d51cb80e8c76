"""Second sites, by SFTP and by S3: what the backup host copies there, and what comes back."""

import time
from collections.abc import Callable, Iterator

import pytest

from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR
from roles.backup.deploy import clients as holders
from roles.backup.deploy import parts
from roles.backup.targets import ON_CLIENT
from roles.common.site import Site
from tests import clients, remote
from tests.access import settle
from tests.backups import backup_of
from tests.mail.test_directory import GOOD, bound, service, somebody
from tests.recovery.test_archive import content
from tests.recovery.test_handover import newcomers
from tests.recovery.test_restore_directory import lets_in, values
from tests.recovery.test_restore_mail import fill
from tests.secondsite import COPY, S3, Second, Sftp, second_sites

__all__ = ["somebody"]
"""A fixture."""
PATIENCE = 300
"""Seconds: a third of what restic takes by itself."""


@pytest.fixture(scope="module")
def places(site: Site) -> Iterator[dict[type[Second], Second]]:
    """Second sites of each kind, until the last test here."""
    with second_sites(site, Sftp, S3) as made:
        yield {type(one): one for one in made}


@pytest.fixture(params=[Sftp, S3])
def second(places: dict[type[Second], Second], request: pytest.FixtureRequest) -> Second:
    """One of them."""
    return places[request.param]


@pytest.fixture
def sftp(places: dict[type[Second], Second]) -> Sftp:
    """The one by SFTP, for what is the same by S3."""
    found = places[Sftp]
    assert isinstance(found, Sftp)
    return found


@pytest.fixture
def storage(places: dict[type[Second], Second]) -> S3:
    """The one by S3."""
    found = places[S3]
    assert isinstance(found, S3)
    return found


def test_the_keepers_own_unit_copies_every_hosts_backup(
    site: Site, places: dict[type[Second], Second]
) -> None:
    some = places[Sftp]
    assert some.copied() == "success", some.at_keeper(f"journalctl -n 50 -u {COPY}")
    said = some.at_keeper("site-backup-keeper status || test $? = 2")
    for second in places.values():
        assert second.alarms() == {}
        for host in holders(site):
            assert len(second.snapshots(host)) >= len(parts(site, host)), second.name
            assert f"copy at {second.name}: {host.name}: last 20" in said


def test_of_a_day_the_last_copy_is_kept_there(site: Site, sftp: Sftp) -> None:
    host = site.group("mx")[0]
    # So many that midnight, which may come between, leaves fewer.
    times = 3
    sftp.copy(host)
    before = len(sftp.snapshots(host))
    for _ in range(times):
        remote.shell(site, host.address, "site-backup run keys")
        sftp.copy(host)
    assert len(sftp.snapshots(host)) < before + times


def test_nobody_else_is_taken_for_the_second_site(site: Site, second: Second) -> None:
    host = site.group("mx")[0]
    second.copy(host)
    before = second.files()
    remote.shell(site, host.address, "site-backup run keys")
    with second.somebody_else():
        second.copy(host, check=False)
        assert second.stranger in second.alarms()[host.name]
    assert second.files() == before
    second.copy(host)
    assert host.name not in second.alarms()
    assert second.files() != before


def test_a_key_that_does_not_open_is_an_alarm_in_the_servers_words(site: Site, storage: S3) -> None:
    """And the others are not kept waiting: restic would try for a quarter of an hour."""
    host = site.group("mx")[0]
    storage.copy(host)
    with storage.other_key():
        begin = time.monotonic()
        storage.copy(host, check=False)
        assert time.monotonic() - begin < PATIENCE
        assert "signature we calculated does not match" in storage.alarms()[host.name]
    storage.copy(host)
    assert host.name not in storage.alarms()


def test_while_one_is_away_there_is_an_alarm_and_the_others_get_their_copies(
    site: Site, sftp: Sftp, storage: S3
) -> None:
    host = site.group("mx")[0]
    remote.shell(site, host.address, "site-backup run keys")
    before = storage.files()
    with sftp.away():
        assert sftp.copied() == "exit-code"
        told = sftp.alarms()
        assert {*told} == {one.name for one in holders(site)}
        assert all("Connection refused" in words for words in told.values()), told
    assert storage.alarms() == {}
    assert storage.files() != before
    sftp.copy(host)
    assert host.name not in sftp.alarms()


def test_a_mailbox_comes_back_from_there(site: Site, places: dict[type[Second], Second]) -> None:
    with newcomers(site, 1) as (person,):
        settle(site, person.account)
        before = fill(person)
        store = clients.store_of(site, person.account.address)
        request = ("mailbox", person.account.address, "--at", backup_of(site, store, "mail"))
        for second in places.values():
            second.copy(store)
            with clients.imap(site, person.account) as client:
                client.select_folder("INBOX")
                client.delete_messages(client.search())
                client.expunge()
            # The backup host is not asked: it is away.
            with remote.stopped(site, second.keeper.address, "site-backup-server.service"):
                code, said = second.restore("plan", *request)
                assert code == EXIT_CHANGES, said
                code, said = second.restore("apply", *request)
                assert code == EXIT_DONE, said
            assert content(site, person.account) == before, second.name
            # What opens the second site stays on no host.
            remote.shell(site, store.address, f"test ! -e {ON_CLIENT}")


def test_the_directory_comes_back_from_there(
    site: Site, sftp: Sftp, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, address = somebody()
    before = values(site, dn, "entryUUID", "mail")
    told = site.group("directory")[0]
    at = backup_of(site, told, "directory")
    sftp.copy(told)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(dn)
    with remote.stopped(site, sftp.keeper.address, "site-backup-server.service"):
        code, said = sftp.restore("apply", "directory", address, "--at", at)
        assert code == EXIT_DONE, said
    assert values(site, dn, "entryUUID", "mail") == before
    assert lets_in(site, dn, GOOD)
    remote.shell(site, told.address, f"test ! -e {ON_CLIENT}")


def test_where_the_second_site_is_away_a_restore_says_so_and_leaves_nothing(
    site: Site, sftp: Sftp
) -> None:
    told = site.group("directory")[0]
    with sftp.away():
        code, said = sftp.restore("plan", "directory", "--at", "now")
    assert code == EXIT_ERROR
    assert "Connection refused" in said
    remote.shell(site, told.address, f"test ! -e {ON_CLIENT}")
