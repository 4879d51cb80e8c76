"""Letters from outside that come all the time, each noted when its reader has it."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Self

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.waiting import until

MOST = 2000
"""Letters at the most: a drill that hangs does not fill the lab."""
PAUSE = 1.0
"""Seconds before the next letter is sent: the machine has other work as well."""


@dataclass(frozen=True)
class Arrived:
    """A letter that is in its mailbox."""

    message_id: str
    account: Account
    at: datetime
    """When its reader had it: it was stored before."""


class Stream:
    """Inside the block letters come, one after the other: the next is sent when one has arrived."""

    def __init__(self, site: Site, recipients: Sequence[Account]) -> None:
        self._site = site
        self._recipients = recipients
        self._end = Event()
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[None]
        self.arrived: list[Arrived] = []

    def __enter__(self) -> Self:
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._pool.shutdown()
        self._running.result()

    def await_more(self, count: int) -> None:
        """Wait until so many letters more have arrived."""
        wanted = len(self.arrived) + count

        def there() -> bool:
            if self._running.done():
                self._running.result()
                raise AssertionError(f"the stream ended after {len(self.arrived)} letters")
            return len(self.arrived) >= wanted

        until(there, f"{count} letters more", 300)

    def _run(self) -> None:
        with ExitStack() as stack:
            inboxes = [
                (account, stack.enter_context(clients.imap(self._site, account)))
                for account in self._recipients
            ]
            for number in range(MOST):
                if self._end.wait(PAUSE):
                    return
                account, inbox = inboxes[number % len(inboxes)]
                message = clients.foreign_letter(self._site, account.address, subject=f"{number}")
                clients.send_from_outside(self._site, message)
                clients.wait_for(inbox, message)
                self.arrived.append(Arrived(str(message["Message-ID"]), account, datetime.now(UTC)))


def send_while_away(site: Site, recipients: Sequence[Account]) -> dict[str, str]:
    """Letters that wait outside, since nobody takes them; recipients by Message-ID."""
    sent = {}
    for account in recipients:
        message = clients.foreign_letter(site, account.address, subject="Trong khi vắng")
        clients.send_from_outside(site, message)
        sent[str(message["Message-ID"])] = account.address
    until(
        lambda: _queue(site).count('"delay_reason": "') >= len(sent),
        "that all wait in outside1's queue", 300, pause=1,
    )  # fmt: skip
    return sent


def come_in(site: Site, seconds: float = 300) -> str:
    """See to it that what waits outside comes in; what is left in the queue, if anything."""

    def empty() -> bool:
        # A server on the Internet tries by itself, later: that is not what is tested.
        remote.shell(site, clients.outside_address(site), "postqueue -f")
        return not _queue(site).strip()

    try:
        until(empty, "outside1's queue to be empty", seconds, pause=3)
    except TimeoutError:
        return _queue(site)
    return ""


def _queue(site: Site) -> str:
    return remote.shell(site, clients.outside_address(site), "postqueue -j")


def message_ids(site: Site, account: Account) -> set[str]:
    """What is in somebody's inbox and in Junk."""
    found = set()
    with clients.imap(site, account) as client:
        for folder in ("INBOX", "Junk"):
            client.select_folder(folder, readonly=True)
            for item in client.fetch(client.search(), ["ENVELOPE"]).values():
                found.add(item[b"ENVELOPE"].message_id.decode())
    return found
