"""The role `directory`, step by step."""

from pyinfra.api.deploy import deploy

from roles.common import files
from roles.common.files import Check, ConfigFile, configure, static, template
from roles.common.packages import SLAPD, Needed, packages
from roles.common.services import service
from roles.common.site import ROOT, Site, SiteHost, current_host, current_site
from roles.common.users import in_group
from roles.directory.facts import AUDIT, DATA, REPLICATOR
from roles.directory.operations import (
    directory_entries,
    first_entries,
    forbidden_passwords,
    in_step,
    slapd_config,
)
from roles.directory.settings import DirectorySettings
from roles.directory.tree import service_dn, tree

_SCHEMA = ROOT / "roles" / "directory" / "files" / "schema.ldif"
_WORDS = "/usr/local/share/site-directory"
_WATCHDOG = "/usr/local/lib/site-directory/watchdog"
_WATCH = "/etc/systemd/system/site-slapd-watchdog.service"
_PACK = "/usr/local/lib/site-directory/pack"
_CHECK = (
    "d=$(mktemp -d) && slapadd -n0 -F $d -l {/etc/ldap/slapd.ldif} && slaptest -u -Q -F $d;"
    " result=$?; rm -rf $d; exit $result"
)


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages."""
    return SLAPD | Needed(["slapd-contrib", "ldap-utils", "cracklib-runtime", "python3"])


@deploy("Directory")
def directory() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    settings = site.of(DirectorySettings, host.name)

    packages(needed(site, host), name="Packages")
    in_group(user="openldap", group="site-tls", name="slapd may read the host's key")
    files.directory(
        path=DATA, mode="700", user="openldap", group="openldap", name="Folder of the database"
    )
    files.directory(
        path=AUDIT, mode="700", user="openldap", group="openldap", name="Folder of the audit log"
    )

    _forbidden_passwords(settings)

    schema = _SCHEMA.read_text(encoding="utf-8")
    # Its folder is everybody's; the file holds the replicator's password.
    seed = template(
        "directory", "/etc/ldap/slapd.ldif", mode="600", settings=settings, schema=schema
    )
    configure([seed], check=Check(_CHECK), name="slapd's configuration, as text")
    slapd_config(
        wanted=seed.content.decode(),
        source=seed.path,
        suffix=site.base_dn,
        name="slapd's configuration, as it runs",
        # Where it is built anew slapd stops for a while: one host after the other.
        _serial=True,
    )
    # Every directory host accepts changes; one of them makes ours, the others follow.
    first = host == site.group("directory")[0]
    peers = [other.fqdn for other in site.group("directory") if other != host]
    replicator = service_dn(site, "replicator")
    secret = site.secrets.directory_replicator_password.get_secret_value().encode()
    replica_file = ConfigFile(REPLICATOR, secret, mode="600")
    configure(
        [replica_file] if peers else [],
        absent=[] if peers else [REPLICATOR],
        name="The password of replication",
    )
    entries = tree(site, settings) if first else []
    if first:
        first_entries(
            wanted=entries,
            base=site.base_dn,
            peers=peers,
            name="Containers, services and password policies, before slapd first runs",
        )
    start = [
        template("directory", "/etc/default/slapd"),
        template("directory", "/etc/systemd/system/slapd.service.d/site.conf", settings=settings),
        template("directory", "/etc/ldap/ldap.conf"),
    ]
    started = configure(start, name="slapd's start")
    configure(
        [template("directory", "/etc/site-tls/reload.d/directory", mode="755")],
        name="slapd takes a renewed certificate",
    )
    service(
        "slapd.service",
        # Not slapd.d: what changes there, slapd changed itself.
        config=[
            *(file.path for file in start),
            "/etc/site-tls/ca.pem",
            "/etc/site-tls/cert.pem",
            "/etc/site-tls/key.pem",
        ],
        after=[started],
        serial=True,
        name="slapd",
    )
    watch = [
        static("directory", "watchdog", _WATCHDOG, mode="755"),
        template("directory", _WATCH),
    ]
    watched = configure(watch, check=Check(f"sh -n {{{_WATCHDOG}}}"), name="Watchdog's files")
    service(
        "site-slapd-watchdog.service",
        config=[file.path for file in watch],
        after=[watched],
        name="Watchdog",
    )
    if first:
        in_step(
            base=site.base_dn,
            peers=peers,
            replicator=replicator,
            name="What other directory hosts know",
        )
        directory_entries(
            wanted=entries,
            base=site.base_dn,
            name="Containers, services and password policies",
        )


def _forbidden_passwords(settings: DirectorySettings) -> None:
    """What slapd compares a new password with."""
    files.directory(
        path="/var/lib/site-directory", name="Folder of the list of forbidden passwords"
    )
    own = [*settings.forbidden_words]
    own += [(ROOT / name).read_text(encoding="utf-8") for name in settings.forbidden_lists]
    lists = [
        static("directory", "passwords/names.txt", f"{_WORDS}/names.txt"),
        static("directory", "passwords/words.txt", f"{_WORDS}/words.txt"),
        ConfigFile(f"{_WORDS}/own.txt", "".join(f"{text}\n" for text in own).encode()),
    ]
    program = static("directory", "passwords/pack", _PACK, mode="755")
    written = configure([program, *lists], name="Forbidden passwords, as text")
    forbidden_passwords(
        sources=[program.path, *(file.path for file in lists)],
        after=[written],
        name="Forbidden passwords, as slapd reads them",
    )
