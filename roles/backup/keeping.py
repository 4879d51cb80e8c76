"""What the server does with its repositories: see `keeper.py`."""

from typing import Any

from roles.backup.settings import BackupSettings
from roles.backup.timers import KINDS, UNITS, by_the_clock
from roles.common.files import Check, configure, directory, program, static, template
from roles.common.packages import SLAPD, Needed
from roles.common.services import masked
from roles.common.site import SiteHost

LIB = "/usr/local/lib/site-backup-keeper"
STATE = "/var/lib/site-backup-keeper"
CONFIG = "/etc/site-backup/keeper.toml"
_COMMAND = "/usr/local/sbin/site-backup-keeper"
_PROGRAM = (
    "backup/copying.py", "backup/drills.py", "backup/growth.py", "backup/journal.py",
    "backup/keeper.py", "backup/letters.py", "backup/locks.py", "backup/moments.py",
    "backup/records.py", "backup/refusals.py", "backup/repositories.py", "backup/retention.py",
    "backup/stages.py", "backup/status.py", "backup/targets.py",
)  # fmt: skip
JOBS = {
    "watch": "Alarms of backups",
    "prune": "Backups that are not kept any more go",
    "check": "A share of the backups is read back",
    "copy": "Backups are copied to further targets",
    "drill": "Backups are restored into a scratch folder and compared",
}
"""What runs by a timer of its own."""


READERS = SLAPD | Needed(["slapd-contrib", "postgresql-client-17"])
"""What reads dumps in a drill."""


def keeping(
    host: SiteHost,
    settings: BackupSettings,
    *,
    user: str,
    password: str,
    parts: dict[str, list[str]],
) -> None:
    """Deploy the keeper.

    Args:
        host: the backup host.
        settings: its settings.
        user: owner of the repositories.
        password: file of the maintenance password.
        parts: what each host holds.
    """  # fmt: skip
    if not host.serves("directory"):
        masked(name="No directory runs here", unit="slapd.service")
    names: dict[str, Any] = {
        "settings": settings, "owner": user, "password": password, "parts": parts,
        "state": STATE, "command": _COMMAND,
    }  # fmt: skip
    directory(name="State of the keeper", path=STATE, mode="700", user=user, group=user)
    configure(
        program(LIB, _PROGRAM),
        check=Check("cd {tree} && python3 -B -m roles.backup.keeper --help >/dev/null", tree=LIB),
        name="The keeper",
    )
    configure([static("backup", "site-backup-keeper", _COMMAND, mode="755")], name="Its command")
    configure(
        [template("backup", CONFIG, mode="600", user=user, **names)],
        name="Configuration of the keeper",
    )
    named = {f"site-backup-{job}": job for job in JOBS}
    schedules = {job: getattr(settings, f"{job}_schedule") for job in JOBS}
    units = {
        name: [
            template(
                "backup", f"{UNITS}/{name}.{kind}", source=f"{UNITS}/site-backup-job.{kind}",
                job=job, what=JOBS[job], schedule=schedules[job], **names,
            )
            for kind in KINDS
        ]
        for name, job in named.items()
    }  # fmt: skip
    what = {name: JOBS[job] for name, job in named.items()}
    by_the_clock(what, units, schedules.values())
