"""Settings of the role `webmail`."""

from typing import ClassVar, Literal

from pydantic import Field

from roles.common.settings import Duration, Settings, Size


class WebmailSettings(Settings):
    """Roundcube on nginx and PHP, on the group `front`."""

    role: ClassVar[str] = "webmail"

    product: str = "Thư điện tử công vụ"
    """What the webmail calls itself: title of its pages and of the log-in form."""
    incident_contact: str = ""
    """Whom a user turns to, such as a telephone number; shown at the log-in and on every error page
    (article 11). Empty: the postmaster's address."""
    session_idle: Duration = Field(default="30min", validate_default=True, ge=300)
    """After how long without a sign of life from the browser a session ends; an open page gives
    one every minute."""
    failed_logins: int = Field(default=5, ge=1)
    """Wrong passwords for one account, within a minute, after which the webmail asks to wait. The
    directory locks the account besides (`directory.lockout_failures`)."""
    application_passwords: bool = True
    """Whether officials make passwords for single applications, such as the mail program of a
    telephone. Off: those that there are go on to count until they are revoked."""
    logins_per_minute: int = Field(default=60, ge=1)
    """Log-ins from one client address; a whole agency may sit behind one."""
    logins_burst: int = Field(default=60, ge=1)
    """So many more at once, before further ones are refused with 429."""
    requests_per_second: int = Field(default=50, ge=1)
    """Requests to the application from one client address."""
    workers: int = Field(default=20, ge=2)
    """PHP processes of one front: so many requests at a time. All fronts together stay below
    `database.webmail_connections`."""
    worker_memory: Size = Field(default="256MiB", validate_default=True, ge=128 * 2**20)
    """What one request may use; a letter with attachments is held in it several times over."""
    worker_requests: int = Field(default=1000, ge=1)
    """After so many requests a PHP process is replaced."""
    request_time: Duration = Field(default="5min", validate_default=True, ge=30)
    """Longest request: sending a large letter waits for the virus scanner."""
    upload_kept: Duration = Field(default="12h", validate_default=True, ge=3600)
    """How long an attachment of a letter that was never sent is kept."""
    remote_images: bool = True
    """Whether a user may load images of a letter from the Internet, after being asked. Where false,
    the browser is told never to."""
    hsts: Duration = Field(default="365d", validate_default=True)
    """How long browsers refuse to speak to the webmail without TLS (RFC 6797)."""
    page_rows: int = Field(default=50, ge=10, le=200)
    """Letters on one page of a list; users may change it."""
    autosave: Literal["1min", "3min", "5min", "10min"] = "3min"
    """How often a letter that is being written is saved to the drafts; users may change it."""
    recipients_shown: int = Field(default=20, ge=1)
    """From so many open recipients on the webmail suggests Bcc."""
