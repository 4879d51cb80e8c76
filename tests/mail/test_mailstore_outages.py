"""What a reader meets while a part is down, and that no hand is needed when it is back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from roles.common.site import Group, Site
from tests import clients, lmtp, remote
from tests.clients import Account
from tests.mail.test_mailstore import LOGINS
from tests.waiting import until

Person = Callable[[str], Account]

TEMPORARY = {"imap": "[UNAVAILABLE]", "pop3": "[SYS/TEMP]", "sieve": "TRYLATER"}
"""How each protocol says that it is nobody's fault: programs do not ask for a new password."""


@contextmanager
def without(site: Site, group: Group, unit: str) -> Iterator[None]:
    """Inside the block the unit runs on no host of the group."""
    with ExitStack() as stack:
        for host in site.group(group):
            stack.enter_context(remote.stopped(site, host.address, unit))
        yield


def answers(site: Site, account: Account) -> dict[str, str]:
    """What each protocol answers to a login; empty when it is taken."""
    return {name: login(site, account.address, account.password) for name, login in LOGINS.items()}


def can_log_in(site: Site, account: Account) -> bool:
    return not any(answers(site, account).values())


def forget(site: Site, account: Account) -> None:
    """Let stores and fronts forget what they remember of an account."""
    for host in site.group("store", "front"):
        remote.shell(site, host.address, f"doveadm auth cache flush {account.address}")


def assert_temporary(answered: dict[str, str]) -> None:
    assert {name: words for name, words in answered.items() if TEMPORARY[name] not in words} == {}


def test_without_its_store_a_mailbox_is_unavailable(site: Site, person: Person) -> None:
    if any(host.serves("front") for host in site.group("store")):
        pytest.skip("front and store are one host: nobody answers")
    account = person("clv")
    with without(site, "store", "dovecot.service"):
        assert_temporary(answers(site, account))
    until(lambda: can_log_in(site, account), "a log-in")


def test_without_the_directory_who_was_known_goes_on(site: Site, person: Person) -> None:
    known = person("clv")
    assert can_log_in(site, known)
    assert lmtp.deliver(site, known.address)[0].startswith("250")
    with without(site, "directory", "slapd.service"):
        assert can_log_in(site, known)
        letter = clients.letter(known.address, known.address, subject="Khi danh bạ ngừng")
        assert lmtp.deliver(site, known.address, letter.as_bytes())[-1].startswith("250")
        # What is remembered of a password opens to that password alone.
        assert LOGINS["imap"](site, known.address, "sai-mat-khau") != ""


def test_without_the_directory_others_are_asked_to_come_later(site: Site, person: Person) -> None:
    unknown = person("mhn")
    with without(site, "directory", "slapd.service"):
        forget(site, unknown)
        assert_temporary(answers(site, unknown))
        assert lmtp.deliver(site, unknown.address)[0].startswith("451")
    until(lambda: can_log_in(site, unknown), "a log-in")
    until(lambda: lmtp.deliver(site, unknown.address)[0].startswith("250"), "delivery")
