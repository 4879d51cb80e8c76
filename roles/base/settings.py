"""Settings of the role `base`."""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from roles.common.settings import Duration, Settings, Size

_User = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
_Server = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]+$")]
_Zone = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")]
_Time = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
PublicKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^(file:\S+|(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+)"
        r" [A-Za-z0-9+/=]{40,}( [^\n]*)?)$"
    ),
]
"""A key, or where a file of it is: `roles.base.access.public_keys` reads it."""


class Admin(BaseModel):
    """A table `[base.admins.NAME]`: a person who may log in on the hosts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(pattern=r"^[^:,\n]+$")]
    """The person's name."""
    keys: list[PublicKey] = Field(min_length=1)
    """Public SSH keys, as in `id_ed25519.pub`, or `file:PATH` of a file with one, below the
    project's root; `{state}` in it is the environment's folder in `.state`, or a lab's in `.lab`.
    There is no password."""
    sudo: bool = True
    """Whether the person may become root."""


class BaseSettings(Settings):
    """Settings of the role `base`."""

    role: ClassVar[str] = "base"

    timezone: _Zone = "Asia/Ho_Chi_Minh"
    """Time zone of logs and reports, a name of the IANA database."""
    time_servers: tuple[_Server, ...] = ()
    """NTP servers; empty keeps Debian's own. A network without Internet names its own."""
    admins: Mapping[_User, Admin] = Field(default={})
    """Persons who may log in, by user name. One who is taken out of here is locked out."""
    root_keys: tuple[PublicKey, ...] = ()
    """Public SSH keys with which an operator deploys as root, besides those that the host's
    installation left in `/root/.ssh/authorized_keys`; also as `file:PATH`."""
    ssh_forwarding: bool = False
    """Whether SSH may forward TCP connections; a jump host needs it."""
    banner: str = ""
    """Text shown before an SSH login; empty shows none."""
    security_upgrades: bool = True
    """Install Debian's security upgrades every day, unattended (regulation, article 7)."""
    upgrade_time: _Time = "02:30"
    """Local time of the upgrades; spread over the half hour that follows."""
    reboot: Literal["never", "when-needed"] = "never"
    """Whether an upgrade that needs it reboots the host. With two hosts a group, give each its own
    `reboot_time`."""
    reboot_time: _Time = "04:00"
    """Local time of that reboot."""
    journal_size: Size = Field(default="2GiB", validate_default=True)
    """How much the journal may keep on disk. The journal is the mail log (articles 13 and 15)."""
    journal_free: Size = Field(default="1GiB", validate_default=True)
    """How much the journal leaves free on its file system."""
    journal_age: Duration = Field(default="365d", validate_default=True)
    """How long the journal keeps an entry at the most, where the size allows it."""
    sysctl: Mapping[str, str | int] = Field(default={})
    """Kernel parameters besides, or instead of, those of `templates/base/etc/sysctl.d`."""

    @field_validator("admins")
    @classmethod
    def _persons(cls, value: Mapping[str, Admin]) -> Mapping[str, Admin]:
        if "root" in value:
            raise ValueError("'root' is no person; expected its keys in base.root_keys")
        return value

    @field_validator("sysctl")
    @classmethod
    def _parameters(cls, value: Mapping[str, str | int]) -> Mapping[str, str | int]:
        for key, number in value.items():
            if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_-]+)+", key) or "\n" in str(number):
                raise ValueError(
                    f"{key!r} is not a kernel parameter; expected one such as 'vm.swappiness'"
                )
        return value
