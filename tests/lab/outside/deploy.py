"""Deploys `outside1`."""

from pathlib import Path
from typing import Any

from pyinfra.api.deploy import deploy

from deploy.dns import records
from roles.common.files import Check, ConfigFile, configure, directory
from roles.common.packages import POSTFIX, Needed, packages
from roles.common.rendering import render
from roles.common.services import service
from roles.common.site import current_site
from tests.lab.outside import foreign
from tests.lab.outside.site import outside_of, serial

NEEDED = POSTFIX | Needed(
    [
        "bind9-utils",  # named-checkzone
        "dovecot-imapd",
        "dovecot-lmtpd",
        "postfix-pcre",
        "ssl-cert",  # a self-signed certificate: what most of the Internet's MX have
        "unbound",
    ]
)
"""What it needs of Debian."""
_TEMPLATES = Path(__file__).parent / "templates"


def _file(path: str, **values: Any) -> ConfigFile:
    """A file rendered from `templates/PATH.j2` beside this module."""
    site = current_site()
    context = {"site": site, "outside": outside_of(site), "foreign": foreign, **values}
    return ConfigFile(path, render(f"{path.lstrip('/')}.j2", context, _TEMPLATES).encode())


def _zone(name: str) -> ConfigFile:
    """A zone's file; its serial number follows from its content."""
    path = f"/etc/unbound/zones/{name}.zone"
    published = records(current_site())
    known = {
        "records": published,
        "addresses": {(record.name, record.value) for record in published if record.kind == "A"},
    }
    draft = _file(path, serial=0, **known)
    return _file(path, serial=serial(draft.content.decode()), **known)


def _zone_check(outside_domain: str, site_domain: str, reverse_zone: str) -> Check:
    zones = {"foreign": outside_domain, "site": site_domain, "reverse": reverse_zone}
    commands = [
        f"named-checkzone -q -i local {zone} {{/etc/unbound/zones/{name}.zone}} || "
        f"named-checkzone -i local {zone} {{/etc/unbound/zones/{name}.zone}}"
        for name, zone in zones.items()
    ]
    return Check(" && ".join(f"{{ {command}; }}" for command in commands))


@deploy("Outside")
def outside() -> None:
    """DNS for all, and a foreign mail domain."""
    site = current_site()
    here = outside_of(site)

    packages(NEEDED, name="Packages")

    unit = configure(
        [_file("/etc/systemd/system/second-address.service")],
        check=Check(
            "systemd-analyze verify {tree}/second-address.service", tree="/etc/systemd/system"
        ),
        name="Second address",
    )
    service(
        "second-address.service",
        config=["/etc/systemd/system/second-address.service"],
        after=[unit],
        name="Second address is up",
    )

    zones = configure(
        [_zone("site"), _zone("foreign"), _zone("reverse")],
        check=_zone_check(here.domain, site.domain, here.reverse_zone),
        name="Zones",
    )
    resolver = configure(
        [_file("/etc/unbound/unbound.conf")],
        check=Check("unbound-checkconf {/etc/unbound/unbound.conf}"),
        name="Resolver",
    )
    service(
        "unbound.service",
        config=["/etc/unbound"],
        after=[zones, resolver],
        name="Resolver runs",
    )
    configure([_file("/etc/resolv.conf")], name="This host asks its own resolver")

    directory(name="Mailboxes", path="/srv/foreign", mode="770", user="mail", group="mail")
    postfix = configure(
        [
            _file("/etc/postfix/main.cf"),
            _file("/etc/postfix/master.cf"),
            _file("/etc/postfix/mailboxes"),
            _file("/etc/postfix/recipients"),
        ],
        check=Check("postfix -c {tree} check", tree="/etc/postfix"),
        name="Postfix",
    )
    service("postfix.service", config=["/etc/postfix"], after=[postfix], name="Postfix runs")

    dovecot = configure(
        [_file("/etc/dovecot/dovecot.conf")],
        check=Check("doveconf -c {/etc/dovecot/dovecot.conf} >/dev/null"),
        name="Dovecot",
    )
    service(
        "dovecot.service",
        config=["/etc/dovecot/dovecot.conf"],
        after=[dovecot],
        name="Dovecot runs",
    )
