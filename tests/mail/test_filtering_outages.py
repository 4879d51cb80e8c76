"""The filter's daemons are killed: nothing passes unscanned, and they come back by themselves.

That they are stopped in good order is in `tests/faults`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email.message import EmailMessage

import pytest

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.samples import eicar
from tests.waiting import until

PATIENCE = 15.0
"""Seconds that a letter may take longer while the Bayes store is of no use."""


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail."""
    return person("anv")


def offer(site: Site, recipient: str, text: str = "Kính gửi.\n") -> int:
    """Offer a letter to port 25; the last answer's code."""
    stranger = f"tester.{clients.foreign_domain(site)}"
    message = clients.letter(f"nguoi.la@{stranger}", recipient, text=text)
    with clients.mx(site) as client:
        for code, words in (
            client.mail(message["From"].addresses[0].addr_spec),
            client.rcpt(recipient),
            client.docmd("DATA"),
        ):
            if code not in (250, 354):
                assert 400 <= code < 500, words
                return code
        client.send(message.as_bytes().replace(b"\n", b"\r\n") + b"\r\n.\r\n")
        return client.getreply()[0]


@pytest.mark.parametrize(
    "unit",
    ["clamav-daemon.service", "mimedefang-multiplexor.service", "mimedefang.service"],
)
def test_a_daemon_that_is_killed_comes_back_and_nothing_passes_meanwhile(
    site: Site, official: Account, unit: str
) -> None:
    mx = clients.address_of(site, "mx")
    assert offer(site, official.address) == 250
    remote.shell(site, mx, f"systemctl kill --signal=KILL {unit}")
    # Malware all the time, so that a letter that slips through shows.
    codes = []

    def refused() -> bool:
        codes.append(offer(site, official.address, f"{eicar().decode()}\n"))
        return codes[-1] == 554

    until(refused, f"a verdict after {unit} was killed")
    assert set(codes) <= {451, 554}
    assert offer(site, official.address) == 250


def test_a_worker_that_is_killed_takes_no_letter_with_it(site: Site, official: Account) -> None:
    mx = clients.address_of(site, "mx")
    remote.shell(
        site,
        mx,
        "pkill -KILL -P $(systemctl show --value -p MainPID mimedefang-multiplexor.service)",
    )
    until(lambda: offer(site, official.address) == 250, "a letter that passes")
    assert offer(site, official.address, f"{eicar().decode()}\n") == 554


@contextmanager
def frozen(site: Site) -> Iterator[None]:
    """A database server that takes connections and never answers."""
    database = clients.address_of(site, "database")
    unit = "postgresql@17-main.service"
    remote.shell(site, database, f"systemctl kill --signal=STOP {unit}")
    try:
        yield
    finally:
        remote.shell(site, database, f"systemctl kill --signal=CONT {unit}")


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """A Bayes store in which somebody holds every row."""
    database = clients.address_of(site, "database")
    remote.shell(
        site,
        database,
        "systemd-run --quiet --collect --unit=bayes-lock --uid=postgres psql -qd bayes -c "
        "'begin; lock table bayes_token, bayes_vars in access exclusive mode;"
        " select pg_sleep(300);'",
    )
    try:
        query = "select count(*) from pg_locks where mode = 'AccessExclusiveLock'"
        until(
            lambda: int(
                remote.shell(site, database, f'cd / && runuser -u postgres -- psql -XAtc "{query}"')
            ),
            "the lock",
        )
        yield
    finally:
        # The server would hold the lock on after its client has gone.
        query = "select pg_terminate_backend(pid) from pg_locks where mode = 'AccessExclusiveLock'"
        remote.shell(site, database, f'cd / && runuser -u postgres -- psql -XAtc "{query}"')


@pytest.mark.parametrize("state", [frozen, locked], ids=["frozen", "locked"])
def test_a_bayes_store_of_no_use_delays_letters_a_little(
    site: Site, official: Account, state: Callable[[Site], AbstractContextManager[None]]
) -> None:
    sender = f"nguoi.la@tester.{clients.foreign_domain(site)}"

    def taken(message: EmailMessage) -> float:
        """Hand a letter over; the seconds that it took."""
        begin = time.monotonic()
        with clients.mx(site) as client:
            assert not client.send_message(message)
        return time.monotonic() - begin

    usual = taken(clients.letter(sender, official.address))
    message = clients.letter(sender, official.address, subject="Không Bayes")
    with state(site):
        assert taken(message) - usual < PATIENCE
        assert offer(site, official.address, f"{eicar().decode()}\n") == 554
    with clients.imap(site, official) as client:
        assert b"X-Spam-Status: No" in clients.raw(client, clients.wait_for(client, message))
