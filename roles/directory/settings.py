"""Settings of the role `directory`."""

from typing import ClassVar

from pydantic import Field, field_validator

from roles.common.settings import Duration, Settings, Size
from roles.common.site import ROOT


class DirectorySettings(Settings):
    """OpenLDAP: units, people, mailboxes, and the password policy."""

    role: ClassVar[str] = "directory"

    map_size: Size = Field(default="8GiB", validate_default=True, ge=2**27)
    """Upper limit of the database (mdb's memory map). Disk is used only as entries come; 20,000
    people need about 200 MiB."""
    audit_map_size: Size = Field(default="16GiB", validate_default=True, ge=2**27)
    """Upper limit of the audit log's database."""
    audit_kept: Duration = Field(default="730d", validate_default=True, ge=86400)
    """How long every change to the directory stays in the audit log (articles 13 and 15)."""
    log_level: str = Field(
        default="stats",
        validate_default=True,
        pattern=r"^(none|(stats|sync|config)( (stats|sync))*)$",
    )
    """What slapd writes into the journal: `stats` is one line an operation."""
    log_burst: int = Field(default=10_000, ge=100)
    """Lines that slapd may write into the journal in 30 s; what exceeds them is dropped."""
    argon2_memory: Size = Field(default="19MiB", validate_default=True, ge=7 * 2**20)
    """Memory that hashing a password takes (Argon2id; the default follows OWASP's table)."""
    argon2_passes: int = Field(default=2, ge=1)
    """Passes over that memory."""
    argon2_lanes: int = Field(default=1, ge=1)
    """Parallel lanes."""
    generated_hash_memory: Size = Field(default="256KiB", validate_default=True, ge=2**16)
    """Memory that hashing a generated password takes, in one pass: that of a service (190 random
    bits), and the first one of a person (78). Little, because nobody guesses them, thousands are
    hashed at an import, and services log in all day; what people choose is hashed by the directory,
    with `argon2_memory`."""
    password_length: int = Field(default=12, ge=8)
    """Shortest password that is accepted, in bytes of UTF-8 (article 13)."""
    forbidden_words: list[str] = Field(default=[])
    """Words that no password is made of, besides those that the role brings along
    (`roles/directory/files/passwords`): in proper spelling, such as 'bưởi da xanh'. Refused as
    well: the same without diacritics or spaces, backwards, and with a number or a year behind."""
    forbidden_lists: list[str] = Field(default=[])
    """Files of such words, one a line in UTF-8; paths below the project's root."""
    password_history: int = Field(default=5, ge=0)
    """So many former passwords may not be used again."""
    password_age: Duration = Field(default="0d", validate_default=True)
    """After which time a password must be changed; `0d`: never, as today's guidelines advise
    (NIST SP 800-63B) where passwords are long."""
    password_warning: Duration = Field(default="14d", validate_default=True)
    """How long before that the webmail leads to the form at the log-in."""
    password_change_first: bool = False
    """Whether a first password must be changed before anything else works. A mail client cannot do
    that, so switch it on only where everybody begins in the webmail. A one-time password of the
    help desk must be changed in any case."""
    onetime_valid: Duration = Field(default="3d", validate_default=True, ge=3600)
    """How long a one-time password of the help desk lets its owner choose a new one (article 9)."""
    lockout_failures: int = Field(default=10, ge=3)
    """Wrong passwords, within `lockout_window`, after which an account is locked."""
    lockout_window: Duration = Field(default="15min", validate_default=True, ge=1)
    """Wrong passwords older than this are forgotten."""
    lockout_duration: Duration = Field(default="15min", validate_default=True, ge=1)
    """How long the lock holds."""
    delay_first: Duration = Field(default="1s", validate_default=True, ge=0)
    """After a wrong password no log-in to that account is tried for so long; each further one
    doubles the time. `0s`: no delay."""
    delay_longest: Duration = Field(default="1min", validate_default=True, ge=0)
    """The delay grows no further than this."""

    @field_validator("forbidden_lists")
    @classmethod
    def _readable(cls, value: list[str]) -> list[str]:
        for name in value:
            if not (ROOT / name).is_file():
                raise ValueError(f"{name!r} is not there; expected a file below the project's root")
            try:
                (ROOT / name).read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{name!r}: {error}; expected a file in UTF-8") from error
        return value
