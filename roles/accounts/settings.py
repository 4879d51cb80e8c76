"""Settings of the role `accounts`."""

from typing import ClassVar, Literal

from pydantic import Field

from roles.common.settings import Settings, Size

UnitKind = Literal[
    "department", "service-unit", "district", "commune", "party", "association", "enterprise"
]
"""Kinds of unit that article 4 names."""
Service = Literal["imap", "pop3", "sieve", "submission", "webmail", "lmtp"]
"""Services that a mailbox may use."""


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
    person_quota: Size = Field(default="2GiB", validate_default=True, ge=2**20)
    """What a personal mailbox holds, unless the registry's column `quota` says otherwise."""
    unit_quota: Size = Field(default="5GiB", validate_default=True, ge=2**20)
    """What a unit mailbox holds, unless the registry says otherwise."""
    services: tuple[Service, ...] = ("imap", "pop3", "sieve", "submission", "webmail", "lmtp")
    """Services of a new person's mailbox; `lmtp` receives."""
    postmaster_unit: str = "vpubnd.tttinhoc"
    """Code of the unit whose mailbox receives the system's own mail, as `site.postmaster` and
    `site.role_addresses`: the informatics centre (article 9)."""
    initial_hash_memory: Size = Field(default="1MiB", validate_default=True, ge=2**16)
    """Memory that hashing an initial password takes (Argon2id). Little, because these passwords
    are random, 78 bits, and thousands are hashed at an import; what people choose themselves is
    hashed by the directory, with `directory.argon2_memory`."""
