"""What the templates say that is neither a setting nor a fixed value."""

from typing import Any

from roles.common.rendering import encoded
from roles.common.site import Site, SiteHost, in_turn
from roles.mailstore.letters import QUOTA_LETTERS
from roles.mailstore.settings import MailstoreSettings

VMAIL_ID = 5000
_ASKING_PORTS = 2
"""Ports of an mx on which Postfix asks a store for full mailboxes: 25 and 10025."""
_SMTPD_PROCESSES = 100
"""How many smtpd each of them has at the most: Postfix' `default_process_limit`."""


def values(site: Site, host: SiteHost) -> dict[str, Any]:
    """What the templates see, besides the site and the host."""
    settings = site.of(MailstoreSettings, host.name)
    # Not all ask the first directory, or send by the first mx.
    position = site.group("store", "front").index(host)
    directories = in_turn(site.group("directory"), position)
    quota_clients = len(site.group("mx")) * _ASKING_PORTS * _SMTPD_PROCESSES
    stores = [name for name in host.aliases if name in site.store_names]
    return {
        "settings": settings,
        "vmail_id": VMAIL_ID,
        "trusted": sorted({"127.0.0.1", *(front.address for front in site.group("front"))}),
        "directories": [f"ldaps://{entry.fqdn}" for entry in directories],
        "own_stores": stores,
        "own_store": f"(|{''.join(f'(mailHost={name})' for name in stores)})"
        if stores
        else "(mailHost=none)",
        "relay": in_turn(site.group("mx"), position)[0].fqdn,
        "auth_clients": 2 * settings.logins + settings.sessions + quota_clients + 1000,
        "quota_clients": quota_clients,
        "quota_letters": QUOTA_LETTERS,
        "sender": f"{encoded('Hệ thống thư điện tử')} <{site.postmaster}>",
        "rejection_subject": "Thư bị từ chối: %{subject}",
    }
