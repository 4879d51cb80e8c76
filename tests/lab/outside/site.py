"""The site's model with `outside1` among the hosts, and the addresses that the lab adds."""

import dataclasses
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address

from roles.common.errors import SiteError
from roles.common.site import Lab, Site, SiteHost

OUTSIDE = "outside1"
"""The host that plays the rest of the Internet."""


@dataclass(frozen=True)
class Outside:
    """What `outside1` is called and where it is."""

    lab: Lab

    @property
    def domain(self) -> str:
        """The foreign mail domain."""
        return self.lab.foreign_domain

    @property
    def fqdn(self) -> str:
        """Its full name."""
        return f"{OUTSIDE}.{self.domain}"

    @property
    def address(self) -> IPv4Address:
        """The address from which the foreign domain may send."""
        return self.lab.outside

    @property
    def second_fqdn(self) -> str:
        """Name of the second address."""
        return f"outside2.{self.domain}"

    @property
    def second_address(self) -> IPv4Address:
        """The address from which the foreign domain must not send, by its own SPF record."""
        return self.lab.outside + 1

    @property
    def gateway(self) -> IPv4Address:
        """The address of the machine that runs the lab, as the containers see it."""
        return next(self.lab.network.hosts())

    @property
    def reverse_zone(self) -> str:
        """The zone that gives the lab's addresses their names."""
        return self.lab.network.network_address.reverse_pointer.split(".", 1)[1]


def outside_of(site: Site) -> Outside:
    """What plays the rest of the Internet for `site`.

    Raises:
        SiteError: the site is no lab, or uses an address that the lab needs itself.
    """
    source = site.folder / "site.toml"
    if site.lab is None:
        raise SiteError(
            f"{source}: has no table [lab]; expected an environment whose hosts are containers"
        )
    if site.lab.network.prefixlen != 24:
        raise SiteError(f"{source}: lab.network: {site.lab.network}; expected a network of 24 bits")
    outside = Outside(site.lab)
    taken = {outside.gateway: "the machine that runs the lab"}
    taken |= {outside.address: OUTSIDE, outside.second_address: f"{OUTSIDE}'s second address"}
    for host in site.hosts.values():
        address = IPv4Address(host.address)
        if host.name != OUTSIDE and address in taken:
            raise SiteError(
                f"{source}: hosts.{host.name}.address: {address} is that of {taken[address]}; "
                "expected another"
            )
        if address not in site.lab.network:
            raise SiteError(
                f"{source}: hosts.{host.name}.address: {address}; expected one of lab.network, "
                f"{site.lab.network}"
            )
    return outside


def with_outside(site: Site) -> Site:
    """The site with `outside1` as a host of no group."""
    outside = outside_of(site)
    host = SiteHost(OUTSIDE, str(outside.address), (), outside.domain)
    return dataclasses.replace(site, hosts={**site.hosts, OUTSIDE: host})


def serial(zone: str) -> int:
    """A serial number that changes with the zone's text."""
    return zlib.crc32(zone.encode())
