"""A host's certificate is replaced: every port shows the new one, and nobody is cut off.

By a deploy, which renews what ends soon, and as an ACME client would do it (`roles/certificates`):
the certificate is moved into place from beside, nothing else.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from deploy.run import EXIT_CHANGES, EXIT_DONE, run
from roles.addressbook.settings import AddressBookSettings
from roles.certificates.authority import Authority, Subject
from roles.certificates.facts import FOLDER
from roles.certificates.settings import CertificatesSettings
from roles.common.site import Group, Site, SiteHost
from tests import clients, remote
from tests.clients import Account
from tests.deploys import overlaid
from tests.waiting import until

PORTS: dict[Group, dict[int, str]] = {
    "directory": {636: ""},
    "store": {24: "lmtp", 12341: ""},
    "mx": {25: "smtp", 10025: "smtp"},
    "front": {443: "", 465: "", 587: "smtp", 993: "", 995: "", 4190: "sieve"},
    "database": {5432: "postgres"},
}
"""What each group serves with the host's certificate, and how TLS begins there (`-starttls`); a
front's address book besides, where its setting says."""
DAYS_LEFT = 30
"""Less than `renew_before`, so that the site's own authority would renew it."""


def serial(site: Site, host: SiteHost, port: int, start: str) -> int:
    """The serial number of the certificate that a port shows; 0 while it shows none."""
    found = remote.shell(
        site,
        host.address,
        f"timeout 20 openssl s_client -connect {host.address}:{port}"
        f"{f' -starttls {start}' if start else ''} </dev/null 2>/dev/null"
        " | openssl x509 -noout -serial 2>/dev/null || true",
    )
    return int(found.strip().removeprefix("serial=") or "0", 16)


def shown(site: Site) -> dict[str, int]:
    """The serial numbers on all ports of all hosts."""
    books = {
        f"{host.name}:{port}": serial(site, host, port, "")
        for host in site.group("front")
        for port in (site.of(AddressBookSettings, host.name).port,)
    }
    return books | {
        f"{host.name}:{port}": serial(site, host, port, start)
        for group, ports in PORTS.items()
        for host in site.group(group)
        for port, start in ports.items()
    }


def at_hosts(shown_there: dict[str, int]) -> dict[str, int]:
    """The one serial number that each host shows; left out are hosts whose ports differ."""
    serials: dict[str, set[int]] = {}
    for at, found in shown_there.items():
        serials.setdefault(at.partition(":")[0], set()).add(found)
    return {name: found.pop() for name, found in serials.items() if len(found) == 1}


def renewed(site: Site, host: SiteHost) -> int:
    """Put a certificate with the same names and the same key into place; its serial number."""
    settings = site.of(CertificatesSettings, host.name)
    public = remote.shell(site, host.address, f"openssl pkey -in {FOLDER}/key.pem -pubout")
    signed = Authority.of(site).sign(
        public,
        Subject(host.names, (host.address,) if settings.addresses else ()),
        timedelta(days=DAYS_LEFT),
        datetime.now(UTC),
    )
    remote.shell(
        site,
        host.address,
        f"cat > {FOLDER}/.renewed && chmod 644 {FOLDER}/.renewed"
        f" && mv -T {FOLDER}/.renewed {FOLDER}/cert.pem",
        stdin=signed,
    )
    return x509.load_pem_x509_certificate(signed.encode()).serial_number


def hosts(site: Site) -> list[SiteHost]:
    """All that serve something with their certificate."""
    return site.group(*PORTS)


@pytest.fixture
def kept(site: Site) -> Iterator[None]:
    """The certificates of before are in place afterwards, and shown."""
    before = shown(site)
    for host in hosts(site):
        remote.shell(site, host.address, f"cp -p {FOLDER}/cert.pem {FOLDER}/.before")
    yield
    for host in hosts(site):
        remote.shell(site, host.address, f"mv -T {FOLDER}/.before {FOLDER}/cert.pem")
    until(lambda: shown(site) == before, "the certificates of before", pause=1)


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail while certificates are replaced."""
    return person("gvv")


@pytest.mark.usefixtures("kept")
def test_every_port_shows_a_new_certificate_and_sessions_go_on(
    site: Site, official: Account
) -> None:
    message = clients.letter(official.address, official.address, subject="Gia hạn chứng thư")
    with clients.imap(site, official) as client:
        client.select_folder("INBOX")
        serials = {host.name: renewed(site, host) for host in hosts(site)}

        def done() -> bool:
            return all(serials[at.split(":")[0]] == found for at, found in shown(site).items())

        until(done, f"the new certificates {serials}", pause=1)
        # The session of before goes on, and new ones come to the same end.
        clients.submit(site, official, message)
        uid = clients.wait_for(client, message)
        client.delete_messages([uid])
        client.expunge()
    with clients.imap(site, official) as client:
        assert client.folder_exists("INBOX")


@pytest.mark.usefixtures("kept")
def test_a_deploy_renews_what_ends_soon(site: Site) -> None:
    ending = {host.name: renewed(site, host) for host in hosts(site)}
    until(lambda: at_hosts(shown(site)) == ending, f"certificates that end soon {ending}", pause=1)
    assert run("apply", "site", site.environment, [], sys.stdout) == EXIT_DONE

    def changed() -> dict[str, int]:
        """One certificate a host on all of its ports, and no more the one that ends soon."""
        found = at_hosts(shown(site))
        return found if all(found.get(name, 0) not in (0, ending[name]) for name in ending) else {}

    found = until(changed, "certificates of the deploy", pause=1)
    for host in hosts(site):
        # What is shown is what lies there, and it lasts.
        text = remote.shell(site, host.address, f"cat {FOLDER}/cert.pem")
        certificate = x509.load_pem_x509_certificate(text.encode())
        assert certificate.serial_number == found[host.name]
        lasting = timedelta(seconds=site.of(CertificatesSettings, host.name).renew_before)
        assert certificate.not_valid_after_utc - datetime.now(UTC) > lasting
    assert run("plan", "site", site.environment, [], sys.stdout) == EXIT_DONE


@pytest.mark.usefixtures("kept")
def test_another_issuers_certificate_is_left_alone(site: Site) -> None:
    """`issuer = "external"`: an ACME client on the host keeps the certificate."""
    (host, *_) = site.group("mx")
    number = renewed(site, host)
    # Otherwise the next plan would show nothing.
    assert plan(site, host) == EXIT_CHANGES
    with overlaid('[certificates]\nissuer = "external"\n'):
        assert plan(site, host) == EXIT_DONE
        assert run("apply", "site", site.environment, [host.name], sys.stdout) == EXIT_DONE
    until(lambda: serial(site, host, 25, "smtp") == number, "its certificate")


def plan(site: Site, host: SiteHost) -> int:
    """Whether something is left to do on a host."""
    return run("plan", "site", site.environment, [host.name], sys.stdout)
