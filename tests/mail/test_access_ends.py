"""Whoever may no longer is out within a minute: on live sessions, and on what was remembered.

The directory is changed as the registry does it; everything is put back afterwards.
"""

import poplib
import re
import select
import smtplib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError
from ldap3 import MODIFY_REPLACE

from deploy import helpdesk
from roles.common.site import Site
from roles.directory.settings import DirectorySettings
from roles.directory.tree import hashed
from roles.mailstore.settings import MailstoreSettings
from tests import clients, managesieve, remote
from tests.access import WITHIN, settle
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_mta_submission import asked
from tests.mail.test_services import USED
from tests.pages import Pages
from tests.waiting import until

UNIT = "stttt"
Alive = Callable[[], bool]
"""Whether a session can still be used; asking uses it."""


@pytest.fixture
def account(site: Site, person: Callable[[str], Account]) -> Iterator[Account]:
    """Somebody whom no other test needs; who can log in before and after."""
    somebody = person("mauvn")
    until(lambda: not refused(site, somebody), "that everything is as it was", WITHIN)
    settle(site, somebody)
    yield somebody
    settle(site, somebody)
    until(lambda: not refused(site, somebody), "that everything is as it was", WITHIN)


def refused(site: Site, account: Account) -> set[str]:
    """The services that refuse to log the account in."""
    return {
        name
        for name, log_in in USED.items()
        if name != "lmtp" and log_in(site, account.address, account.password)
    }


@contextmanager
def changed(
    site: Site,
    account: Account,
    back: Mapping[str, list[str]] | None = None,
    **attributes: list[str],
) -> Iterator[None]:
    """Inside the block the directory says otherwise about the account.

    Args:
        site: the site.
        account: whose entry is changed.
        back: what it shall say afterwards, where that cannot be read before.
        attributes: what it says instead.
    """
    names = list(attributes)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.search(site.base_dn, f"(mail={account.address})", attributes=names)
        (entry,) = accounts.entries
    former = {name: list(entry[name].values) if name in entry else [] for name in names}

    def write(values: Mapping[str, list[str]]) -> None:
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.modify(
                entry.entry_dn,
                {name: [(MODIFY_REPLACE, given)] for name, given in values.items()},
            )

    write(attributes)
    try:
        yield
    finally:
        write(back or former)


@contextmanager
def within_a_question(site: Site, account: Account, **attributes: list[str]) -> Iterator[None]:
    """Inside the block the directory says otherwise about the account, and nobody asks it.

    Dovecot has forgotten the account, as it has somebody who has not logged in for a while.
    """
    with ExitStack() as stack:
        for host in site.group("store", "front"):
            stack.enter_context(remote.stopped(site, host.address, "site-access.service"))
        # It is put back before anybody asks again.
        stack.enter_context(changed(site, account, None, **attributes))
        remote.followed(site, site.group("directory")[0])
        for host in site.group("store", "front"):
            remote.shell(site, host.address, f"doveadm auth cache flush {account.address}")
        yield


# -- sessions --------------------------------------------------------------------------------------


def works(command: Callable[[], object]) -> bool:
    """Whether a server still answers."""
    try:
        command()
    except (OSError, EOFError, IMAPClientError, poplib.error_proto):
        return False
    return True


def idles(client: IMAPClient) -> bool:
    """Whether a session that waits for letters was not ended."""
    # An end of the connection is something to read that is no line.
    told, _, _ = select.select([client.socket()], [], [], 0)
    try:
        lines = client.idle_check(timeout=0.1)
        return not told or (bool(lines) and not any(line[0] == b"BYE" for line in lines))
    except (OSError, EOFError, IMAPClientError):
        return False


@contextmanager
def imap_session(site: Site, account: Account) -> Iterator[Alive]:
    with clients.imap(site, account) as client:
        client.select_folder("INBOX")
        yield lambda: works(client.noop)


@contextmanager
def idle_session(site: Site, account: Account) -> Iterator[Alive]:
    with clients.imap(site, account) as client:
        client.select_folder("INBOX")
        client.idle()
        yield lambda: idles(client)


@contextmanager
def hibernated_session(site: Site, account: Account) -> Iterator[Alive]:
    """Nobody but the proxy and a process for all such sessions knows of it any more."""
    store = clients.store_of(site, account.address).address
    with clients.imap(site, account) as client:
        client.select_folder("INBOX")
        client.idle()
        until(
            lambda: "imap-hibernate" in remote.shell(site, store, f"doveadm who {account.address}"),
            "a session that is hibernated",
            site.of(MailstoreSettings).idle_hibernate + WITHIN,
        )
        yield lambda: idles(client)


@contextmanager
def pop3_session(site: Site, account: Account) -> Iterator[Alive]:
    client = poplib.POP3_SSL(
        clients.address_of(site, "front"), timeout=clients.SECONDS, context=clients.context(site)
    )
    try:
        client.user(account.address)
        client.pass_(account.password)
        yield lambda: works(client.noop)
    finally:
        client.close()


@contextmanager
def sieve_session(site: Site, account: Account) -> Iterator[Alive]:
    with managesieve.logged_in(site, account) as client:
        yield lambda: works(lambda: client.ask("LISTSCRIPTS"))


@contextmanager
def submission_session(site: Site, account: Account) -> Iterator[Alive]:
    with clients.submission(site, account) as client:
        yield lambda: sends(client, account, account.address) or sends(client, account, "")


def sends(client: smtplib.SMTP, account: Account, sender: str) -> bool:
    """Whether a letter of this sender would be taken."""
    try:
        code, words = asked(client, sender, account.address)
    except smtplib.SMTPServerDisconnected:
        # After many refusals the server hangs up.
        return False
    assert code == 250 or code >= 500, words
    return code == 250


@contextmanager
def webmail_session(site: Site, account: Account) -> Iterator[Alive]:
    pages = Pages(site, account)
    assert pages.log_in.status == HTTPStatus.FOUND

    def clicks() -> bool:
        """Whether mail is reached; who is out sees an empty page with an error."""
        answer = pages.page({"_task": "mail", "_mbox": "INBOX"})
        inbox = answer.status == HTTPStatus.OK and 'id="messagelist' in answer.text
        return inbox and not re.search(r'display_message\("[^"]*","error"', answer.text)

    yield clicks


SESSIONS = {
    "imap": imap_session,
    "imap, waiting": idle_session,
    "imap, hibernated": hibernated_session,
    "pop3": pop3_session,
    "sieve": sieve_session,
    "submission": submission_session,
    "webmail": webmail_session,
}


@contextmanager
def sessions(site: Site, account: Account, *names: str) -> Iterator[Callable[[], set[str]]]:
    """Open one session of each kind; gives a question which of them can still be used."""
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(SESSIONS[name](site, account)) for name in names or SESSIONS
        }

        def alive() -> set[str]:
            for name in [name for name, used in opened.items() if not used()]:
                del opened[name]
            return set(opened)

        assert alive() == set(names or SESSIONS)
        yield alive


# -- who may not log in any more -------------------------------------------------------------------


@pytest.mark.regulation("8", "13")
def test_who_is_locked_is_out_of_every_service_within_a_minute(
    site: Site, account: Account
) -> None:
    with sessions(site, account) as alive, changed(site, account, mailboxState=["locked"]):
        until(lambda: not alive(), "the end of every session", WITHIN)
        settle(site, account)
        assert refused(site, account) == set(USED) - {"lmtp"}


@pytest.mark.regulation("8", "13")
def test_who_goes_on_sending_when_locked_is_refused_within_a_minute(
    site: Site, account: Account
) -> None:
    def taken(client: smtplib.SMTP) -> bool:
        """Whether a whole letter is."""
        try:
            client.send_message(clients.letter(account.address, account.address))
        except (
            smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError,
            smtplib.SMTPServerDisconnected,
        ):  # fmt: skip
            return False
        return True

    with clients.submission(site, account) as client:
        assert taken(client)
        with changed(site, account, mailboxState=["locked"]):
            until(lambda: not taken(client), "the end of sending", WITHIN, pause=1)
            assert not taken(client)


@pytest.mark.regulation("13")
def test_who_was_locked_while_nobody_watched_is_out_afterwards(
    site: Site, account: Account
) -> None:
    with ExitStack() as stack:
        for host in site.group("store", "front"):
            stack.enter_context(remote.stopped(site, host.address, "site-access.service"))
        alive = stack.enter_context(sessions(site, account, "imap", "pop3", "sieve"))
        stack.enter_context(changed(site, account, mailboxState=["locked"]))
        # Remembered, for nobody made Dovecot forget.
        assert LOGINS["imap"](site, account.address, account.password) == ""
        for host in site.group("store", "front"):
            remote.shell(site, host.address, "systemctl start site-access.service")
        until(lambda: not alive(), "the end of every session", WITHIN)
        settle(site, account)
        assert refused(site, account) == set(USED) - {"lmtp"}


@pytest.mark.regulation("13")
def test_a_service_that_is_switched_off_ends_within_a_minute(site: Site, account: Account) -> None:
    rest = ["imap", "sieve", "submission", "webmail", "lmtp"]
    with sessions(site, account, "pop3") as alive, changed(site, account, mailboxService=rest):
        until(lambda: not alive(), "the end of the session", WITHIN)
        # A front may have acted before the store, or behind it: each ends sessions, new ones, too.
        settle(site, account)
        assert refused(site, account) == {"pop3"}


@pytest.mark.regulation("13")
def test_a_service_that_was_given_and_taken_at_once_ends_within_a_minute(
    site: Site, account: Account
) -> None:
    rest = ["imap", "sieve", "submission", "webmail", "lmtp"]
    with changed(site, account, mailboxService=rest), ExitStack() as stack:
        settle(site, account)
        with within_a_question(site, account, mailboxService=[*rest, "pop3"]):
            alive = stack.enter_context(sessions(site, account, "pop3"))
        until(lambda: not alive(), "the end of the session", WITHIN)
        settle(site, account)
        assert refused(site, account) == {"pop3"}


@pytest.mark.regulation("13")
def test_a_former_password_opens_nothing_within_a_minute(site: Site, account: Account) -> None:
    settings = site.of(DirectorySettings)
    own, other = (hashed(text, settings) for text in (account.password, "Mat khau moi 2026"))
    with (
        sessions(site, account, "imap", "imap, waiting", "pop3", "sieve", "webmail") as alive,
        changed(site, account, back={"userPassword": [own]}, userPassword=[other]),
    ):
        until(lambda: not alive(), "the end of every session", WITHIN)
        settle(site, account)
        assert refused(site, account) == set(USED) - {"lmtp"}


@pytest.mark.regulation("13")
def test_who_is_connected_goes_on_sending_after_a_change_of_the_password_until_revoked(
    site: Site, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the guides say (`docs/operations.md`): it is the owner, who may send."""
    settings = site.of(DirectorySettings)
    own, other = (hashed(text, settings) for text in (account.password, "Mat khau moi 2027"))
    with (
        clients.submission(site, account) as client,
        changed(site, account, back={"userPassword": [own]}, userPassword=[other]),
    ):
        client.send_message(clients.letter(account.address, account.address))
        settle(site, account)
        # Nobody comes in any more by the former password, and who is there stays.
        assert "submission" in refused(site, account)
        client.send_message(clients.letter(account.address, account.address))

        def ended() -> bool:
            assert helpdesk.main(["--env", site.environment, "revoke", account.address]) == 0
            return not works(client.noop)

        # Who it is, is in the journal with the first letter.
        until(ended, "the end of the connection", WITHIN, pause=1)
    assert "ngắt kết nối gửi thư (SMTP): 1" in capsys.readouterr().out


# -- who is no member any more ---------------------------------------------------------------------


def unit_folders(client: IMAPClient, site: Site) -> list[str]:
    prefix = clients.unit_folder(site, UNIT)
    return [name for _, _, name in client.list_folders() if name.startswith(prefix)]


def sees_the_unit(site: Site, account: Account) -> bool:
    with clients.imap(site, account) as client:
        return bool(unit_folders(client, site))


@pytest.mark.regulation("12")
def test_a_unit_is_seen_soon_after_it_was_given_and_lost_on_a_live_session(
    site: Site, account: Account
) -> None:
    assert not sees_the_unit(site, account)
    with changed(site, account, mailboxGroup=[UNIT]):
        # What was remembered of the log-in above would count for minutes.
        until(lambda: sees_the_unit(site, account), "the unit's folders", WITHIN)
        with ExitStack() as stack:

            def reading() -> IMAPClient | None:
                """A session that reads the unit; one that is ended while it opens comes again."""
                client = stack.enter_context(clients.imap(site, account))
                with suppress(OSError, IndexError, IMAPClientError):
                    client.select_folder(unit_folders(client, site)[0], readonly=True)
                    return client
                return None

            client = until(reading, "a session that reads the unit", WITHIN)
            assert client
            with changed(site, account, mailboxGroup=[]):
                until(lambda: not works(client.noop), "the end of the session", WITHIN)
                # A front may have acted a moment before the store, which then ends new ones, too.
                settle(site, account)
                until(lambda: not sees_the_unit(site, account), "the end of the right", WITHIN)


@pytest.mark.regulation("12")
def test_a_unit_that_was_given_and_taken_at_once_is_lost_on_a_live_session(
    site: Site, account: Account, person: Callable[[str], Account]
) -> None:
    with ExitStack() as stack:
        others = stack.enter_context(sessions(site, person("btt"), "imap"))
        with within_a_question(site, account, mailboxGroup=[UNIT]):
            client = stack.enter_context(clients.imap(site, account))
            client.select_folder(unit_folders(client, site)[0], readonly=True)
        until(lambda: not works(client.noop), "the end of the session", WITHIN)
        settle(site, account)
        assert not sees_the_unit(site, account)
        # Of whom nothing changed, goes on.
        assert others()


@pytest.mark.regulation("12")
def test_who_may_not_send_as_the_unit_any_more_does_not_on_a_live_session(
    site: Site, account: Account
) -> None:
    unit = f"{UNIT}@{site.domain}"
    with clients.submission(site, account) as client:
        assert not sends(client, account, unit)
        with changed(site, account, mailboxSendAs=[unit]):
            until(lambda: sends(client, account, unit), "the right to send", WITHIN, pause=5)
        until(lambda: not sends(client, account, unit), "the end of the right", WITHIN, pause=5)
        assert sends(client, account, account.address)
