"""Distribution lists: who is in one, who may write to it, and what becomes of it."""

import re
import secrets
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.mail.test_mta_mx import greeted, stranger
from tests.mail.test_mta_submission import asked, logged_in
from tests.mail.test_unit_mail import full
from tests.waiting import until

Person = Callable[[str], Account]
Maker = Callable[..., str]

AUTHOR, COLLEAGUE, STRANGER = "anv", "clv", "thulq"
"""Two of one unit, and one of another."""
UNIT, PARENT, BELOW = "stttt", "mytho", "thudx"
"""The unit; one with units below it, and somebody of one of these."""
FULL = "thund"
"""Of the parent unit; no other test needs him."""
SECONDS = 120


@pytest.fixture
def made(site: Site) -> Iterator[Maker]:
    """Make lists: returns a maker of addresses."""
    dns: list[str] = []
    first = site.group("directory")[0]

    def make(**values: str | list[str]) -> str:
        name = f"thu-{secrets.token_hex(6)}"
        address = f"{name}@{site.domain}"
        dn = f"cn={name},ou=lists,{site.base_dn}"
        own = {"mail": address, "mailLocalAddress": address, "managedBy": "thu"}
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.add(dn, ["mailList"], own | values)
        dns.append(dn)
        for host in site.group("directory"):
            until(lambda at=host: remote.in_step(site, first, at), f"the list at {host.name}")  # type: ignore[misc]
        return address

    yield make
    # A test may have stopped the directory, and with it every connection.
    with bound(site, *service(site, "accounts")) as accounts:
        for dn in dns:
            accounts.delete(dn)


def dn_of(site: Site, address: str) -> str:
    (dn,) = remote.entry(site, address)["dn"]
    return dn


def arrived(site: Site, account: Account, message: EmailMessage) -> bytes:
    """The letter in somebody's mailbox, once; removed afterwards."""
    with clients.imap(site, account) as client:
        uid = clients.wait_for(client, message, seconds=SECONDS)
        content = clients.raw(client, uid)
        assert len(client.search(["HEADER", "Message-ID", message["Message-ID"]])) == 1
        client.delete_messages([uid])
        client.expunge()
    return content


def deliveries(site: Site, address: str, message: EmailMessage) -> set[str]:
    """Who got a letter that went to a list, once the mx is done with it."""
    wanted = re.escape(message["Message-ID"])
    for mx in site.group("mx"):
        found = remote.shell(
            site, mx.address, "journalctl -q --since=-1h -o cat -u postfix.service"
        ).splitlines()
        ids = {
            line.partition(":")[0] for line in found if re.search(f": message-id={wanted}", line)
        }
        for queue_id in ids:
            lines = [line for line in found if line.startswith(f"{queue_id}: ")]
            sent = {to for line in lines for to in re.findall(r" to=<([^>]+)>,", line)}
            # Whom another test has made for itself meanwhile.
            sent = {to for to in sent if not to.startswith("thu-") or to == address}
            if address not in sent and any(line.endswith(": removed") for line in lines):
                return sent
    return set()


# -- who is in it ----------------------------------------------------------------------------------


def test_a_units_list_is_its_people(site: Site, person: Person, made: Maker) -> None:
    address = made(listScope="unit", departmentNumber=UNIT, displayName="Toàn Sở")
    message = clients.letter(person(STRANGER).address, address, subject="Mời họp")
    clients.submit(site, person(STRANGER), message)
    content = arrived(site, person(COLLEAGUE), message)
    expected = {f"{name}@{site.domain}" for name in ("anv", "btt", "clv", "gvv")}
    assert until(lambda: deliveries(site, address, message), "the list", SECONDS) == expected
    letter = message_from_bytes(content, policy=policy.default)
    assert str(letter["List-Id"]) == f"Toàn Sở <{address.replace('@', '.')}>"
    assert letter["Precedence"] == "list"
    assert letter["From"] == person(STRANGER).address
    assert letter["To"] == address
    # What cannot be delivered comes back to the unit, and not to the author.
    assert letter["Return-Path"] == f"<{UNIT}@{site.domain}>"
    assert str(letter).count("X-Spam-Status:") == 1


def test_a_list_of_all_below_a_unit(site: Site, person: Person, made: Maker) -> None:
    address = made(listScope="subtree", departmentNumber=PARENT)
    message = clients.letter(person(AUTHOR).address, address)
    clients.submit(site, person(AUTHOR), message)
    arrived(site, person(BELOW), message)
    found = until(lambda: deliveries(site, address, message), "the list", SECONDS)
    names = {"thund", "ult", "thulq", "dunx", "dunm", "thudx", "dutnt"}
    assert found == {f"{name}@{site.domain}" for name in names}


def test_a_list_of_members(site: Site, person: Person, made: Maker) -> None:
    """People, unit mailboxes, lists, and whom a search finds; each once."""
    inner = made(listScope="members", member=dn_of(site, person(COLLEAGUE).address))
    address = made(
        listScope="members",
        member=[
            dn_of(site, person(AUTHOR).address),
            dn_of(site, f"{UNIT}@{site.domain}"),
            f"cn={inner.partition('@')[0]},ou=lists,{site.base_dn}",
        ],
        memberURL=f"ldap:///ou=people,{site.base_dn}?mail?one?(departmentNumber=caibe)",
    )
    message = clients.letter(person(STRANGER).address, address)
    clients.submit(site, person(STRANGER), message)
    found = until(lambda: deliveries(site, address, message), "the list", SECONDS)
    names = {AUTHOR, COLLEAGUE, UNIT, "anv2", "mautd"}
    assert found == {f"{name}@{site.domain}" for name in names}


def test_a_mistyped_list_is_told_at_once(site: Site, person: Person, made: Maker) -> None:
    address = made(listScope="members", member=dn_of(site, person(COLLEAGUE).address))
    with logged_in(site, person(AUTHOR)) as client:
        assert asked(client, person(AUTHOR).address, address)[0] == 250
        assert asked(client, person(AUTHOR).address, f"x{address}")[0] == 550


# -- who may write ---------------------------------------------------------------------------------


def at_submission(site: Site, account: Account, address: str) -> tuple[int, str]:
    with logged_in(site, account) as client:
        return asked(client, account.address, address)


def from_outside(site: Site, address: str) -> tuple[int, str]:
    with greeted(site) as client:
        return asked(client, f"nguoi.la@{stranger(site)}", address)


def assert_refused(answer: tuple[int, str]) -> None:
    code, words = answer
    assert code == 550, words
    assert "5.7.1" in words
    assert "khong duoc gui den danh sach" in words


@pytest.mark.regulation("13")
@pytest.mark.parametrize(
    ("posters", "colleague", "stranger_within", "outside"),
    [
        ([], True, True, False),
        (["site"], True, True, False),
        (["members"], True, False, False),
        (["anyone"], True, True, True),
        (["{stranger}"], False, True, False),
    ],
)
def test_who_may_write(
    site: Site,
    person: Person,
    made: Maker,
    *,
    posters: list[str],
    colleague: bool,
    stranger_within: bool,
    outside: bool,
) -> None:
    given = [poster.format(stranger=person(STRANGER).address) for poster in posters]
    more = {"listPoster": given} if given else {}
    address = made(listScope="unit", departmentNumber=UNIT, **more)
    answers = {
        at_submission(site, person(COLLEAGUE), address): colleague,
        at_submission(site, person(STRANGER), address): stranger_within,
        from_outside(site, address): outside,
    }
    for answer, allowed in answers.items():
        if allowed:
            assert answer[0] == 250, answer
        else:
            assert_refused(answer)


def test_a_notice_goes_to_nobodys_list(site: Site, person: Person, made: Maker) -> None:
    """Neither a bounce nor a vacation's answer."""
    address = made(listScope="unit", departmentNumber=UNIT, listPoster="anyone")
    with greeted(site) as client:
        assert_refused(asked(client, "", address))
    with logged_in(site, person(AUTHOR)) as client:
        assert_refused(asked(client, "", address))


def test_an_open_list_takes_a_citizens_letter(site: Site, person: Person, made: Maker) -> None:
    address = made(listScope="unit", departmentNumber=UNIT, listPoster="anyone")
    message = clients.foreign_letter(site, address)
    clients.send_from_outside(site, message)
    arrived(site, person(COLLEAGUE), message)


# -- what becomes of it ----------------------------------------------------------------------------


def test_what_cannot_be_delivered_comes_back_to_the_unit(
    site: Site, person: Person, made: Maker
) -> None:
    members = [dn_of(site, person(name).address) for name in (FULL, COLLEAGUE)]
    address = made(listScope="members", departmentNumber=UNIT, member=members)
    message = clients.letter(person(AUTHOR).address, address)
    with full(site, person(FULL)):
        clients.submit(site, person(AUTHOR), message)
        arrived(site, person(COLLEAGUE), message)
        store = clients.store_of(site, f"{UNIT}@{site.domain}").address
        search = f"-u {UNIT}@{site.domain} mailbox INBOX body '{message['Message-ID']}'"

        def notice() -> str:
            return remote.shell(site, store, f"doveadm search {search}")

        until(notice, "a notice in the unit's mailbox", SECONDS)
    with clients.imap(site, person(AUTHOR)) as client:
        client.select_folder("INBOX")
        assert not client.search(["BODY", message["Message-ID"]])
    remote.shell(site, store, f"doveadm expunge {search}")
    with clients.imap(site, person(FULL)) as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search())
        client.expunge()


def test_a_letter_goes_round_once(site: Site, person: Person, made: Maker) -> None:
    """A list that is in itself, and a letter that comes back."""
    address = made(listScope="members", member=dn_of(site, person(COLLEAGUE).address))
    dn = f"cn={address.partition('@')[0]},ou=lists,{site.base_dn}"
    remote.modify(site, f"dn: {dn}\nchangetype: modify\nadd: member\nmember: {dn}\n")
    message = clients.letter(person(AUTHOR).address, address)
    clients.submit(site, person(AUTHOR), message)
    content = arrived(site, person(COLLEAGUE), message)
    with logged_in(site, person(AUTHOR)) as client:
        client.sendmail(person(AUTHOR).address, [address], content.partition(b"\r\n")[2])
    mxs = [host.address for host in site.group("mx")]

    def refused() -> list[str]:
        pattern = f"to=<{address}>.*been through it before"
        return [
            line
            for mx in mxs
            for line in remote.shell(
                site, mx, f"journalctl -q --since=-1h -o cat -g '{pattern}' || true"
            ).splitlines()
        ]

    until(refused, "the letter to be refused", SECONDS)


def test_an_empty_list_is_told(site: Site, person: Person, made: Maker) -> None:
    address = made(listScope="members")
    message = clients.letter(person(AUTHOR).address, address)
    clients.submit(site, person(AUTHOR), message)
    with clients.imap(site, person(AUTHOR)) as client:
        client.select_folder("INBOX")

        def notices() -> list[int]:
            client.noop()
            return list(client.search(["BODY", "Danh sach khong co ai", "BODY", address]))

        until(notices, "a notice", SECONDS)


def test_without_the_directory_a_list_waits(site: Site, made: Maker) -> None:
    address = made(listScope="unit", departmentNumber=UNIT, listPoster="anyone")
    with greeted(site) as client:
        client.mail(f"nguoi.la@{stranger(site)}")
        directories = [host.address for host in site.group("directory")]
        for host in directories:
            remote.shell(site, host, "systemctl stop slapd.service")
        try:
            code, words = client.rcpt(address)
        finally:
            for host in directories:
                remote.shell(site, host, "systemctl start slapd.service")
        assert code == 451, words

        def taken() -> bool:
            return client.rcpt(address)[0] == 250

        until(taken, "the directory to answer", 30, pause=2)
