"""Settings of the role `backup`."""

from typing import Annotated, ClassVar, Literal, Self

from cryptography import x509
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from roles.common.settings import Duration, Settings, Size

_Folder = Annotated[str, StringConstraints(pattern=r"^/[a-z0-9/._-]+[a-z0-9]$")]
_Calendar = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*:,./ ~-]+$")]


_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
_Url = Annotated[
    str,
    StringConstraints(
        pattern=r"^(sftp://[a-z0-9][a-z0-9._-]*@|s3:https://)[a-z0-9][a-z0-9.-]*(:[0-9]+)?/[A-Za-z0-9/._-]*[A-Za-z0-9]$"
    ),
]
_HostKey = Annotated[
    str, StringConstraints(pattern=r"^((ssh-|ecdsa-sha2-)[a-z0-9-]+ [A-Za-z0-9+/]+=*)?$")
]


def _certificates(text: str) -> str:
    """See that it is one certificate or several (PEM), or nothing at all."""
    if text:
        try:
            x509.load_pem_x509_certificates(text.encode())
        except ValueError as error:
            raise ValueError(f"is no certificate ({error}); expected certificates (PEM)") from None
        if "PRIVATE KEY" in text:
            raise ValueError("holds a private key; expected certificates (PEM)")
    return text


class Target(BaseModel):
    """A further place that holds backups, such as a second site."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: _Url
    """Where: `sftp://USER@HOST:PORT/FOLDER` (the port may be left out, the folder is an absolute
    path), or `s3:https://HOST/BUCKET/FOLDER`. Each host's repository is a folder below it. What
    opens it is in the secrets: `[backup_targets.NAME]` with `ssh_key`, or with `access_key_id` and
    `secret_access_key`."""
    host_key: _HostKey = ""
    """For SFTP: the server's public key, such as `ssh-ed25519 AAAA…`; no other one is believed."""
    authority: Annotated[str, AfterValidator(_certificates)] = ""
    """For S3 with a certificate that no public authority confirms: the certificate of the one that
    does (PEM; several, one behind the other). Then no other one is believed; by default those that
    Debian trusts are."""
    upload_limit: Size = Field(default="10MiB", validate_default=True)
    """How much the backup host sends there in a second at the most; `0B`: no limit."""
    stale: Duration = Field(default="2d", validate_default=True, ge=60)
    """A host without a new copy there for so long is an alarm; longer than `copy_schedule`."""
    prune: bool = True
    """Whether the backup host forgets there what the next four do not keep. `false` where nothing
    may be deleted with these credentials (object lock): then the place itself must see to it."""
    keep_daily: int = Field(default=30, ge=0)
    """Of so many days that have copies the last one each is kept there, for each host and part."""
    keep_weekly: int = Field(default=8, ge=0)
    """The same of weeks."""
    keep_monthly: int = Field(default=24, ge=0)
    """The same of months."""
    keep_yearly: int = Field(default=5, ge=0)
    """The same of years."""

    @model_validator(mode="after")
    def _server_known(self) -> Self:
        if self.url.startswith("sftp:") != bool(self.host_key):
            raise ValueError(
                f"host_key: {self.host_key!r}; expected the server's public key for sftp://, and "
                "none for s3:"
            )
        if self.authority and self.host_key:
            raise ValueError(
                "authority: found with sftp://; expected none: host_key says who is believed"
            )
        return self


class BackupSettings(Settings):
    """Backups: where they are kept, when they are made, what they may take."""

    role: ClassVar[str] = "backup"

    folder: _Folder = "/srv/restic"
    """Where the backup host keeps repositories, one folder a host."""
    schedule: _Calendar = "hourly"
    """When a host begins its backup, as systemd's OnCalendar: the time between two is what may be
    lost at the most (RPO)."""
    jitter: Duration = Field(default="15min", validate_default=True)
    """Each host begins up to so much later, always by the same time: not all send at once."""
    upload_limit: Size = Field(default="50MiB", validate_default=True)
    """How much a host sends in a second at the most; `0B`: no limit. restic counts in KiB."""
    niceness: int = Field(default=15, ge=0, le=19)
    """How far the backup stands back behind the host's own work (nice)."""
    disk_class: Literal["idle", "best-effort"] = "idle"
    """Its class at the disk (ionice): `idle` reads when nobody else does."""
    patience: Duration = Field(default="12h", validate_default=True, ge=60)
    """After this time a run is ended and counts as failed."""
    keep_hourly: int = Field(default=48, ge=1)
    """Of so many hours that have backups the last one each is kept, for each host and part."""
    keep_daily: int = Field(default=14, ge=0)
    """The same of days, by the province's clock."""
    keep_weekly: int = Field(default=8, ge=0)
    """The same of weeks, which begin on Monday."""
    keep_monthly: int = Field(default=12, ge=0)
    """The same of months."""
    keep_yearly: int = Field(default=2, ge=0)
    """The same of years."""
    stale: Duration = Field(default="4h", validate_default=True, ge=60)
    """A host's part without a new backup for so long is an alarm; longer than `schedule`,
    `jitter` and a backup together."""
    alone: Duration = Field(default="8h", validate_default=True, ge=60)
    """A host whose part has no new backup for so long writes to the postmaster itself: the backup
    host may be away. Longer than `stale`, by which the backup host tells it where it is there."""
    small_percent: int = Field(default=50, ge=0, le=99)
    """A backup that holds less than so much of the largest of the seven days before is an alarm,
    and is no reason to forget another one."""
    free_percent: int = Field(default=10, ge=0, le=99)
    """Less free room than that on the repositories' disk is an alarm."""
    growth_percent: int = Field(default=20, ge=0, le=99)
    """A host to whose repository more than so much of that disk is added within a day is shut out,
    once its first backup is whole: somebody may be filling the disk. `site-backup-keeper open HOST`
    lets it in again. 0: never. Between two times of `watch_schedule` the network must not be able
    to bring more than `free_percent`."""
    watch_schedule: _Calendar = "*:0/15"
    """When the backup host looks for alarms: an alarm is told so much later at the most."""
    prune_schedule: _Calendar = "*-*-* 12:30"
    """When it forgets what is not kept, and frees the space."""
    check_schedule: _Calendar = "Sat *-*-* 13:30"
    """When it reads a share of the data back."""
    check_shares: int = Field(default=8, ge=1, le=366)
    """In so many shares: after as many checks all has been read."""
    drill_schedule: _Calendar = "Sun *-*-* 01:30"
    """When it restores the last backup of every part into a scratch folder and compares. The disk
    of /var/lib needs room for the largest part."""
    unverified: Duration = Field(default="15d", validate_default=True, ge=60)
    """A part that no drill restored for so long is an alarm."""
    targets: dict[_Name, Target] = Field(default={})
    """Further places to which the backup host copies, by names of one's own:
    `[backup.targets.NAME]` with the keys below."""
    copy_schedule: _Calendar = "*-*-* 20:30"
    """When the backup host copies the last backup of every part there."""

    @model_validator(mode="after")
    def _told_once(self) -> Self:
        if self.alone <= self.stale:
            raise ValueError(f"alone: {self.alone} s; expected more than stale, {self.stale} s")
        return self
