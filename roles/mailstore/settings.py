"""Settings of the role `mailstore`."""

import unicodedata
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, StringConstraints

from roles.common.settings import Duration, Settings, Size

_FolderName = Annotated[
    str,
    StringConstraints(pattern=r"^[^/$%*~\"\\{}#\s]([^/$%*~\"\\{}#\n]*[^/$%*~\"\\{}#\s])?$"),
    AfterValidator(lambda name: unicodedata.normalize("NFC", name)),
]


class MailstoreSettings(Settings):
    """Settings of the role `mailstore`."""

    role: ClassVar[str] = "mailstore"

    quota: Size = Field(default="2GiB", validate_default=True)
    """What a mailbox may hold whose directory entry has no `mailboxQuota`."""
    quota_trash_extra: Size = Field(default="100MiB", validate_default=True)
    """How much more Trash may hold, so that a full mailbox can be tidied by moving to Trash."""
    quota_grace: Size = Field(default="10MiB", validate_default=True)
    """By how much one last letter may exceed the quota. Larger letters to a nearly full mailbox
    are refused at RCPT, before they are accepted."""
    person_trash_keep: Duration = Field(default="30d", validate_default=True)
    """How long a letter stays in the Trash of a personal mailbox (regulation, article 8: rules for
    deleting). The mail of a departed person is left as it is."""
    person_junk_keep: Duration = Field(default="30d", validate_default=True)
    """How long a letter stays in the Junk of a personal mailbox (article 8)."""
    person_expunged_keep: Duration = Field(default="14d", validate_default=True)
    """How long a letter that its owner deleted for good can be brought back by the help desk
    (article 8). Does not count against the quota."""
    unit_trash_keep: Duration = Field(default="90d", validate_default=True)
    """The same for unit mailboxes: how long in Trash. Longer, for several people work in one, and
    who misses a letter need not be who deleted it."""
    unit_junk_keep: Duration = Field(default="30d", validate_default=True)
    """… how long in Junk."""
    unit_expunged_keep: Duration = Field(default="90d", validate_default=True)
    """… how long it can be brought back after it was deleted for good."""
    moved_keep: Duration = Field(default="30d", validate_default=True)
    """How long the old copy of a mailbox that was moved to another store stays on the old one, as
    `/var/vmail/.moved/people-1042-20261127T021500Z`. Nobody opens it."""
    units_folder: _FolderName = "Đơn vị"
    """The folder below which a person sees the unit mailboxes, each under the unit's name with its
    code in parentheses (article 3.1a)."""
    handover_folder: _FolderName = "Hộp thư bàn giao"
    """The folder below which a successor reads the mail of who departed, each under the person's
    name with that of the address in parentheses (article 8)."""
    units_refresh: Duration = Field(default="1min", validate_default=True)
    """How often a store asks the directory for new unit mailboxes, and for those to be handed over
    to a successor, and looks which unit mailboxes are full: members file nothing more into them."""
    auth_cache: Duration = Field(default="5min", validate_default=True)
    """How long a successful log-in, and what the directory said about the account, is remembered.
    What changes there counts at once nevertheless (`access_refresh`). While the directory is down,
    what was remembered goes on to count."""
    access_refresh: Annotated[Duration, Field(ge=1, le=30)] = Field(
        default="5s", validate_default=True
    )
    """How often stores and fronts ask every directory whether somebody's access changed: from 1 to
    30 seconds, with `accounts.lifecycle_refresh` together at most 30. A locked account is out, and
    what a member lost is out of reach, seconds later. A group that somebody joins and leaves again
    within that time goes unnoticed: a session that was opened in between reads its mailbox until it
    ends."""
    user_connections: int = Field(default=30, ge=5)
    """Connections of one account from one address, for each protocol."""
    sessions: int = Field(default=4000, ge=100)
    """IMAP sessions at a time on one store; about 3 MB of memory each, far less when idle."""
    logins: int = Field(default=8000, ge=100)
    """Client connections at a time on one front, for each protocol."""
    idle_hibernate: Duration = Field(default="30s", validate_default=True)
    """After how long an idle IMAP session gives its process back."""
    sieve_cpu: Duration = Field(default="30s", validate_default=True)
    """Processor time that an account's Sieve scripts may use in an hour before they are switched
    off."""
    sieve_redirects: int = Field(default=4, ge=0)
    """How many addresses one letter may be forwarded to by a Sieve script."""
    search_processes: int = Field(default=2, ge=1)
    """How many mailboxes are indexed for full-text search at a time."""
