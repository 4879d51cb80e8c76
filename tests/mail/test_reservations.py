"""The address of a mailbox that was purged: reserved for its owner, then somebody else's.

Time alone does it, on the directory host; who is purged is made for the test.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from ldap3 import MODIFY_REPLACE
from ldap3.core.exceptions import LDAPConstraintViolationResult, LDAPNoSuchObjectResult

from roles.accounts.lifecycle import written
from roles.common.site import Site
from tests.mail.test_directory import bound, service, somebody
from tests.waiting import until

__all__ = ["somebody"]

MINUTE = 60
"""Within so many seconds it must be done."""


@pytest.mark.regulation("8")
def test_the_address_of_a_purged_mailbox_is_reserved_and_then_free(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    now = datetime.now(UTC)
    alias = f"thu-{secrets.token_hex(6)}@{site.domain}"
    dn, _ = somebody(
        mailboxState="purged",
        mailboxStateSince=written(now - timedelta(days=1)),
        mailLocalAddress=[alias],
        managedBy="registry",
    )
    owner = dn.partition(",")[0].lower()
    reservation = f"reservedAddress={alias},ou=reservations,{site.base_dn}"
    with bound(site, *service(site, "accounts")) as accounts:

        def seen(name: str) -> dict[str, list[str]]:
            with suppress(LDAPNoSuchObjectResult):
                accounts.search(name, "(objectClass=*)", "BASE", attributes=["*"])
                return dict(accounts.entries[0].entry_attributes_as_dict)
            return {}

        try:
            # The reservation comes first, the entry loses its address last.
            until(
                lambda: "mailLocalAddress" not in seen(dn), "the address to be taken away", MINUTE
            )
            assert seen(dn)["mail"] == [f"{owner.replace('=', '-')}@purged.invalid"]
            reserved = seen(reservation)
            assert [value.lower() for value in reserved["reservedFor"]] == [owner]
            assert reserved["reservedAs"] == ["none"]
            accounts.modify(reservation, {"validUntil": [(MODIFY_REPLACE, [written(now)])]})
            until(lambda: not seen(reservation), "the address to be free", MINUTE)
            # Nothing of the former owner keeps the next one out.
            new, _ = somebody(mail=alias, mailLocalAddress=[alias])
            assert seen(new)["mailLocalAddress"] == [alias]
            with pytest.raises(LDAPConstraintViolationResult):
                somebody(mail=alias, mailLocalAddress=[alias])
        finally:
            with suppress(LDAPNoSuchObjectResult):
                accounts.delete(reservation)
