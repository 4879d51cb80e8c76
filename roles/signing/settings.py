"""Settings of the role `signing`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from roles.common.settings import Settings

_Selector = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
    ),
]


class SigningSettings(Settings):
    """Signatures of outgoing mail (DKIM) on the group `mx`."""

    role: ClassVar[str] = "signing"

    selector: _Selector = Field(default="mail", max_length=63)
    """Under which name the public key stands in the DNS: `SELECTOR._domainkey.DOMAIN`. A new key
    gets a new one, so that letters on their way can still be verified by the old."""
    dmarc_policy: Literal["none", "quarantine", "reject"] = "none"
    """What `make dns` says that others shall do with letters in the domain's name that neither SPF
    nor DKIM confirms. Begin with `none` and read the reports."""
