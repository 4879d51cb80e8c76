"""A site without Internet: signatures and rules come from a mirror of its own, whole or not at all.

`outside1` plays the mirror. What was is put back: settings, signatures and rules.
"""

import base64
import hashlib
import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy.run import EXIT_DONE, run
from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.deploys import overlaid
from tests.mail.test_filtering import offer, plain
from tests.samples import with_attachment
from tests.waiting import until

PORT = 8000
FOLDER = "/run/thu-mirror"
UNIT = "thu-mirror.service"
SERVER = rf"""
use IO::Socket::INET;
$SIG{{CHLD}} = "IGNORE";
my $server = IO::Socket::INET->new(LocalPort => {PORT}, Listen => 16, ReuseAddr => 1) or die $!;
while (my $client = $server->accept) {{
    next if fork;
    my ($name) = <$client> =~ m{{^GET /([\w.]+) }};
    while (<$client>) {{ last if /^\r\n/ }}
    if (defined $name && open my $file, "<:raw", "{FOLDER}/$name") {{
        local $/;
        my $content = <$file>;
        print $client "HTTP/1.0 200 OK\r\nContent-Length: ", length $content, "\r\n\r\n", $content;
    }} else {{
        print $client "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    }}
    exit;
}}
"""
"""A web server in the Perl that every Debian has."""

VIRUS, SPAM, MORE = "Vi-rut thu cua guong", "Thu rac thu cua guong", "Thu rac chua toi"
"""Words that a signature, a rule, and a rule that never arrives look for."""
FILE = "Tệp thử của gương".encode() * 100
"""A file that a signature knows by its digest."""
RENEW = "systemctl start spamassassin-maintenance.service"
RULES, SIGNATURES = "/var/lib/spamassassin", "/var/lib/clamav"
KEPT = "/var/lib/thu-kept"
"""Where both lie during the test as they were before."""
STATE = f"find {RULES} -type f ! -path '*/.*' -exec sha256sum {{}} + | sort"
"""The rules that were fetched."""


def rule(words: str) -> str:
    """A rule that refuses a letter by itself."""
    return f"body THU_MIRROR /{words}/\nscore THU_MIRROR 50\ndescribe THU_MIRROR Mirror's rule\n"


def signatures(name: str = "Thu.Mirror.Text") -> dict[str, bytes]:
    """A signature by content, one by digest."""
    digest = hashlib.md5(FILE, usedforsecurity=False).hexdigest()
    return {
        "thu.ndb": f"{name}:0:*:{VIRUS.encode().hex()}\n".encode(),
        "thu.hdb": f"{digest}:{len(FILE)}:Thu.Mirror.File\n".encode(),
    }


def archive(site: Site, words: str) -> bytes:
    """The rules of Debian's package and one more, as a mirror offers them."""
    packed = remote.shell(
        site, clients.address_of(site, "mx"),
        "cd /usr/share/spamassassin && tar -czf - -- * | base64 -w0",
    )  # fmt: skip
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as package,
        tarfile.open(fileobj=buffer, mode="w:gz") as result,
    ):
        for member in package:
            if member.isfile():
                result.addfile(member, package.extractfile(member))
        entry = tarfile.TarInfo("99_thu.cf")
        content = rule(words).encode()
        entry.size = len(content)
        result.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def rules(content: bytes, told: bytes = b"") -> dict[str, bytes]:
    """An archive with its checksum, or that of `told`."""
    digest = hashlib.sha512(told or content).hexdigest()
    return {"rules.tgz": content, "rules.tgz.sha512": f"{digest}  rules.tgz\n".encode()}


def publish(site: Site, files: dict[str, bytes]) -> None:
    """Put files on the mirror."""
    for name, content in files.items():
        remote.shell(
            site, clients.outside_address(site), f"base64 -d > {FOLDER}/{name}",
            stdin=base64.b64encode(content).decode(),
        )  # fmt: skip


@pytest.fixture
def mirror(site: Site) -> Iterator[str]:
    """The address of a web server that serves what is published."""
    outside = clients.outside_address(site)
    remote.shell(site, outside, f"mkdir -m 755 {FOLDER}")
    try:
        remote.shell(site, outside, f"cat > {FOLDER}/server.pl", stdin=SERVER)
        remote.shell(
            site, outside, f"systemd-run -q --collect --unit={UNIT} perl {FOLDER}/server.pl"
        )
        try:
            yield f"http://{outside}:{PORT}"
        finally:
            remote.shell(site, outside, f"systemctl stop {UNIT}")
    finally:
        remote.shell(site, outside, f"rm -r {FOLDER}")


def apply(site: Site) -> int:
    return run("apply", "site", site.environment, ["mx"], sys.stdout)


def plan(site: Site) -> int:
    return run("plan", "site", site.environment, ["mx"], sys.stdout)


@contextmanager
def settings(site: Site, mirror: str) -> Iterator[None]:
    """An mx that takes everything from the mirror; as it was afterwards."""
    overlay = (
        f'[filtering]\nsignature_urls = ["{mirror}/thu.ndb", "{mirror}/thu.hdb"]\n'
        f'rules_source = "{mirror}/rules.tgz"\n'
    )
    address = clients.address_of(site, "mx")
    remote.shell(site, address, f"mkdir {KEPT} && cp -a {RULES} {SIGNATURES} {KEPT}/")
    try:
        with overlaid(overlay):
            assert apply(site) == EXIT_DONE
            assert plan(site) == EXIT_DONE
            yield
    finally:
        assert apply(site) == EXIT_DONE
        remote.shell(
            site, address,
            # Signatures that were there are left alone: touched, they would have clamd restarted.
            f"cd {SIGNATURES} && for file in *; do"
            f" test -e {KEPT}/$(basename {SIGNATURES})/$file || rm -r -- $file; done;"
            f" find {RULES} -mindepth 1 -delete && cp -a {KEPT}/$(basename {RULES})/. {RULES}/"
            f" && rm -r {KEPT};"
            " systemctl reset-failed spamassassin-maintenance.service 2>/dev/null;"
            " systemctl restart clamav-daemon.service && systemctl reload mimedefang.service",
        )  # fmt: skip


def test_signatures_and_rules_come_from_the_sites_own_mirror(
    site: Site,
    person: Callable[[str], Account],
    mirror: str,
) -> None:
    mx = clients.address_of(site, "mx")
    recipient = person("thudx").address
    head = f"From: <dan@{clients.foreign_domain(site)}>\nTo: <{recipient}>\nSubject: thu\n"
    letters = {
        "virus": plain(head, VIRUS),
        "file": with_attachment(head, "tep.bin", FILE),
        "spam": plain(head, SPAM),
        "more": plain(head, MORE),
    }

    def refused() -> set[str]:
        """Which of the letters port 25 refuses for good."""
        codes = {name: offer(site, recipient, letter)[0] for name, letter in letters.items()}
        return {name for name, code in codes.items() if code in {550, 554}}

    fetch = "runuser -u clamav -- freshclam --no-dns --stdout"
    assert refused() == set()
    publish(site, signatures())
    publish(site, rules(archive(site, SPAM)))
    with settings(site, mirror):
        remote.shell(site, mx, RENEW)
        until(lambda: refused() == {"virus", "file", "spam"}, "signatures and rules to count")
        kept = remote.shell(site, mx, STATE)

        # The archive is another one than its checksum says, as when it was cut off.
        more = archive(site, MORE)
        publish(site, rules(more, told=more[:-1]))
        with pytest.raises(AssertionError, match="failed"):
            remote.shell(site, mx, RENEW)
        assert remote.shell(site, mx, STATE) == kept
        # It is whole, but SpamAssassin does not understand it.
        publish(site, rules(archive(site, "(")))
        with pytest.raises(AssertionError, match="failed"):
            remote.shell(site, mx, RENEW)
        assert remote.shell(site, mx, STATE) == kept
        # Signatures that clamd could not load would leave it without any.
        publish(site, {"thu.ndb": b"Thu.Mirror.Text:0:*:khong phai so\n"})
        said = remote.shell(site, mx, fetch, check=False)
        assert "Failed to load new database" in said
        found = remote.shell(site, mx, "cat /var/lib/clamav/thu.ndb")
        assert found.encode() == signatures()["thu.ndb"]
        assert refused() == {"virus", "file", "spam"}

        publish(site, rules(more))
        remote.shell(site, mx, RENEW)
        until(lambda: refused() == {"virus", "file", "more"}, "the new rules to count")
    until(lambda: refused() == set(), "what was to be back")
    assert plan(site) == EXIT_DONE
