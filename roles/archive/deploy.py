"""The role `archive`, step by step."""

from typing import Any

import pyrage
from pyinfra.api.deploy import deploy

from roles.archive.settings import ArchiveSettings
from roles.common.errors import SiteError
from roles.common.files import Check, ConfigFile, configure, directory, program, static, template
from roles.common.packages import Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.directory.tree import service_dn
from roles.mailstore.values import values

CONFIG = "/etc/site-archive/archive.toml"
PASSWORD = "/etc/site-archive/ldap-password"  # noqa: S105 - where it is
LIB = "/usr/local/lib/site-archive"
COMMAND = "/usr/local/sbin/site-archive"
_UNITS = "/etc/systemd/system"
_PROGRAM = (
    "archive/certificate.py", "archive/container.py", "archive/mailbox.py", "archive/program.py",
    "directory/ldif.py",
)  # fmt: skip
"""What runs on the host, below `roles` here and there: nothing of it needs more than Debian has."""
_MODULE = "roles.archive.program"


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages."""
    return Needed(["age", "ldap-utils", "python3", "zstd"])


@deploy("Archive")
def archive() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    settings = site.of(ArchiveSettings, host.name)
    names: dict[str, Any] = {
        **values(site, host),
        "settings": settings,
        "bind": service_dn(site, "archive"),
        "password": PASSWORD,
        "recipients": recipients(site, settings),
        "command": COMMAND,
    }
    packages(needed(site, host), name="Packages")
    directory(name="Archives", path=settings.folder, mode="700")
    configure(
        program(LIB, _PROGRAM),
        check=Check(f"cd {{tree}} && python3 -B -m {_MODULE} --help >/dev/null", tree=LIB),
        name="The program",
    )
    configure([static("archive", "site-archive", COMMAND, mode="755")], name="Its command")
    # Without an end of line: ldapsearch would take it for a part of the password.
    secret = site.secrets.directory_archive_password.get_secret_value().encode()
    configure(
        [ConfigFile(PASSWORD, secret, mode="600")],
        name="The password by which it asks the directory",
    )
    configure([template("archive", CONFIG, mode="600", **names)], name="Configuration")
    units = [
        template("archive", f"{_UNITS}/site-archive.{kind}", **names)
        for kind in ("service", "timer")
    ]
    timed = configure(units, name="Its units")
    service(
        "site-archive.timer",
        config=[unit.path for unit in units],
        after=[timed],
        name="Archives, every night",
    )


def recipients(site: Site, settings: ArchiveSettings) -> list[str]:
    """Public keys that open what is archived."""
    return [str(identities(site)[0].to_public()), *settings.recipients]


def identities(site: Site) -> list[pyrage.x25519.Identity]:
    """What opens archives: the one for new ones first, then former ones.

    Raises:
        SiteError: `archive_identity` is none.
    """
    lines = site.secrets.archive_identity.get_secret_value().split()
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError:
        found = []
    if not found:
        # Without its words: they would quote the secret.
        raise SiteError(
            f"{site.environment}: archive_identity of the secrets is no age identity; expected "
            "lines 'AGE-SECRET-KEY-1…', as age-keygen makes them"
        )
    return found
