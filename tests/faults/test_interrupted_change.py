"""A change of configuration is cut off at random points, and the next run completes it.

Afterwards the plan has nothing to do, the services answer with the new values, and the hosts are as
after an undisturbed run.
"""

import random
import smtplib
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from imapclient.exceptions import LoginError

from deploy.run import EXIT_CHANGES, EXIT_DONE, run
from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.faults.fingerprint import differences, fingerprint
from tests.faults.interruption import apply_and_kill, changed_settings, operations, points

POINTS = 3


@pytest.fixture
def undisturbed(site: Site) -> dict[str, set[str]]:
    """The hosts as the change leaves them that nobody cuts off; then without the change again."""
    with changed_settings():
        assert apply(site) == EXIT_DONE
        found = fingerprint(site)
    assert apply(site) == EXIT_DONE
    return found


@pytest.fixture
def changed(site: Site, undisturbed: dict[str, set[str]]) -> Iterator[dict[str, set[str]]]:
    """The environment with other settings; its own are deployed again afterwards.

    How the hosts shall be with them comes along.
    """
    with changed_settings():
        yield undisturbed
    assert apply(site) == EXIT_DONE


def apply(site: Site) -> int:
    return run("apply", "site", site.environment, [], sys.stdout)


def plan(site: Site) -> int:
    return run("plan", "site", site.environment, [], sys.stdout)


def announced_size(site: Site) -> int:
    """The largest letter that port 25 announces (RFC 1870), in bytes."""
    with smtplib.SMTP(clients.address_of(site, "mx"), 25, timeout=clients.SECONDS) as client:
        client.ehlo("kiemtra.vidu.example")
        return int(client.esmtp_features["size"])


def audit_kept(site: Site) -> str:
    """How long the running directory keeps its audit log, by its own account."""
    return remote.shell(
        site,
        clients.address_of(site, "directory"),
        "ldapsearch -LLL -o ldif_wrap=no -Q -Y EXTERNAL -H ldapi:/// -b cn=config"
        " '(olcAccessLogPurge=*)' olcAccessLogPurge | sed -n 's/^olcAccessLogPurge: //p'",
    ).strip()


def sessions(site: Site, account: Account, most: int) -> int:
    """How many IMAP sessions one person may have at the same time, tried up to `most`."""
    with ExitStack() as stack:
        for number in range(most):
            try:
                stack.enter_context(clients.imap(site, account))
            except LoginError:
                return number
        return most


def test_the_next_run_completes_a_change_that_was_cut_off(
    site: Site, accounts: list[Account], changed: dict[str, set[str]]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    person = next(account for account in accounts if account.is_person)
    assert announced_size(site) == 50 * 2**20
    assert not audit_kept(site).startswith("400+")
    assert sessions(site, person, 6) == 6
    assert plan(site) == EXIT_CHANGES
    for point in points(POINTS, operations(site.environment), seed):
        apply_and_kill(site.environment, point)
    assert apply(site) == EXIT_DONE
    assert plan(site) == EXIT_DONE, "something was left to do"
    assert not differences(changed, fingerprint(site))
    assert announced_size(site) == 40 * 2**20
    assert audit_kept(site).startswith("400+")
    assert sessions(site, person, 6) == 5
