"""The role `backup`, step by step."""

from typing import Any

from pydantic import SecretStr
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import OperationMeta

from roles.archive.settings import ArchiveSettings
from roles.backup import keys, target_file
from roles.backup.facts import MAKER
from roles.backup.keeping import READERS, keeping
from roles.backup.operations import JOBS, repositories, repositories_made
from roles.backup.settings import BackupSettings
from roles.backup.timers import KINDS, UNITS, by_the_clock
from roles.base.settings import BaseSettings
from roles.common.files import Check, ConfigFile, configure, directory, program, static, template
from roles.common.packages import Needed, packages
from roles.common.services import masked, service
from roles.common.site import Group, Site, SiteHost, current_host, current_site
from roles.common.users import in_group

CLIENTS: tuple[Group, ...] = ("directory", "store", "database", "front", "mx")
"""Groups whose hosts hold something."""
PORT = 8000
LIB = "/usr/local/lib/site-backup"
FOLDER = "/etc/site-backup"
STATE = "/var/lib/site-backup"
USER = "restic-rest-server"
"""Owner of the repositories, whom the package makes."""
MAINTENANCE = f"{FOLDER}/maintenance.secret"
_REPOSITORY = "/usr/local/libexec/site/backup-repository"
_PROGRAM = (
    "accounts/names.py",
    "backup/abandoned.py", "backup/absence.py", "backup/client.py", "backup/journal.py",
    "backup/letters.py", "backup/locks.py", "backup/mail.py", "backup/moments.py",
    "backup/records.py", "backup/refusals.py", "backup/restoring.py",
    "backup/restoring_database.py", "backup/restoring_directory.py",
    "backup/restoring_host.py", "backup/restoring_jobs.py", "backup/snapshots.py",
    "backup/stages.py", "backup/targets.py",
    "directory/ldif.py",
)  # fmt: skip
"""What runs on a client, below `roles` here and there: nothing of it needs more than Debian has."""
_TIMED = {
    "site-backup": "Backups",
    "site-backup-alarm": "The alarm of a host without new backups",
}
_MODULES = ("client", "mail", "restoring", "restoring_jobs")


def needed(site: Site, host: SiteHost) -> Needed:
    """Packages; a further target may be reached by SFTP."""
    own = Needed(["restic", "python3", "openssh-client"])
    return own | Needed(["restic-rest-server"]) | READERS if host == server(site) else own


@deploy("Backup")
def backup_repositories() -> OperationMeta | None:
    """On their host, begin to make what repositories and keys are missing.

    That takes seconds of one core for each, meanwhile the other roles are deployed.

    Returns:
        What `backup` waits for; None on every other host.
    """
    site, host = current_site(), current_host()
    if host != server(site):
        return None
    settings = site.of(BackupSettings, host.name)
    _base(site, host)
    configure(
        [_secret("maintenance.secret", keys.maintenance(site), user=USER)],
        name="The password of maintenance",
    )
    directory(
        name="Folder of repositories", path=settings.folder, mode="700", user=USER, group=USER
    )
    maker = template(
        "backup", f"{UNITS}/{MAKER}", settings=settings, program=_REPOSITORY, jobs=JOBS, owner=USER
    )
    configure(
        [static("backup", "repository", _REPOSITORY, mode="755"), maker],
        check=Check(f"sh -n {{{_REPOSITORY}}}"),
        name="What makes repositories",
    )
    return repositories(
        name="Repositories",
        passwords={
            client.name: SecretStr(keys.repository(site, client)) for client in clients(site)
        },
        folder=settings.folder,
        owner=USER,
    )


@deploy("Backup")
def backup(begun: OperationMeta | None) -> None:
    """Deploy the role.

    Args:
        begun: what `backup_repositories` returned.
    """
    site, host = current_site(), current_host()
    settings = site.of(BackupSettings, host.name)
    if begun is None:
        _base(site, host)
    configure(
        [
            template(
                "backup", f"{FOLDER}/letters.toml", relays=relays(site, host),
                timezone=site.of(BaseSettings).timezone,
            )
        ],
        name="How the postmaster is written to",
    )  # fmt: skip
    if begun is not None:
        _server(site, settings, begun)
        keeping(
            host, settings, user=USER, password=MAINTENANCE,
            parts={client.name: parts(site, client) for client in clients(site)},
        )  # fmt: skip
    if host in clients(site):
        _client(site, host, settings)


def _base(site: Site, host: SiteHost) -> None:
    packages(needed(site, host), name="Packages")
    directory(name="Folder of its configuration", path=FOLDER, mode="711")


def server(site: Site) -> SiteHost:
    """The host that keeps the repositories."""
    return site.group("backup")[0]


def clients(site: Site) -> list[SiteHost]:
    """The hosts that hold something."""
    return [host for host in site.hosts.values() if host.serves(*CLIENTS)]


def parts(site: Site, host: SiteHost) -> list[str]:
    """What a host holds, in the order in which it is backed up."""
    held = []
    if host.serves("directory"):
        held.append("directory")
    if host == site.group("database")[0]:
        held.append("database")
    if host.serves("store"):
        held += ["mail", "archive"]
    return [*held, "keys"]


def relays(site: Site, host: SiteHost) -> list[str]:
    """The mx hosts that take a host's letters, itself first."""
    return [mx.fqdn for mx in sorted(site.group("mx"), key=lambda mx: mx != host)]


def _secret(name: str, text: str, user: str = "root") -> ConfigFile:
    return ConfigFile(f"{FOLDER}/{name}", text.encode(), mode="600", user=user, secret=True)


def _server(site: Site, settings: BackupSettings, begun: OperationMeta) -> None:
    masked(name="The package's own unit", unit="restic-rest-server.service")
    in_group(name="The server may read the host's key", user=USER, group="site-tls")
    users = _secret("htpasswd", keys.htpasswd(site, clients(site)), user=USER)
    known = configure([users], name="Who may reach the server")
    further = target_file.text(site, settings.targets, clients(site))
    configure([_secret("targets.json", further, user=USER)], name="How further targets are reached")
    unit = template(
        "backup", f"{UNITS}/site-backup-server.service", settings=settings, port=PORT, owner=USER,
        users=users.path,
    )  # fmt: skip
    described = configure([unit], name="The server's unit")
    configure(
        [static("backup", "reload", "/etc/site-tls/reload.d/backup", mode="755")],
        name="The server takes a renewed certificate",
    )
    service(
        "site-backup-server.service",
        config=[unit.path, users.path, "/etc/site-tls/cert.pem", "/etc/site-tls/key.pem"],
        after=[known, described],
        name="The server",
    )
    repositories_made(begun=begun, name="Repositories are there")


def _client(site: Site, host: SiteHost, settings: BackupSettings) -> None:
    login, password = (
        _secret("login.secret", keys.login(site, host)),
        _secret("repository.secret", keys.repository(site, host)),
    )
    names: dict[str, Any] = {
        "settings": settings,
        "parts": parts(site, host),
        "repository": f"rest:https://{server(site).fqdn}:{PORT}/{host.name}/",
        "archive": site.of(ArchiveSettings, host.name).folder,
        "state": STATE,
        "login": login.path,
        "password": password.path,
    }
    directory(name="Its state", path=STATE, mode="711")
    if host.serves("store"):
        # The owner of mail makes the stage of mail.
        directory(
            name="What it knows of letters", path=f"{STATE}/mail", mode="700", user="vmail",
            group="vmail",
        )  # fmt: skip
    configure(
        program(LIB, _PROGRAM),
        check=Check(
            "cd {tree}" + "".join(
                f" && python3 -B -m roles.backup.{name} --help >/dev/null" for name in _MODULES
            ),
            tree=LIB,
        ),
        name="The program",
    )  # fmt: skip
    commands = ("site-backup", "site-restore", "site-restore-mail")
    configure(
        [static("backup", name, f"/usr/local/sbin/{name}", mode="755") for name in commands],
        name="Its commands",
    )
    configure([login, password], name="Its passwords")
    configure(
        [template("backup", f"{FOLDER}/client.toml", mode="600", **names)], name="Configuration"
    )
    units = {
        name: [template("backup", f"{UNITS}/{name}.{kind}", **names) for kind in KINDS]
        for name in _TIMED
    }
    by_the_clock(_TIMED, units, [settings.schedule, settings.watch_schedule])
