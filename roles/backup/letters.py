"""Letters of the programs of backups to the postmaster, through an mx of the site."""

import smtplib
import ssl
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

CONFIG = Path("/etc/site-backup/letters.toml")
_PORT = 10025


class NotTakenError(Exception):
    """No mx took a letter; the message says why."""


@dataclass(frozen=True)
class Letters:
    """Who writes to whom, and by which way: what the role wrote into a file."""

    sender: str
    recipient: str
    relays: tuple[str, ...]
    """Full names of mx hosts, the first to be asked first."""
    timezone: str
    authority: str
    certificate: str
    key: str

    @classmethod
    def read(cls, path: Path = CONFIG) -> Self:
        """The file of the role."""
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "relays": tuple(values["relays"])})

    def alarm(self, what: str, alarms: Sequence[str], hint: str, now: datetime) -> EmailMessage:
        """A letter that tells of alarms; of their end, where there are none.

        Args:
            what: whose backups, in Vietnamese, such as `Sao lưu`.
            alarms: a line each.
            hint: where to look, in Vietnamese.
            now: with a time zone.
        """
        message = EmailMessage()
        message["From"], message["To"] = self.sender, self.recipient
        message["Date"], message["Message-ID"] = format_datetime(now), make_msgid()
        message["Auto-Submitted"] = "auto-generated"
        at = now.astimezone(ZoneInfo(self.timezone))
        if alarms:
            message["Subject"] = f"{what}: {len(alarms)} cảnh báo"
            lines = [f"Lúc {at:%H:%M %d/%m/%Y}, việc sao lưu có những cảnh báo sau:", ""]
            lines += [f"- {line}" for line in alarms]
            lines += ["", hint]
        else:
            message["Subject"] = f"{what}: đã bình thường"
            lines = [f"Lúc {at:%H:%M %d/%m/%Y}, mọi bản sao lưu đều bình thường trở lại."]
        message.set_content("\n".join(lines) + "\n")
        return message

    def post(self, message: EmailMessage) -> None:
        """Hand a letter to the first mx that takes it.

        Raises:
            NotTakenError: none did.
        """
        faults = []
        try:
            context = ssl.create_default_context(cafile=self.authority)
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise NotTakenError(f"{self.certificate}: {error}") from None
        for relay in self.relays:
            try:
                with smtplib.SMTP(relay, _PORT, timeout=60) as client:
                    client.starttls(context=context)
                    client.send_message(message)
            except (OSError, smtplib.SMTPException) as error:
                faults.append(f"{relay}: {error}")
            else:
                return
        raise NotTakenError(f"the letter to {self.recipient} was not taken: {'; '.join(faults)}")
