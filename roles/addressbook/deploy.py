"""The role `addressbook`, step by step."""

from typing import Any

from pyinfra.api.deploy import deploy

from roles.addressbook.settings import AddressBookSettings
from roles.common import files
from roles.common.files import Check, ConfigFile, configure, program, static, template
from roles.common.packages import SLAPD, Needed, packages
from roles.common.services import masked, service
from roles.common.site import Site, SiteHost, current_host, current_site, in_turn
from roles.common.users import in_group, system_user
from roles.directory.settings import DirectorySettings
from roles.directory.tree import service_dn

CONFIG = "/etc/site-addressbook/addressbook.toml"
PASSWORD = "/etc/site-addressbook/ldap-password"  # noqa: S105 - where it is
LDIF = "/etc/site-addressbook/slapd.ldif"
LDAPI = "/run/site-addressbook/ldapi"
"""Socket of slapd, on which the copy is written."""
LOGIN = "/run/site-addressbook-login/socket"
"""Socket on which slapd asks who somebody is."""
STATE = "/var/lib/site-addressbook"
LIB = "/usr/local/lib/site-addressbook"
USER = "addressbook"
UNITS = ("site-addressbook-login.service", "site-addressbook.service")
PROGRAM = (
    "accounts/names.py", "directory/ldif.py", "publicdirectory/content.py",
    "addressbook/configuration.py", "addressbook/directory.py", "addressbook/entries.py",
    "addressbook/login.py", "addressbook/mirror.py",
)  # fmt: skip
"""What runs on the host, below `roles` here and there: nothing of it needs more than Debian has."""
_PREPARE = f"{LIB}/prepare"
_SYSTEMD = "/etc/systemd/system"
_CHECK = (
    f"d=$(mktemp -d) && slapadd -n0 -F $d -l {{{LDIF}}} && slaptest -u -Q -F $d;"
    " result=$?; rm -rf $d; exit $result"
)


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages."""
    return SLAPD | Needed(["python3", "python3-ldap"])


@deploy("Address book")
def addressbook() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    settings = site.of(AddressBookSettings, host.name)
    directory = site.of(DirectorySettings)
    names: dict[str, Any] = {
        "settings": settings,
        # Not all fronts ask the first directory.
        "directories": in_turn(site.group("directory"), site.group("front").index(host)),
        "bind": service_dn(site, "addressbook"),
        "mirror": f"cn=mirror,{site.base_dn}",
        # However often it is asked with it, less wrong passwords than lock an account.
        "wrong_kept": 2 * directory.lockout_window // directory.lockout_failures,
        "delay": directory.delay_longest,
        "password": PASSWORD,
        "config": CONFIG,
        "ldapi": LDAPI,
        "login_socket": LOGIN,
        "lib": LIB,
        "prepare": _PREPARE,
    }
    packages(needed(site, host), name="Packages")
    if not host.serves("directory"):
        masked(unit="slapd.service", name="The package's own slapd does not run")
    sysusers = template("addressbook", "/etc/sysusers.d/addressbook.conf")
    configure([sysusers], name="The user that it runs as, described")
    system_user(name="The user that it runs as", user=USER, sysusers=sysusers.path)
    in_group(user=USER, group="site-tls", name="slapd may read the host's key")
    for folder in (STATE, f"{STATE}/book"):
        files.directory(
            path=folder, mode="700", user=USER, group=USER, name=f"Folder of the copy, {folder}"
        )
    modules = "import roles.addressbook.login, roles.addressbook.mirror"
    installed = configure(
        program(LIB, PROGRAM),
        check=Check(f"cd {{tree}} && python3 -B -c '{modules}'", tree=LIB),
        name="The programs",
    )
    prepare = static("addressbook", "prepare", _PREPARE, mode="755")
    prepared = configure(
        [prepare], check=Check(f"sh -n {{{_PREPARE}}}"), name="What prepares slapd"
    )
    secret = site.secrets.directory_addressbook_password.get_secret_value().encode()
    password = configure(
        [ConfigFile(PASSWORD, secret, mode="640", group=USER)],
        name="The password by which it asks the directory",
    )
    configured = configure(
        [template("addressbook", CONFIG, **names)],
        check=Check(f"cd {LIB} && python3 -B -m roles.addressbook.configuration {{{CONFIG}}}"),
        name="Configuration",
    )
    seeded = configure(
        [template("addressbook", LDIF, **names)], check=Check(_CHECK), name="slapd's configuration"
    )
    units = {
        name: template("addressbook", f"{_SYSTEMD}/site-addressbook{name}", **names)
        for name in ("-login.service", ".service", "-mirror.service", "-mirror.timer")
    }
    started = configure(list(units.values()), name="Its units")
    configure(
        [template("addressbook", "/etc/site-tls/reload.d/addressbook", mode="755")],
        name="slapd takes a renewed certificate",
    )
    ours = [CONFIG, PASSWORD, f"{LIB}/roles"]
    login, book = UNITS
    service(
        login,
        config=[units["-login.service"].path, *ours, "/etc/site-tls/ca.pem"],
        after=[installed, password, configured, started],
        serial=True,
        name="Who may log in",
    )
    service(
        book,
        config=[
            units[".service"].path,
            LDIF,
            prepare.path,
            "/etc/site-tls/cert.pem",
            "/etc/site-tls/key.pem",
        ],
        after=[seeded, prepared, started],
        serial=True,
        name="slapd",
    )
    # A restart of the timer runs the program soon.
    service(
        "site-addressbook-mirror.timer",
        config=[units["-mirror.service"].path, units["-mirror.timer"].path, *ours],
        after=[installed, password, configured, started],
        name="Soon what the directory says",
    )
