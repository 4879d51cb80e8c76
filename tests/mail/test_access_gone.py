"""Nothing opens the mailbox of somebody who is gone, whichever state it has come to."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from roles.common.site import Site
from tests import remote
from tests.access import WITHIN, settle
from tests.mail.test_access_ends import refused, sessions
from tests.mail.test_services import USED
from tests.recovery.test_handover import newcomers
from tests.waiting import until


@pytest.fixture
def stands_still(site: Site) -> Iterator[None]:
    """Time brings nothing to mailboxes: who was purged would lose address and entry."""
    with ExitStack() as stack:
        for host in site.group("directory"):
            stack.enter_context(remote.stopped(site, host.address, "site-lifecycle.service"))
        for host in site.group("store"):
            stack.enter_context(remote.stopped(site, host.address, "site-archive.timer"))
        yield


@pytest.mark.regulation("8", "13")
@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize("state", ["departed", "archived", "purged"])
def test_who_is_gone_is_out_of_every_service_within_a_minute(site: Site, state: str) -> None:
    with newcomers(site, 1) as (person,):
        settle(site, person.account)
        kinds = ("imap", "imap, waiting", "pop3", "sieve", "submission", "webmail")
        with sessions(site, person.account, *kinds) as alive:
            person.write(mailboxState=state)
            until(lambda: not alive(), "the end of every session", WITHIN)
        settle(site, person.account)
        assert refused(site, person.account) == set(USED) - {"lmtp"}
