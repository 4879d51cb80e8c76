"""Hands an environment's hosts to pyinfra: what every `inventory.py` calls."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pyinfra import logger

from roles.common.errors import SiteError
from roles.common.redaction import Redacting
from roles.common.site import GROUPS, load

Hosts = list[tuple[str, dict[str, Any]]]


def groups(inventory: str) -> dict[str, Hosts]:
    """The groups of the environment whose `inventory.py` this is, each with its hosts.

    Args:
        inventory: path of the inventory file (`__file__`).
    """
    site = load(Path(inventory).resolve().parent.name)
    site.keep_secrets()
    # Where there are none, the deploy says so; facts can be asked for without.
    with suppress(SiteError):
        logger.addFilter(Redacting(site.secrets.values()))
    data: dict[str, Any] = {"site": site, "ssh_user": "root"}
    if site.lab:
        data |= {
            "ssh_key": str(site.state / "ssh" / "id_ed25519"),
            "ssh_known_hosts_file": str(site.state / "ssh" / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
        }
    return {
        group: [
            (f"@site/{host.name}", {**data, "ssh_hostname": host.address})
            for host in site.group(group)
        ]
        for group in GROUPS
    }
