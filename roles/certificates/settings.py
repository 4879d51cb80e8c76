"""Settings of the role `certificates`."""

from pathlib import PurePosixPath
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from roles.common.settings import Duration, Settings


class CertificatesSettings(Settings):
    """Settings of the role `certificates`."""

    role: ClassVar[str] = "certificates"

    validity: Duration = Field(default="397d", validate_default=True)
    """How long a host's certificate is valid. Clients refuse more than 398 days."""
    renew_before: Duration = Field(default="60d", validate_default=True)
    """A deployment renews a certificate that has less than this left."""
    addresses: bool = False
    """Whether a certificate also names the host's address; the lab is used by address."""
    issuer: Literal["site", "external"] = "site"
    """Who keeps the host's certificate: the site's authority, or another program on the host, such
    as an ACME client. Then the site's authority signs the first one only, so that daemons start."""
    further_authorities: tuple[str, ...] = ()
    """Files in the environment's folder with certificates (PEM) of further authorities that hosts
    trust among themselves: a public one, or the site's former one while its key is replaced."""

    @field_validator("further_authorities")
    @classmethod
    def _inside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if PurePosixPath(name).name != name or not name.endswith(".pem"):
                raise ValueError(
                    f"{name!r} is not a file in the environment's folder; expected 'NAME.pem'"
                )
        return value

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if self.renew_before >= self.validity:
            raise ValueError(
                f"renew_before ({self.renew_before // 86400}d) is not less than validity "
                f"({self.validity // 86400}d); expected less, or every run would renew"
            )
        return self
