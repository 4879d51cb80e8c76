"""What becomes of a letter on the store: quota, Sieve, and the mailboxes it may not open."""

import re
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from imapclient import IMAPClient

from roles.common.site import Site
from roles.mta.settings import MtaSettings
from tests import clients, lmtp, managesieve, remote
from tests.clients import Account
from tests.waiting import until

Person = Callable[[str], Account]


# -- LMTP ------------------------------------------------------------------------------------------


def test_lmtp_takes_letters_over_tls(site: Site, person: Person) -> None:
    account = person("clv")
    letter = clients.foreign_letter(site, account.address)
    answers = lmtp.deliver(site, account.address, letter.as_bytes())
    assert answers[-1].startswith("250 2.0.0")
    with clients.imap(site, account) as client:
        clients.wait_for(client, letter)


def test_a_burst_for_one_mailbox_is_taken_at_once(site: Site, person: Person) -> None:
    """As many letters as one mx hands over at a time; by default the eleventh would wait."""
    burst = site.of(MtaSettings).store_concurrency
    assert lmtp.rcpt_at_once(site, person("clv").address, burst) == [250] * burst


def test_lmtp_does_not_know_strangers(site: Site) -> None:
    assert lmtp.deliver(site, f"khong-co-ai@{site.domain}")[0].startswith("550 5.1.1")


def test_lmtp_keeps_mail_of_a_locked_account(site: Site, person: Person) -> None:
    assert lmtp.deliver(site, person("hht").address)[0].startswith("250")


def test_mail_for_another_store_waits(site: Site, person: Person) -> None:
    """While an account moves, mx may ask the store it has left: 451, never a bounce."""
    account = person("mhn")
    with _at_another_store(site, account):
        assert lmtp.deliver(site, account.address)[0].startswith("451 ")
        # The store that has the mailbox says how full it is, no other.
        assert lmtp.quota_action(site, account.address, 10**12) == "DUNNO"
    assert lmtp.deliver(site, account.address)[0].startswith("250 ")


class _at_another_store:  # noqa: N801 - a context manager, read like a function
    """Inside the block the directory says that the account lies elsewhere."""

    def __init__(self, site: Site, account: Account) -> None:
        self.site, self.account = site, account
        self.home = clients.store_name(site, account.address)

    def __enter__(self) -> None:
        self._set("store-z.example")

    def __exit__(self, *_: object) -> None:
        self._set(self.home)

    def _set(self, store: str) -> None:
        (dn,) = remote.entry(self.site, self.account.address)["dn"]
        change = f"dn: {dn}\nchangetype: modify\nreplace: mailHost\nmailHost: {store}\n"
        remote.modify(self.site, change)
        remote.shell(
            self.site,
            clients.store_of(self.site, self.account.address).address,
            f"doveadm auth cache flush {self.account.address}",
        )


# -- quota -----------------------------------------------------------------------------------------


@pytest.fixture
def small(site: Site, person: Person) -> Iterator[tuple[Account, IMAPClient]]:
    """Somebody with a mailbox of 2 MiB, which is empty before and afterwards."""
    account = person("dpt")
    with clients.imap(site, account) as client:
        _empty(client)
        yield account, client
        _empty(client)


def _empty(client: IMAPClient) -> None:
    client.select_folder("INBOX")
    client.delete_messages(client.search())
    client.expunge()


def _fill(site: Site, account: Account, percent: int) -> list[str]:
    """A letter as large as `percent` of the quota; LMTP's answers."""
    size = 2 * 2**20 * percent // 100
    content = b"Subject: lon\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78)
    return lmtp.deliver(site, account.address, content)


def _letters(client: IMAPClient) -> list[EmailMessage]:
    """The letters in the folder that is open."""
    client.noop()
    found = [
        message_from_bytes(clients.raw(client, uid), policy=policy.default)
        for uid in client.search(["SMALLER", 10_000])
    ]
    return [letter for letter in found if isinstance(letter, EmailMessage)]


def _letters_about(client: IMAPClient, words: str) -> list[EmailMessage]:
    """Wait for letters with `words` in their subject."""
    return until(
        lambda: [letter for letter in _letters(client) if words in letter["Subject"]],
        f"a letter about {words!r}",
    )


def test_warnings_are_in_vietnamese(site: Site, small: tuple[Account, IMAPClient]) -> None:
    account, client = small
    for percent, words in ((82, "hơn 80%"), (14, "hơn 95%")):
        assert _fill(site, account, percent)[-1].startswith("250")
        (letter,) = _letters_about(client, words)
        assert letter["To"].addresses[0].addr_spec == account.address
        assert letter["From"].addresses[0].display_name == "Hệ thống thư điện tử"
        assert letter["From"].addresses[0].addr_spec == site.postmaster
        assert letter["Auto-Submitted"] == "auto-generated"
        assert words in letter.get_content()
        assert "Nếu cần thêm dung lượng" in letter.get_content()
    # The second letter did not call for the first warning again.
    assert len(_letters_about(client, "hơn 80%")) == 1


def test_a_full_mailbox_is_refused_and_opens_again(
    site: Site, small: tuple[Account, IMAPClient]
) -> None:
    account, client = small
    _fill(site, account, 90)
    # The last letter may exceed the quota, so that nobody is stuck at 99 %.
    assert _fill(site, account, 20)[-1].startswith("250")
    _letters_about(client, "đã đầy")
    assert lmtp.deliver(site, account.address)[0].startswith("552 5.2.2")
    assert lmtp.quota_action(site, account.address, 1000).startswith("552 5.2.2")
    with pytest.raises(client.Error, match="OVERQUOTA"):
        client.append("INBOX", b"Subject: them\r\n\r\nthem\r\n")
    _empty(client)
    _letters_about(client, "nhận thư trở lại")
    assert lmtp.deliver(site, account.address)[0].startswith("250")
    assert lmtp.quota_action(site, account.address, 1000) == "DUNNO"


def test_a_full_mailbox_can_be_tidied(site: Site, small: tuple[Account, IMAPClient]) -> None:
    """Trash holds more than the quota: moving there is how programs delete."""
    account, client = small
    _fill(site, account, 90)
    _fill(site, account, 20)
    client.select_folder("INBOX")
    letters = client.search()
    client.move(letters, "Trash")
    # But for a warning that came meanwhile.
    assert not set(letters) & set(client.search())
    client.select_folder("Trash")
    client.delete_messages(client.search())
    client.expunge()


ASK_AT_ONCE = """
import socket, sys
recipient, count = sys.argv[1], int(sys.argv[2])
open_ = [socket.create_connection(("127.0.0.1", 12351), timeout=60) for _ in range(count)]
for number, connection in enumerate(open_):
    connection.sendall(f"recipient={recipient}\\nsize=1\\n\\n".encode())
    try:
        print(connection.recv(1000).decode().strip() or "closed")
    except TimeoutError:
        sys.exit(f"connection {number} is not answered")
"""
"""For an mx: asks the first store on many connections, each of which stays open."""


def test_every_process_of_postfix_has_an_answer(site: Site, person: Person) -> None:
    """Each smtpd keeps its connection; those of port 25 are 100, and there is port 10025."""
    answers = remote.shell(
        site,
        clients.address_of(site, "mx"),
        f"python3 - {person('anv').address} 120",
        stdin=ASK_AT_ONCE,
    )
    assert answers.split() == ["action=DUNNO"] * 120


def test_the_quota_service_answers_hosts_of_the_site_only(site: Site) -> None:
    answer = lmtp.quota_service_without_certificate(site)
    assert "certificate required" in answer
    assert "action=" not in answer


# -- Sieve -----------------------------------------------------------------------------------------


@pytest.fixture
def scripted(site: Site, person: Person) -> Iterator[Account]:
    """Somebody with a script of the test's own, which is removed afterwards."""
    account = person("thutnq")
    yield account
    with managesieve.logged_in(site, account) as client:
        client.ask('SETACTIVE ""')
        client.ask('DELETESCRIPT "thu"')


def activate(site: Site, account: Account, script: str) -> None:
    with managesieve.logged_in(site, account) as client:
        answer = client.put("thu", script)
        assert answer.startswith("OK"), answer
        assert client.ask('SETACTIVE "thu"')[-1].startswith("OK")


def test_a_script_files_by_a_vietnamese_subject(site: Site, scripted: Account) -> None:
    script = (
        'require ["fileinto", "mailbox"];\n'
        'if header :contains "Subject" "Công văn" { fileinto :create "Công văn đến"; }\n'
    )
    activate(site, scripted, script)
    letter = clients.foreign_letter(site, scripted.address, subject="Công văn số 12/STTTT")
    lmtp.deliver(site, scripted.address, letter.as_bytes())
    with clients.imap(site, scripted) as client:
        clients.wait_for(client, letter, "Công văn đến")


def test_a_broken_script_is_refused_with_the_line(site: Site, scripted: Account) -> None:
    with managesieve.logged_in(site, scripted) as client:
        answer = client.put("thu", 'require ["fileinto"];\nfileinto "A"\n')
    assert answer.startswith("NO")
    assert "line " in answer


@pytest.mark.parametrize("extension", ["vnd.dovecot.pipe", "vnd.dovecot.execute", "editheader"])
def test_a_users_script_runs_no_program(site: Site, scripted: Account, extension: str) -> None:
    with managesieve.logged_in(site, scripted) as client:
        assert client.put("thu", f'require ["{extension}"];\n').startswith("NO")


def test_spam_is_filed_before_a_users_script(site: Site, scripted: Account) -> None:
    """No redirect, no vacation reply for spam."""
    activate(site, scripted, 'require "fileinto";\nfileinto "Archive";\n')
    letter = clients.foreign_letter(site, scripted.address, subject="Quảng cáo")
    letter["X-Spam-Flag"] = "YES"
    lmtp.deliver(site, scripted.address, letter.as_bytes())
    with clients.imap(site, scripted) as client:
        clients.wait_for(client, letter, "Junk")
        client.select_folder("Archive")
        assert client.search(["HEADER", "Message-ID", letter["Message-ID"]]) == []


@pytest.mark.regulation("12")
def test_a_redirect_keeps_the_letter_as_it_is(site: Site, scripted: Account) -> None:
    other = f"dan@{clients.foreign_domain(site)}"
    activate(site, scripted, f'redirect :copy "{other}";\n'.replace("redirect", _COPY))
    letter = clients.letter(scripted.address, scripted.address, subject="Chuyển tiếp nguyên văn")
    content = letter.as_bytes(policy=policy.SMTP)
    lmtp.deliver(site, scripted.address, content)
    with clients.imap(site, scripted) as client:
        kept = clients.raw(client, clients.wait_for(client, letter))
    with clients.foreign_imap(site, other) as client:
        received = clients.raw(client, clients.wait_for(client, letter))
    _, _, body = content.partition(b"\r\n\r\n")
    assert kept.endswith(body)
    assert received.partition(b"\r\n\r\n")[2] == body
    assert re.search(rb"(?m)^Message-ID: " + re.escape(letter["Message-ID"].encode()), received)


_COPY = 'require "copy";\nredirect'


def test_a_vacation_reply_is_vietnamese(site: Site, scripted: Account) -> None:
    asker = f"dan@{clients.foreign_domain(site)}"
    subject = "Vắng mặt: đi công tác"
    activate(
        site,
        scripted,
        f'require "vacation";\nvacation :subject "{subject}" :handle "{id(site)}"'
        ' "Tôi đi công tác đến hết tuần.";\n',
    )
    letter = clients.foreign_letter(site, scripted.address, subject="Hỏi")
    # A reply goes to where the letter came from, which LMTP's empty sender does not say.
    clients.send_from_outside(site, letter)
    with clients.foreign_imap(site, asker) as client:
        client.select_folder("INBOX")

        def reply() -> list[int]:
            client.noop()
            return list(client.search(["HEADER", "In-Reply-To", letter["Message-ID"]]))

        uid = until(reply, "the reply", seconds=120)[0]
        received = message_from_bytes(clients.raw(client, uid), policy=policy.default)
    assert isinstance(received, EmailMessage)
    assert subject in received["Subject"]
    assert received["Auto-Submitted"].startswith("auto-replied")
    assert "Tôi đi công tác đến hết tuần." in received.get_content()
