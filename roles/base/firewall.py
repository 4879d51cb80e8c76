"""Who may connect to what: one table, from which each host's nftables rules follow.

A role whose daemon listens for others adds its row to `FLOWS`. Whatever is not in it is dropped,
by IPv4 and by IPv6. A host that is in several groups answers for all of them; what it says to
itself passes by loopback and is never filtered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses
from typing import Literal, get_args

from roles.addressbook.settings import AddressBookSettings
from roles.common.site import GROUPS, Group, Site, SiteHost

Network = Literal["management", "clients", "everyone"]
"""Who is not a host of the site: networks of `[site.networks]`, or anyone at all."""
Source = Group | Network
_EVERYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True)
class Flow:
    """Connections that are allowed: TCP `ports` of every host in `to`, from `sources`."""

    name: str
    to: tuple[Group, ...]
    ports: tuple[int, ...]
    sources: tuple[Source, ...]


FLOWS: tuple[Flow, ...] = (
    Flow("SSH", GROUPS, (22,), ("management",)),
    # Clients know the fronts only. The operators may use what clients use, to check it.
    Flow("webmail", ("front",), (80, 443), ("clients", "management")),
    Flow("IMAP", ("front",), (143, 993), ("clients", "management")),
    Flow("POP3", ("front",), (995,), ("clients", "management")),
    Flow("submission", ("front",), (465, 587), ("clients", "management")),
    Flow("ManageSieve", ("front",), (4190,), ("clients", "management")),
    Flow("SMTP", ("mx",), (25,), ("everyone",)),
    Flow(
        "internal relay", ("mx",), (10025,),
        ("directory", "front", "store", "database", "mx", "backup", "monitor"),
    ),
    Flow(
        "LDAPS", ("directory",), (636,),
        ("directory", "store", "mx", "front", "monitor", "management"),
    ),
    Flow("LMTP", ("store",), (24,), ("mx", "front", "store")),
    Flow("IMAP proxy", ("store",), (143, 993), ("front", "store")),
    Flow("POP3 proxy", ("store",), (995,), ("front",)),
    Flow("ManageSieve proxy", ("store",), (4190,), ("front",)),
    Flow("quota status", ("store",), (12341,), ("mx", "front")),
    Flow("PostgreSQL", ("database",), (5432,), ("front", "mx", "store")),
    Flow("backups", ("backup",), (8000,), ("directory", "store", "database", "front", "mx")),
)  # fmt: skip
"""Every connection that a host accepts, besides the one whose port is a setting."""


def flows_of(site: Site, host: SiteHost) -> tuple[Flow, ...]:
    """Every connection that a host accepts."""
    port = site.of(AddressBookSettings, host.name).port
    return (*FLOWS, Flow("address book", ("front",), (port,), ("clients", "management")))


@dataclass(frozen=True)
class Rule:
    """One line of a host's input chain."""

    ports: tuple[int, ...]
    sources: tuple[str, ...]
    """Addresses and networks; empty for everyone."""
    comment: str

    @property
    def match(self) -> str:
        """The rule's condition in nftables' language."""
        ports = f"tcp dport {{ {', '.join(str(port) for port in self.ports)} }}"
        if not self.sources:
            return ports
        if self.sources == (str(_EVERYWHERE),):
            return f"meta nfproto ipv4 {ports}"
        return f"ip saddr {{ {', '.join(self.sources)} }} {ports}"


def rules(site: Site, host: SiteHost, flows: Sequence[Flow] | None = None) -> list[Rule]:
    """The rules of a host, in a fixed order.

    Args:
        site: the environment.
        host: the host on which they shall run.
        flows: the table; by default that of the host.
    """
    open_to: dict[int, set[IPv4Network]] = {}
    everyone: set[int] = set()
    names: dict[int, list[str]] = {}
    for flow in flows_of(site, host) if flows is None else flows:
        if not host.serves(*flow.to):
            continue
        networks = {network for source in flow.sources for network in _networks(site, source)}
        networks.discard(IPv4Network(host.address))
        for port in flow.ports:
            if "everyone" in flow.sources:
                everyone.add(port)
            open_to.setdefault(port, set()).update(networks)
            if flow.name not in names.setdefault(port, []):
                names[port].append(flow.name)
    by_sources: dict[tuple[str, ...], list[int]] = {}
    for port in sorted(open_to):
        sources = () if port in everyone else _text(open_to[port])
        # A port that only the host itself uses needs no rule.
        if sources or port in everyone:
            by_sources.setdefault(sources, []).append(port)
    return [
        Rule(tuple(ports), sources, ", ".join(dict.fromkeys(n for p in ports for n in names[p])))
        for sources, ports in by_sources.items()
    ]


def _networks(site: Site, source: Source) -> list[IPv4Network]:
    if source == "management":
        return site.table.networks.management
    if source == "clients":
        return site.table.networks.clients
    if source == "everyone":
        return []
    if source not in get_args(Group):
        raise AssertionError(source)
    return [IPv4Network(host.address) for host in site.group(source)]


def _text(networks: set[IPv4Network]) -> tuple[str, ...]:
    """The networks without overlaps, which nftables refuses; a single address without its /32."""
    return tuple(str(network).removesuffix("/32") for network in collapse_addresses(networks))
