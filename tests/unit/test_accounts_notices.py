"""`site-notices` without a host: what is announced, to whom, and that it is announced once."""

import re
import smtplib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.accounts import notices
from roles.accounts.lifecycle import Step, UnreachableError, written
from roles.accounts.notices import KINDS, RECORD, Letters, announce, coming, threshold
from roles.common.site import ROOT
from roles.directory.ldif import Attributes, Entries
from tests.unit.test_accounts_reconcile import BASE, apply

NOW = datetime(2026, 11, 25, 0, 10, tzinfo=UTC)
MIDNIGHT = datetime(2026, 12, 1, 17, tzinfo=UTC)
"""When the first of December is over in the province."""
DAYS = (14, 7, 1)
LETTERS = Letters(
    ROOT / "roles/accounts/files/notices",
    "postmaster@example.vn",
    ZoneInfo("Asia/Ho_Chi_Minh"),
    {"organisation": "Tỉnh Mẫu", "site": "mail.example.vn", "contact": "0273 000 000"},
)
AN, BINH, CHI = (f"employeenumber={number},ou=people,{BASE}" for number in (1, 2, 3))
UNIT = f"cn=a,ou=mailboxes,{BASE}"
POLICY = f"cn=default,ou=policies,{BASE}"


def person(name: str, **more: list[str]) -> Attributes:
    """Somebody in service, in the directory."""
    return {
        "displayName": [f"Nguyễn Văn {name}"],
        "mail": [f"{name.lower()}@example.vn"],
        "mailboxState": ["active"],
        **more,
    }


def people(**more: list[str]) -> Entries:
    """An, who is more, with two colleagues, a unit, and a policy."""
    return {
        AN: person("An", **more),
        BINH: person("Binh"),
        CHI: person("Chi"),
        UNIT: {
            "cn": ["a"], "displayName": ["Sở A"], "mail": ["a@example.vn"],
            "mailboxState": ["active"], "owner": [BINH],
        },
        POLICY: {"pwdMaxAge": ["0"]},
    }  # fmt: skip


def below(parent: str, name: str, **more: list[str]) -> Entries:
    return {f"cn={name},{parent}": {"cn": [name], **more}}


@dataclass(frozen=True)
class Memory(notices.Directory):
    """A directory in memory."""

    kept: list[Entries] = field(default_factory=list)

    def find(self, container: str, condition: str) -> Entries:  # noqa: ARG002 - all fits
        """Everything there."""
        if not self.kept:
            raise UnreachableError("Can't contact LDAP server (-1)")
        return {
            dn: entry
            for dn, entry in self.kept[-1].items()
            if dn.endswith(f",ou={container},{BASE}")
        }

    def change(self, step: Step) -> None:
        """Make a change."""
        self.kept.append(apply(self.kept[-1], [step.change]))


class Post:
    """What was sent; fails as it is told."""

    def __init__(self, *failures: Exception | None) -> None:
        self.sent: list[EmailMessage] = []
        self._failures = iter(failures)

    def send(self, message: EmailMessage) -> None:
        """Take a letter."""
        failure = next(self._failures, None)
        if failure:
            raise failure
        self.sent.append(message)


def directory(entries: Entries) -> Memory:
    return Memory(BASE, "cn=accounts", Path("/x"), kept=[entries])


def told(entries: Entries, now: datetime = NOW) -> set[tuple[str, str]]:
    """Who is told of what, sooner or later."""
    return {(found.recipient, found.kind) for found in coming(entries, BASE, now)}


# -- what is announced, and to whom ---------------------------------------------------------------


def test_the_end_of_a_password_by_the_policy_of_its_owner() -> None:
    entries = people(pwdChangedTime=["20261120000000Z"])
    assert told(entries) == set()
    entries[POLICY] = {"pwdMaxAge": [str(10 * 86400)]}
    assert told(entries) == {(AN, "password")}
    (found,) = coming(entries, BASE, NOW)
    assert found.end == datetime(2026, 11, 30, tzinfo=UTC)
    own = f"cn=imported,ou=policies,{BASE}"
    entries[AN]["pwdPolicySubentry"] = [own]
    assert told(entries) == set()
    assert told(entries | {own: {"pwdMaxAge": ["864000"]}}) == {(AN, "password")}
    del entries[AN]["pwdPolicySubentry"]
    # A one-time password ends within days, and whoever has it was told.
    assert told(entries | {AN: {**entries[AN], "pwdReset": ["TRUE"]}}) == set()


@pytest.mark.parametrize("state", ["active", "expiring", "locked", "departed", "archived"])
def test_who_is_told_is_in_service(state: str) -> None:
    entries = people(mailboxState=[state], mailboxExpires=[written(MIDNIGHT)])
    assert told(entries) == ({(AN, "account")} if state in ("active", "expiring") else set())
    assert told(entries, MIDNIGHT) == set()


def test_the_end_of_a_password_for_an_application() -> None:
    end = written(MIDNIGHT)
    phone = below(AN, "ab2d-efgh", pwdEndTime=[end], description=["Điện thoại"])
    assert told(people() | phone) == {(AN, "application")}
    assert told(people() | below(AN, "ab2d-efgh", description=["Máy"])) == set()


def test_the_end_of_a_delegation_to_the_delegate_and_the_head() -> None:
    given = below(
        UNIT, "3", delegate=[CHI], delegationRight=["read"], validUntil=[written(MIDNIGHT)]
    )
    entries = people() | given
    assert told(entries) == {(CHI, "delegation"), (BINH, "delegation-head")}
    later = {dn: {**e, "validFrom": [written(NOW + timedelta(days=1))]} for dn, e in given.items()}
    assert told(entries | later) == set()
    assert told(entries | {UNIT: {**entries[UNIT], "mailboxState": ["departed"]}}) == set()
    assert told(entries | {UNIT: {**entries[UNIT], "owner": [CHI]}}) == {(CHI, "delegation")}


def test_the_archiving_of_a_predecessors_mail_to_the_successor() -> None:
    gone = {"mailboxState": ["departed"], "mailboxRetainUntil": [written(MIDNIGHT)]}
    assert told(people(**gone)) == set()
    assert told(people(**gone, mailboxSuccessor=[BINH])) == {(BINH, "archive")}


def test_what_the_server_itself_writes_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"dn: cn=x,{AN}\ncn: x\npwdEndTime: 20261201170000Z\n\n"
    monkeypatch.setattr(notices.Directory, "_run", lambda *_: said)
    found = notices.Directory(BASE, "cn=accounts", Path("/x")).find("people", "(objectClass=*)")
    assert found == {f"cn=x,{AN}": {"cn": ["x"], "pwdEndTime": ["20261201170000Z"]}}


# -- once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "due"),
    [
        (timedelta(days=15), None),
        (timedelta(days=14), 14),
        (timedelta(days=7, seconds=1), 14),
        (timedelta(days=7), 7),
        (timedelta(seconds=1), 1),
        (timedelta(), None),
    ],
)
def test_which_announcement_is_due(left: timedelta, due: int | None) -> None:
    assert threshold(NOW + left, NOW, DAYS) == due


_moments = st.lists(st.integers(0, 24 * 40), min_size=1, max_size=40).map(sorted)
_failures = st.lists(
    st.sampled_from((None, None, notices.NotSentError("x"), notices.UncertainError("x"),
                     notices.RefusedError("x"), KeyboardInterrupt())),
    max_size=40,
)  # fmt: skip


@given(
    hours=_moments,
    ends=st.lists(st.integers(1, 24 * 40), min_size=1, max_size=3),
    days=st.sets(st.integers(1, 20), min_size=1, max_size=4),
    failures=_failures,
)
def test_each_end_is_announced_once_for_each_number_of_days(
    hours: list[int], ends: list[int], days: set[int], failures: list[Exception | None]
) -> None:
    """Whenever it runs, however often, and wherever it is cut off."""
    entries = people()
    for number, hour in enumerate(ends):
        end = [written(NOW + timedelta(hours=hour))]
        entries |= below(AN, f"a{number}", pwdEndTime=end, description=[f"[{number}]"])
    memory, post = directory(entries), Post(*failures)
    said: list[tuple[str, int | None]] = []
    sent = 0
    for hour in hours:
        now = NOW + timedelta(hours=hour)
        try:
            announce(memory, LETTERS, post, tuple(days), now)
        except KeyboardInterrupt:
            continue
        assert len(post.sent) - sent <= 1, "one letter a person and round"
        for message in post.sent[sent:]:
            for number in re.findall(r"\[(\d)\]", message.get_content()):
                over = NOW + timedelta(hours=ends[int(number)])
                said.append((number, threshold(over, now, days)))
        sent = len(post.sent)
    assert None not in [due for _, due in said]
    assert len(said) == len(set(said))
    if not any(failures):
        # Nothing that was due at a round is left unsaid.
        for number, hour in enumerate(ends):
            due = {threshold(NOW + timedelta(hours=hour), NOW + timedelta(hours=h), days)
                   for h in hours} - {None}  # fmt: skip
            assert {d for n, d in said if n == str(number)} == due


def test_a_letter_that_was_not_taken_is_sent_the_next_time() -> None:
    memory = directory(people(mailboxExpires=[written(MIDNIGHT)]))
    assert announce(memory, LETTERS, Post(notices.NotSentError("451")), DAYS, NOW) == (0, 1)
    assert RECORD not in memory.kept[-1][AN]
    assert announce(memory, LETTERS, Post(), DAYS, NOW) == (1, 0)
    assert announce(memory, LETTERS, Post(), DAYS, NOW) == (0, 0)


@pytest.mark.parametrize(
    ("failure", "failed"), [(notices.UncertainError("x"), 1), (notices.RefusedError("552"), 0)]
)
def test_a_letter_that_may_have_arrived_or_never_will_is_not_sent_again(
    failure: Exception, failed: int
) -> None:
    memory, post = directory(people(mailboxExpires=[written(MIDNIGHT)])), Post(failure)
    assert announce(memory, LETTERS, post, DAYS, NOW) == (0, failed)
    assert announce(memory, LETTERS, post, DAYS, NOW) == (0, 0)


def test_another_date_is_announced_anew_and_what_is_over_is_forgotten() -> None:
    memory, post = directory(people(mailboxExpires=[written(MIDNIGHT)])), Post()
    announce(memory, LETTERS, post, DAYS, NOW)
    assert memory.kept[-1][AN][RECORD] == [f"account  {written(MIDNIGHT)} 7"]
    later = MIDNIGHT + timedelta(days=10)
    memory.kept[-1][AN]["mailboxExpires"] = [written(later)]
    announce(memory, LETTERS, post, DAYS, MIDNIGHT)
    assert memory.kept[-1][AN][RECORD] == [f"account  {written(later)} 14"]
    assert len(post.sent) == 2


# -- letters --------------------------------------------------------------------------------------


def everything() -> Entries:
    """All that may be said, to Bình."""
    soon, end = written(NOW + timedelta(days=2)), [written(MIDNIGHT)]
    entries = people(
        mailboxState=["departed"], mailboxRetainUntil=end, mailboxSuccessor=[BINH]
    ) | below(UNIT, "3", delegate=[CHI], delegationRight=["read", "send"], validUntil=end)
    entries |= below(UNIT, "2", delegate=[BINH], delegationRight=["file"], validUntil=end)
    entries |= below(BINH, "ab2d-efgh", pwdEndTime=[soon], description=["Điện thoại\n“$x”"])
    entries[BINH] |= {"mailboxExpires": end, "pwdChangedTime": ["20261120000000Z"]}
    entries[UNIT]["owner"] = [BINH]
    return entries | {POLICY: {"pwdMaxAge": ["864000"]}}


def letters(entries: Entries) -> Iterator[EmailMessage]:
    post = Post()
    announce(directory(entries), LETTERS, post, DAYS, NOW)
    yield from post.sent


def test_one_letter_has_all_that_is_to_be_said_in_the_order_of_the_ends() -> None:
    entries = everything()
    del entries[CHI]["displayName"]
    entries[CHI]["cn"] = ["Chi"]
    by_address = {message["To"].addresses[0].addr_spec: message for message in letters(entries)}
    assert set(by_address) == {"binh@example.vn", "chi@example.vn"}
    message = by_address["binh@example.vn"]
    assert message["Subject"] == "Có 6 nội dung sắp hết hạn cần ông/bà lưu ý"
    assert message["From"] == "Hệ thống thư điện tử <postmaster@example.vn>"
    assert message["Message-ID"] == "<notice-2-20261125@mail.example.vn>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_charset() == "utf-8"
    text = message.get_content()
    assert "Kính gửi: Nguyễn Văn Binh" in text
    flowing = " ".join(text.split())
    assert (
        "1. Mật khẩu ứng dụng “Điện thoại “$x”” chỉ dùng được đến 07:10 ngày 27/11/2026" in flowing
    )
    assert "hết ngày 01/12/2026" in flowing
    assert "Tỉnh Mẫu\nmail.example.vn" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    single = by_address["chi@example.vn"]
    assert single["Subject"].startswith("Quyền của ông/bà với hộp thư đơn vị a@example.vn")
    assert "(quyền: đọc; gửi thư nhân danh đơn vị)" in single.get_content().replace("\n", " ")


def test_every_kind_has_a_text_of_its_own_in_nfc() -> None:
    files = {path.stem: path.read_text(encoding="utf-8") for path in LETTERS.texts.iterdir()}
    assert set(files) == {"letter", *KINDS}
    for text in files.values():
        assert unicodedata.is_normalized("NFC", text)
    assert {found.kind for found in coming(everything(), BASE, NOW)} == {*KINDS}


# -- the post -------------------------------------------------------------------------------------


def test_without_any_mx_nobody_is_told_and_nothing_is_on_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(smtplib, "SMTP", refuse)
    relay = notices.Relay(["mx1", "mx2"], "postmaster@example.vn", None)  # type: ignore[arg-type]
    memory = directory(people(mailboxExpires=[written(MIDNIGHT)]))
    assert announce(memory, LETTERS, relay, DAYS, NOW) == (0, 1)
    assert RECORD not in memory.kept[-1][AN]


class Server:
    """A mail server that answers as it is told: to MAIL, RCPT, DATA and the letter's end."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)

    def ehlo_or_helo_if_needed(self) -> None:
        """Polite."""

    def starttls(self, context: object) -> None:
        """Encrypted."""

    def rset(self) -> None:
        """Anew."""

    def _answer(self) -> tuple[int, bytes]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, b"words"

    def mail(self, _: str) -> tuple[int, bytes]:
        """MAIL FROM."""
        return self._answer()

    def rcpt(self, _: str) -> tuple[int, bytes]:
        """RCPT TO."""
        return self._answer()

    def data(self, letter: bytes) -> tuple[int, bytes]:
        """DATA, and the end of the letter."""
        assert b"\r\n" in letter
        assert b"\n" not in letter.replace(b"\r\n", b"")
        return self._answer()


GONE = smtplib.SMTPServerDisconnected("gone")


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ((250, 250, 250), None),
        ((451,), notices.NotSentError),
        ((250, 452), notices.NotSentError),
        ((250, 552), notices.RefusedError),
        ((250, GONE), notices.NotSentError),
        ((250, 250, smtplib.SMTPDataError(451, b"x")), notices.NotSentError),
        ((250, 250, smtplib.SMTPDataError(550, b"x")), notices.RefusedError),
        ((250, 250, 451), notices.NotSentError),
        ((250, 250, 554), notices.RefusedError),
        ((250, 250, GONE), notices.UncertainError),
    ],
)
def test_what_a_mail_server_answers(
    monkeypatch: pytest.MonkeyPatch,
    answers: Sequence[int | Exception],
    outcome: type[Exception] | None,
) -> None:
    monkeypatch.setattr(smtplib, "SMTP", lambda *_, **__: Server(*answers))
    relay = notices.Relay(["mx1"], "postmaster@example.vn", None)  # type: ignore[arg-type]
    (message,) = letters(people(mailboxExpires=[written(MIDNIGHT)]))
    if outcome is None:
        relay.send(message)
        return
    with pytest.raises(outcome):
        relay.send(message)
