"""What a person or a tool needs to use a lab that is up."""

import json
from pathlib import Path
from typing import Any, get_args

from roles.accounts.deploy import site_registry
from roles.accounts.registry import Person
from roles.accounts.settings import AccountsSettings, Service
from roles.common.errors import SiteError
from roles.common.site import ROOT, Site
from tests.lab.outside import foreign
from tests.lab.outside.site import outside_of

_SHOWN = 3
"""How many people the welcome names."""


def relative(path: Path, root: Path = ROOT) -> str:
    """A path as seen from the project's root."""
    return str(path.relative_to(root))


def accounts(site: Site) -> list[dict[str, Any]]:
    """The accounts with their initial passwords, as the role `accounts` handed them over.

    Left out are those whom the registry denies what others have (locked, without some service, with
    a small mailbox): every person who is listed can log in by every protocol and take a letter.
    """
    path = site.state / "accounts.json"
    if not path.exists():
        return []
    people = site_registry(site).people
    full = {person.id for person in people.values() if _unrestricted(person, site)}
    keys = ("address", "password", "kind", "name")
    return [
        {key: entry[key] for key in keys}
        for entry in json.loads(path.read_text("utf-8"))
        if entry["kind"] != "person" or entry["id"] in full
    ]


def _unrestricted(person: Person, site: Site) -> bool:
    settings = site.of(AccountsSettings)
    return (
        person.state == "active"
        and set(person.services or settings.services) == set(get_args(Service))
        and (person.quota or settings.person_quota) >= settings.person_quota
    )


def info(site: Site, root: Path = ROOT) -> dict[str, Any]:
    """The lab for tools: what `make lab-info` prints.

    Args:
        site: the lab's site.
        root: where paths begin.

    Raises:
        SiteError: the lab is not up.
    """
    outside = outside_of(site)
    key = site.state / "ssh" / "id_ed25519"
    if not key.exists():
        raise SiteError(f"{key}: not found; expected a lab that is up: run `make up`")
    return {
        "domain": site.domain,
        "webmail_url": f"https://{site.mail_name}/",
        "ca_certificate": relative(site.state / "ca.pem", root),
        "hosts": {
            host.name: {"address": host.address, "groups": list(host.groups)}
            for host in site.hosts.values()
        },
        "ssh": {"user": "root", "key": relative(key, root)},
        "accounts": accounts(site),
        "foreign": {
            "domain": outside.domain,
            "address": f"{foreign.SENDER}@{outside.domain}",
            "smtp_host": str(outside.address),
        },
    }


def welcome(site: Site) -> str:
    """The lab for people: where the webmail is and how to log in."""
    outside = outside_of(site)
    fronts = site.group("front")
    people = [account for account in accounts(site) if account["kind"] == "person"]
    lines = [
        "",
        f"Webmail       https://{site.mail_name}/",
        f"  its address   {fronts[0].address}; for this machine's browser:",
        f"                echo '{fronts[0].address} {site.mail_name}' >> /etc/hosts",
        f"  its CA        {relative(site.state / 'ca.pem')}",
        *(
            f"  log in as     {person['address']}   password {person['password']}"
            for person in people[:_SHOWN]
        ),
        f"  all accounts  {relative(site.state / 'accounts.json')}",
        f"Mail programs {site.mail_name}: IMAP 993, POP3 995, submission 465, ManageSieve 4190",
        f"From outside  SMTP {outside.address}:587 sends as {outside.domain}, for this machine",
        f"              IMAP {outside.address}:143 shows its mail: log in with any address there, "
        f"password {foreign.PASSWORD}",
        "A shell       make lab-shell HOST=mx1",
        "",
    ]
    return "\n".join(lines)
