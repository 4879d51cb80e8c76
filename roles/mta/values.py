"""What the templates say that is neither a setting nor a fixed value."""

from dataclasses import dataclass
from typing import Any

from roles.common.rendering import encoded
from roles.common.site import Site, SiteHost, in_turn
from roles.directory.tree import service_dn
from roles.mta.settings import MtaSettings

_FIRST_TUNNEL_PORT = 12350
LISTS = "/usr/local/lib/site-mta/lists"
"""The program of distribution lists."""
LIST_PASSWORD = "/etc/site-lists/ldap-password"  # noqa: S105 - where it is

BOUNCE_HEADERS = {
    "sender": "Hệ thống thư điện tử",
    "failure": "Thư không gửi được",
    "failure_copy": "Bản sao cho quản trị: thư không gửi được",
    "delay": "Thư chưa gửi được, hệ thống đang thử lại",
    "delay_copy": "Bản sao cho quản trị: thư đang chờ",
    "success": "Thư đã được giao",
    "verify": "Kết quả kiểm tra địa chỉ",
}
"""Headers of Postfix' own letters; its templates take ASCII, so they are encoded (RFC 2047)."""


@dataclass(frozen=True)
class Tunnel:
    """The way to the quota service of one store."""

    name: str
    store: str
    """The store's full name, as `mailHost` has it."""
    port: int
    """Where stunnel listens on loopback."""

    @property
    def restriction(self) -> str:
        """Postfix' restriction class that asks it."""
        return f"quota_{self.name.replace('-', '_')}"


def tunnels(site: Site) -> list[Tunnel]:
    """One tunnel for each store, whichever host serves it."""
    return [
        Tunnel(alias, f"{alias}.{site.domain}", _FIRST_TUNNEL_PORT + number)
        for number, alias in enumerate(site.table.stores, start=1)
    ]


def values(site: Site, host: SiteHost) -> dict[str, Any]:
    """What the templates see besides the site, the host and the secrets."""
    settings = site.of(MtaSettings, host.name)
    shape = [group for group in ("mx", "front") if group in host.groups]
    number = site.group("mx", "front").index(host)
    relays = in_turn(site.group("mx"), number)
    within = site.group("directory", "front", "store", "database", "mx", "backup", "monitor")
    inside = [other.address for other in within]
    unlimited = [other.address for other in site.group("front")]
    directories = in_turn(site.group("directory"), number)
    asking = [
        *(f"--directory ldaps://{directory.fqdn}:636" for directory in directories),
        "--authority /etc/site-tls/ca.pem",
        f"--name {service_dn(site, 'postfix')} --password {LIST_PASSWORD}",
        f"--base {site.base_dn} --domain {site.domain} --posters {settings.list_posters}",
    ]
    return {
        "settings": settings,
        "lists": LISTS,
        "asking": " ".join(asking),
        "shape": " and ".join(shape),
        "directories": directories,
        "relays": ", ".join(f"[{other.fqdn}]:10025" for other in relays),
        "internal": inside,
        "unlimited": ["$mynetworks", *unlimited, *map(str, settings.unlimited_networks)],
        "tunnels": tunnels(site),
        "headers": {name: encoded(text) for name, text in BOUNCE_HEADERS.items()},
    }
