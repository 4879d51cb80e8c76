"""The lab's outside world is what the other tests take it for."""

import smtplib

import dns.resolver
import dns.reversename
import pytest

from roles.common.site import Site
from tests import clients
from tests.lab.outside import foreign
from tests.lab.outside.site import outside_of


@pytest.fixture(scope="module")
def resolver(site: Site) -> dns.resolver.Resolver:
    """The resolver that the lab's hosts use."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [clients.outside_address(site)]
    return resolver


def answers(resolver: dns.resolver.Resolver, name: str, kind: str) -> set[str]:
    return {answer.to_text().rstrip(".") for answer in resolver.resolve(name, kind)}


def test_mail_for_the_site_goes_to_every_mx(site: Site, resolver: dns.resolver.Resolver) -> None:
    expected = {f"10 {host.fqdn}" for host in site.group("mx")}
    assert answers(resolver, site.domain, "MX") == expected
    assert answers(resolver, site.domain, "TXT") == {'"v=spf1 mx -all"'}


def test_every_name_of_a_host_leads_to_it_and_back(
    site: Site, resolver: dns.resolver.Resolver
) -> None:
    for host in site.hosts.values():
        for name in host.names:
            assert host.address in answers(resolver, name, "A")
        reverse = dns.reversename.from_address(host.address).to_text()
        assert answers(resolver, reverse, "PTR") == {host.fqdn}


def test_the_foreign_domain_may_send_from_one_address_only(
    site: Site, resolver: dns.resolver.Resolver
) -> None:
    outside = outside_of(site)
    assert answers(resolver, outside.domain, "TXT") == {f'"v=spf1 ip4:{outside.address} -all"'}
    for address, name in (
        (outside.address, outside.fqdn),
        (outside.second_address, outside.second_fqdn),
    ):
        assert answers(resolver, name, "A") == {str(address)}
        reverse = dns.reversename.from_address(str(address)).to_text()
        assert answers(resolver, reverse, "PTR") == {name}


def test_a_foreign_mailbox_keeps_what_it_gets(site: Site) -> None:
    address = f"ban.be@{clients.foreign_domain(site)}"
    message = clients.foreign_letter(site, address, subject="Chào bạn")
    clients.send_from_outside(site, message)
    with clients.foreign_imap(site, address) as client:
        assert clients.wait_for(client, message)


@pytest.mark.parametrize(("local_part", "code"), [(foreign.UNKNOWN, 550), (foreign.DEFERRED, 450)])
def test_some_foreign_addresses_refuse(site: Site, local_part: str, code: int) -> None:
    address = f"{local_part}@{clients.foreign_domain(site)}"
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        clients.send_from_outside(site, clients.foreign_letter(site, address))
    assert refused.value.recipients[address][0] == code
