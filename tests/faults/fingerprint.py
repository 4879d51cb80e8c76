"""What two runs of a deploy that came to the same end have in common, and where they differ."""

import shlex
from dataclasses import dataclass

from roles.common.redaction import masked
from roles.common.site import Site
from tests import remote

# What a machine makes for itself differs between two undisturbed runs, too.
_OWN = (
    "/etc/machine-id", "/etc/ssh/ssh_host_*", "/etc/ld.so.cache", "/etc/.pwd.lock", "*/passwd-",
    "*/group-", "*/shadow*", "*/gshadow*", "*/subuid*", "*/subgid*", "/etc/site-tls/*.pem",
    "/etc/ssl/private/*", "/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/certs/java/*",
    "/etc/apt/*", "/etc/mailname", "/etc/ldap/slapd.d/*", "*.pyc",
)  # fmt: skip
_FOLDERS = "/etc /usr/local"
_OTHERS = " ".join(f"! -path '{pattern}'" for pattern in _OWN)
# When slapd wrote an entry of cn=config, and as which number.
_TIMES = "entryCSN|contextCSN|entryUUID|createTimestamp|modifyTimestamp|creatorsName|modifiersName"
_COMMANDS = (
    f"find {_FOLDERS} -xdev -type f {_OTHERS} -exec sha256sum {{}} + | sort -k2",
    # The modes of those, too, whose content is the machine's own; not those that come and go.
    rf"find {_FOLDERS} -xdev ! -name '*-' ! -name '*.pyc' ! -name __pycache__"
    r" -printf '%M %u:%g %p -> %l\n'",
    "test ! -d /etc/ldap/slapd.d/cn=config || slapcat -n0 -o ldif_wrap=no"
    f" | grep -vE '^({_TIMES}):' | awk '/^dn: /{{ dn = $2 }} NF {{ print dn, $0 }}'",
    r"dpkg-query -W -f '${Package} ${db:Status-Status}\n'",
    "systemctl list-unit-files --state=enabled,masked --no-legend --plain | awk '{ print $1, $2 }'",
    "systemctl list-units --type=service --state=running --no-legend --plain"
    " | awk '{ print $1, \"runs\" }'",
)


@dataclass(frozen=True)
class Difference:
    """What one host has and the undisturbed one has not, or the other way round."""

    host: str
    lines: tuple[str, ...]


def fingerprint(site: Site) -> dict[str, set[str]]:
    """What is compared of each host, line by line, without secrets.

    What files hold, whose they are and who may read them; slapd's configuration; packages; units
    that are enabled; services that run.
    """
    command = "set -e -o pipefail; " + "; ".join(_COMMANDS)
    return {
        host.name: set(
            masked(
                remote.shell(site, host.address, f"bash -c {shlex.quote(command)}"),
                site.secrets.values(),
            ).splitlines()
        )
        for host in site.hosts.values()
    }


def differences(reference: dict[str, set[str]], found: dict[str, set[str]]) -> list[Difference]:
    """Where two fingerprints differ, host by host."""
    return [
        Difference(host, tuple(sorted(reference[host] ^ found[host])))
        for host in reference
        if reference[host] != found[host]
    ]
