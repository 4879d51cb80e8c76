"""What every test of a running site needs: the site, its accounts, and people by their part."""

import os
from collections.abc import Callable

import pytest

from roles.common.site import Site, load
from tests import clients
from tests.clients import Account


@pytest.fixture(scope="session")
def site() -> Site:
    """The environment under test: the variable ENV, a lab's instance by LAB_INSTANCE."""
    return load(os.environ.get("ENV", "local"))


@pytest.fixture(scope="session")
def accounts(site: Site) -> list[Account]:
    """All accounts of the lab."""
    return clients.accounts(site)


@pytest.fixture(scope="session")
def person(accounts: list[Account]) -> Callable[[str], Account]:
    """Look an account up by the local part of its address."""
    known = {account.address.partition("@")[0]: account for account in accounts}
    return lambda local_part: known[local_part]
