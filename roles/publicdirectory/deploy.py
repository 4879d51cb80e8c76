"""The role `publicdirectory`, step by step."""

from pathlib import PurePosixPath
from typing import Any

from pyinfra.api.deploy import deploy

from roles.common.files import Check, ConfigFile, configure, program, template
from roles.common.packages import Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site, in_turn
from roles.common.users import system_user
from roles.directory.tree import service_dn
from roles.publicdirectory.settings import PublicDirectorySettings
from roles.webmail.settings import WebmailSettings

CONFIG = "/etc/site-publicdirectory/publicdirectory.toml"
PASSWORD = "/etc/site-publicdirectory/ldap-password"  # noqa: S105 - where it is
OUTPUT = "/var/lib/site-publicdirectory"
"""Where the pages are written; nginx serves what lies in `current` (role `webmail`)."""
LIB = "/usr/local/lib/site-publicdirectory"
USER = "publicdirectory"
PROGRAM = (
    "accounts/names.py", "directory/ldif.py", "publicdirectory/content.py",
    "publicdirectory/downloads.py", "publicdirectory/pages.py", "publicdirectory/publish.py",
    "publicdirectory/files/page.html", "publicdirectory/files/index.html",
    "publicdirectory/files/unit.html", "publicdirectory/files/parts.html",
    "publicdirectory/files/danh-ba.css", "publicdirectory/files/danh-ba.js",
)  # fmt: skip
"""What runs on the host, below `roles` here and there: nothing of it needs more than Debian has."""
_MODULE = "roles.publicdirectory.publish"
_UNITS = "/etc/systemd/system"


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages."""
    return Needed(["ldap-utils", "python3", "python3-jinja2"])


@deploy("Public directory")
def publicdirectory() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    settings = site.of(PublicDirectorySettings, host.name)
    names: dict[str, Any] = {
        "settings": settings,
        "contact": site.of(WebmailSettings, host.name).incident_contact or site.postmaster,
        # Not all fronts ask the first directory.
        "directories": in_turn(site.group("directory"), site.group("front").index(host)),
        "bind": service_dn(site, "publicdirectory"),
        "password": PASSWORD,
        "output": OUTPUT,
        "lib": LIB,
        "config": CONFIG,
    }
    packages(needed(site, host), name="Packages")
    sysusers = template("publicdirectory", "/etc/sysusers.d/publicdirectory.conf")
    configure([sysusers], name="The user that the program runs as, described")
    system_user(name="The user that the program runs as", user=USER, sysusers=sysusers.path)
    installed = configure(
        program(LIB, PROGRAM),
        check=Check(f"cd {{tree}} && python3 -B -c 'import {_MODULE}'", tree=LIB),
        name="The program",
    )
    # Without an end of line: ldapsearch would take it for a part of the password.
    secret = site.secrets.directory_publicdirectory_password.get_secret_value().encode()
    password = configure(
        [ConfigFile(PASSWORD, secret, mode="640", group=USER)],
        name="The password by which it asks the directory",
    )
    config = template("publicdirectory", CONFIG, **names)
    configured = configure(
        [config],
        check=Check(f"cd {LIB} && python3 -B -m {_MODULE} --check {{{CONFIG}}}"),
        name="Configuration",
    )
    units = [
        template("publicdirectory", f"{_UNITS}/site-publicdirectory.{kind}", **names)
        for kind in ("service", "timer")
    ]
    timed = configure(units, name="Its units")
    # A restart of the timer runs the program soon.
    service(
        "site-publicdirectory.timer",
        config=[*(unit.path for unit in units), str(PurePosixPath(CONFIG).parent), LIB],
        after=[installed, password, configured, timed],
        name="New pages, soon after every change",
    )
