"""Settings of the role `accounts`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from roles.common.settings import Duration, Settings, Size

UnitKind = Literal[
    "department", "service-unit", "district", "commune", "party", "association", "enterprise"
]
"""Kinds of unit that article 4 names."""
Service = Literal["imap", "pop3", "sieve", "submission", "webmail", "lmtp"]
"""Services that a mailbox may use."""
AddressPolicy = Literal["given-initials", "full-name", "given.family"]
"""How a personal address is made of a name."""


class UnitRules(BaseModel):
    """What a unit has decided for its people and for those of the units below it (article 16)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    person_quota: Size | None = Field(default=None, ge=2**20)
    """What a personal mailbox holds there."""
    unit_quota: Size | None = Field(default=None, ge=2**20)
    """What a unit mailbox holds there."""
    services: tuple[Service, ...] | None = None
    """Services of a person's mailbox there."""


class AccountsSettings(Settings):
    """The registry: units, people and delegations become entries of the directory."""

    role: ClassVar[str] = "accounts"

    registry: str = "registry"
    """Folder of the registry's files, seen from the environment's own."""
    kinds: tuple[UnitKind, ...] = Field(
        default=("department", "service-unit", "district", "commune"), min_length=1
    )
    """Kinds of unit that have mailboxes here. Those listed must (article 4); `party`,
    `association` and `enterprise` may register, once they are added."""
    address_policy: AddressPolicy = "given-initials"
    """How the address of a new person is made of the name (article 3.1b). Nguyễn Văn An becomes
    `annv` (`given-initials`), `nguyenvanan` (`full-name`) or `an.nguyenvan` (`given.family`); a
    second one `annv2`. Addresses that people have stay as they are when this changes."""
    person_quota: Size = Field(default="2GiB", validate_default=True, ge=2**20)
    """What a personal mailbox holds, unless the registry's column `quota` says otherwise."""
    unit_quota: Size = Field(default="5GiB", validate_default=True, ge=2**20)
    """What a unit mailbox holds, unless the registry says otherwise."""
    services: tuple[Service, ...] = ("imap", "pop3", "sieve", "submission", "webmail", "lmtp")
    """Services of a new person's mailbox; `lmtp` receives."""
    unit_rules: dict[str, UnitRules] = Field(default={})
    """Rules of an agency's own over the three settings above, by the unit's code (article 16):
    `[accounts.unit_rules.stttt]` with `person_quota`, `unit_quota` or `services`. They hold for the
    units below it, too; the nearest rule counts, and the registry's columns above all."""
    postmaster_unit: str = "vpubnd.tttinhoc"
    """Code of the unit whose mailbox receives the system's own mail, as `site.postmaster` and
    `site.role_addresses`: the informatics centre (article 9)."""
    alias_keep: Duration = Field(default="365d", validate_default=True, ge=0)
    """How long a former address still receives after its owner got another one."""
    reservation_keep: Duration = Field(default="3650d", validate_default=True, ge=86400)
    """How long an address that nobody has any more is given to nobody else."""
    departed_keep: Duration = Field(default="365d", validate_default=True, ge=86400)
    """How long the mail of a person who departed, or of a unit that was closed, is kept
    (article 8)."""
    removal_limit: float = Field(default=0.05, ge=0, le=1)
    """Share of the mailboxes in service that one run may lock or let depart; more needs the number
    that the plan shows (`REMOVALS=…`), in case half a spreadsheet is missing. Up to three never
    need it."""
    notice_days: tuple[Annotated[int, Field(ge=1, le=90)], ...] = (14, 7, 1)
    """How many days before its end somebody is told by letter of a password, a service, a
    delegation or the archiving of a predecessor's mail: once for each number. Empty: never."""
    notice_hour: int = Field(default=7, ge=0, le=20)
    """From which hour of the day those letters are sent, by the province's clock."""
    lifecycle_refresh: Duration = Field(default="10s", validate_default=True, ge=1, le=20)
    """How often the directory hosts look for what time alone brings: service that ends,
    delegations that begin or end, former addresses. With `mailstore.access_refresh` at most 30
    seconds: access ends within a minute."""
