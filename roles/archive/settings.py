"""Settings of the role `archive`."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from roles.common.settings import Duration, Settings

_Recipient = Annotated[str, StringConstraints(pattern=r"^age1[02-9ac-hj-np-z]{58}$")]
_Folder = Annotated[str, StringConstraints(pattern=r"^/[a-z0-9/._-]+[a-z0-9]$")]


class ArchiveSettings(Settings):
    """Mailboxes that departed are archived and, later on, destroyed (article 8)."""

    role: ClassVar[str] = "archive"

    folder: _Folder = "/var/lib/site-archive"
    """Where a store keeps archives, their catalogue and the certificates of what was destroyed."""
    recipients: tuple[_Recipient, ...] = ()
    """Public age keys that open archives besides the environment's own (`archive_identity` of its
    secrets), such as one whose identity lies in a safe."""
    archive_keep: Duration = Field(default="3650d", validate_default=True, ge=86400)
    """How long an archive is kept after it was made (article 8). What the directory says of a
    single mailbox (`mailboxRetainUntil`) counts more."""
    level: int = Field(default=9, ge=1, le=19)
    """How hard zstd compresses."""
    restore_folder: str = Field(default="Khôi phục", pattern=r"^[^/$%*~\"\\{}#]+$")
    """The folder below which restored letters appear in somebody's mailbox."""
