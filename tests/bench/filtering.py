"""Letters a second through the whole way, from port 25 to the mailbox, against other ways.

- `pipeline`: as deployed: Postfix, MIMEDefang with clamd and SpamAssassin, LMTP, the store. With
  compiled rules, which are the default; the lab's own settings do without a compiler.
- `unfiltered`: the same without a milter.
- `spamd`: SpamAssassin's own daemon alone with the same rules: no mail server, no virus scan.
- `amavis`: Debian's amavisd-new as it comes, with its two scanners switched on, behind Postfix;
  the rules as the package has them.

The kinds of letter of `reference/filtering-measured.md` in equal parts, all kinds at once, without
the sample of spam: every way but the unfiltered one refuses it. It needs a deployed lab that is
thrown away afterwards: spamd and amavisd-new are installed on its mx.
"""

import time
from base64 import b64encode
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import default
from random import Random
from textwrap import dedent

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.deploys import outcome, overlaid
from tests.waiting import until

KINDS = 4
CONCURRENCY = 3 * KINDS
"""Letters on their way at a time."""
LETTERS = 50 * KINDS
"""Letters a measurement."""
_FOLDER = "/var/tmp/bench"  # noqa: S108 - on a host of the lab
_FILES = " ".join(str(kind) for kind in range(KINDS))
"""The letters' names there, for a shell's loop."""
_SAMPLE = "/usr/share/doc/spamassassin/examples/sample-nonspam.txt"
"""A letter in English that nobody takes for spam, of Debian's package."""


def measure(site: Site) -> dict[str, float]:
    """Letters a second of every way; `pipeline` and `spamd` are measured twice, interleaved."""
    reader = next(account for account in clients.accounts(site) if account.is_person)
    _prepare(site, reader)
    rates: dict[str, list[float]] = {}

    def add(way: str, run: Callable[[], float]) -> None:
        rates.setdefault(way, []).append(run())

    def through() -> float:
        return _through_mx(site, reader)

    # Once unmeasured: the greeting's wait for a server that mx has not seen, workers to be started.
    through()
    add("pipeline", through)
    add("spamd", lambda: _spamd(site))
    add("pipeline", through)
    add("spamd", lambda: _spamd(site))
    _mx(site, "postconf -e smtpd_milters= && systemctl reload postfix")
    add("unfiltered", through)
    _mx(site, _AMAVIS)
    add("amavis", through)
    return {way: sum(found) / len(found) for way, found in rates.items()}


def letters(recipient: str, sender: str) -> list[EmailMessage]:
    """Of our own kinds one each: Vietnamese text, an attachment of 200 kB, HTML of 30 kB."""
    noise = Random(1)  # noqa: S311 - the same bytes in each run
    paragraphs = [" ".join(noise.choice(_WORDS) for _ in range(60)) for _ in range(28)]
    plain = clients.letter(sender, recipient, subject="Báo cáo", text="\n\n".join(paragraphs[:5]))
    attached = clients.letter(sender, recipient, subject="Công văn", text=paragraphs[0])
    attached.add_attachment(
        noise.randbytes(150_000), maintype="application", subtype="pdf", filename="Công văn.pdf"
    )
    html = clients.letter(sender, recipient, subject="Bản tin", text=paragraphs[0])
    html.add_alternative(f"<html><body><p>{'</p><p>'.join(paragraphs)}</p></body></html>", "html")
    return [plain, attached, html]


_WORDS = (
    "đề nghị", "báo cáo", "kết quả", "thực hiện", "nhiệm vụ", "quý bốn", "của", "các đơn vị",
    "trực thuộc", "Ủy ban nhân dân", "huyện", "công văn",
)  # fmt: skip


def _prepare(site: Site, reader: Account) -> None:
    """Put the letters onto outside1 and mx; compiled rules, spamd and amavisd-new onto mx."""
    with overlaid("[filtering]\ncompile_rules = true\n"):
        outcome("apply", site.environment, limit=["mx"])
    own = letters(reader.address, f"dan@{clients.foreign_domain(site)}")
    kinds = [_mx(site, f"cat {_SAMPLE}").encode(), *(one.as_bytes(policy=default) for one in own)]
    assert len(kinds) == KINDS
    for address in (clients.outside_address(site), clients.address_of(site, "mx")):
        for number, kind in enumerate(kinds):
            content = b64encode(kind).decode()
            command = f"mkdir -p {_FOLDER} && base64 -d > {_FOLDER}/{number}.eml"
            remote.shell(site, address, command, stdin=content)
    _mx(
        site,
        "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install"
        " spamd spamc amavisd-new",
    )


def _mx(site: Site, command: str) -> str:
    return remote.shell(site, clients.address_of(site, "mx"), command)


def _through_mx(site: Site, reader: Account) -> float:
    """Send all letters from the outside world's own server, until the last is stored."""
    mx = site.group("mx")[0].fqdn
    with clients.imap(site, reader) as client:
        client.select_folder("INBOX")
        before = client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"]
        begin = time.monotonic()
        remote.shell(
            site,
            clients.outside_address(site),
            # Side by side: one after the other, the workers would run empty behind each kind.
            f"for kind in {_FILES}; do smtp-source -d -s {CONCURRENCY // KINDS}"
            f" -m {LETTERS // KINDS} -f dan@{clients.foreign_domain(site)} -t {reader.address}"
            f" -F {_FOLDER}/$kind.eml {mx}:25 & done; wait",
        )

        def stored() -> bool:
            client.noop()
            count = client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"]
            return bool(count >= before + LETTERS)

        until(stored, f"{LETTERS} letters in the mailbox", seconds=600)
        return LETTERS / (time.monotonic() - begin)


def _spamd(site: Site) -> float:
    """The same letters through spamc, as many at a time; timed on the host."""
    script = dedent(f"""
        systemctl stop spamd 2>/dev/null
        spamd --daemonize --local --max-children {CONCURRENCY} --min-children {CONCURRENCY} \\
            --username defang --groupname site-bayes --pidfile /run/bench-spamd.pid
        printf '%s\\n' {_FILES} | xargs -I K sh -c 'spamc -s 1000000 < {_FOLDER}/K.eml > /dev/null'
        begin=$(date +%s.%N)
        yes "$(printf '%s\\n' {_FILES})" | head -n {LETTERS} \\
            | xargs -P {CONCURRENCY} -I K sh -c 'spamc -x -s 1000000 < {_FOLDER}/K.eml > /dev/null'
        end=$(date +%s.%N)
        kill $(cat /run/bench-spamd.pid)
        echo "$end $begin"
        """)
    end, begin = (float(word) for word in _mx(site, script).split())
    return LETTERS / (end - begin)


_AMAVIS = dedent(r"""
    set -e
    apt-get -q -y purge sa-compile
    rm -rf /var/lib/spamassassin/compiled
    sed -i 's/^# *\(@bypass_\|   *\\%bypass\)/\1/' /etc/amavis/conf.d/15-content_filter_mode
    adduser --quiet clamav amavis
    # As for the others: no question to DNS, which the lab has not. What forwards is a port of ours.
    sed -i '1i $sa_local_tests_only = 1; $forward_method = "smtp:[127.0.0.1]:10027";' \
        /etc/amavis/conf.d/50-user
    sed -i '1i $notify_method = "smtp:[127.0.0.1]:10027";' /etc/amavis/conf.d/50-user
    systemctl restart clamav-daemon
    # Ours is for the filter's user alone.
    chmod 666 /run/clamav/clamd.ctl
    systemctl restart amavis
    postconf -M smtp-amavis/unix='smtp-amavis unix - - n - 2 smtp -o smtp_send_xforward_command=yes'
    back=127.0.0.1:10027/inet
    postconf -M $back='127.0.0.1:10027 inet n - n - - smtpd'
    postconf -P $back/content_filter= $back/smtpd_milters= $back/mynetworks=127.0.0.0/8 \
        $back/smtpd_helo_restrictions= \
        $back/smtpd_relay_restrictions=permit_mynetworks,reject \
        $back/smtpd_recipient_restrictions=permit_mynetworks,reject \
        $back/smtpd_sender_restrictions= $back/smtpd_data_restrictions= \
        $back/smtpd_junk_command_limit=1000 $back/smtpd_hard_error_limit=1000 \
        $back/receive_override_options=no_unknown_recipient_checks,no_header_body_checks
    postconf -e content_filter=smtp-amavis:[127.0.0.1]:10024
    systemctl restart postfix
    """)
