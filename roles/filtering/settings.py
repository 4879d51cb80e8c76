"""Settings of the role `filtering`."""

import unicodedata
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from roles.common.settings import Duration, Settings, Size
from roles.common.site import ROOT

_Extension = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,10}$")]
_Url = Annotated[str, StringConstraints(pattern=r"^(https?|file)://\S+$")]
_Rules = Annotated[str, StringConstraints(pattern=r"^(package|channel|(https?|file)://\S+)$")]
_Mark = Annotated[
    str,
    StringConstraints(pattern=r"^\w+( \w+)*$"),
    AfterValidator(lambda mark: unicodedata.normalize("NFC", mark).lower()),
]
_Line = Annotated[str, StringConstraints(pattern=r"^[^\n]+$")]

_PROGRAMS = (
    "ade adp bat chm cmd com cpl dll exe hlp hta ins isp jar js jse lnk mde msc msi msp mst pif"
    " ps1 reg scr sct shb sys vb vbe vbs vxd wsc wsf wsh"
)


class FilteringSettings(Settings):
    """Settings of the role `filtering`."""

    role: ClassVar[str] = "filtering"

    tag_score: float = Field(default=5.0, gt=0)
    """From this score on a letter is marked as spam; Sieve then files it into Junk."""
    reject_score: float = Field(default=15.0, gt=0)
    """From this score on a letter from outside is refused while its sender waits."""
    outgoing_reject_score: float = Field(default=8.0, gt=0)
    """From this score on a letter from the site's own users is refused: no spam leaves the site
    (regulation, article 13)."""
    refused_attachments: list[_Extension] = _PROGRAMS.split()
    """File name extensions of attachments that are refused, also within a ZIP archive: programs and
    scripts, which no document needs. Empty refuses none."""
    secret_marks: tuple[_Mark, ...] = ("tuyệt mật", "tối mật", "mật")
    """Degrees of secrecy. A letter that an official submits is refused when it is marked with one
    (regulation, articles 5 and 13): in the subject, in the name of an attachment, or in a line of
    its own in the text or in a Word or OpenDocument file. Scanned pages and PDF are not read. Empty
    refuses none."""
    encrypted_archives: Literal["accept", "refuse"] = "accept"
    """What to do with archives and documents that a password protects, which nobody can scan."""
    unscannable_archives: Literal["accept", "refuse"] = "refuse"
    """What to do with an archive that exceeds the limits below, so that a part is not scanned."""
    max_scan_size: Size = Field(default="400MiB", validate_default=True, le=1900 * 2**20)
    """How much of an unpacked letter is scanned in all; at most '1900MiB'."""
    max_archive_depth: int = Field(default=16, ge=2, le=100)
    """How deep archives and forwarded letters may be nested."""
    max_archive_files: int = Field(default=10000, ge=100)
    """How many files an archive may hold."""

    official_signatures: bool = True
    """Whether ClamAV's own signatures are used; without them only those of the next settings."""
    signature_mirror: str = ""
    """Host name of a private mirror of ClamAV's signatures, for a network without Internet; empty
    asks ClamAV's servers."""
    signature_urls: list[_Url] = Field(default=[])
    """Further signature files that freshclam fetches, such as 'https://mirror.example/own.ndb'."""
    local_signatures: list[str] = Field(default=[])
    """Signature files from this repository that are copied to the hosts; paths below its root."""
    signature_checks: int = Field(default=12, ge=1, le=50)
    """How often a day freshclam asks for new signatures."""

    network_tests: bool = True
    """Whether SpamAssassin asks DNS: block lists, SPF, DKIM. Off where DNS does not reach the
    Internet."""
    rules_source: _Rules = "channel"
    """From where SpamAssassin's rules are renewed each day: 'channel' (SpamAssassin's own, over the
    Internet), 'package' (never: those of the Debian package), or the address of an archive of
    rules, beside which lies its checksum with the ending '.sha512'."""
    compile_rules: bool = True
    """Compile the rules to native code: each letter takes a third less time, but the host needs a C
    compiler."""
    own_rules: list[_Line] = Field(default=[])
    """Further lines of SpamAssassin's configuration, such as rules and scores of the site's own."""
    auto_learn: bool = True
    """Whether clear cases teach the Bayes store by themselves. Without, only users teach."""
    spam_scan_size: Size = Field(default="512KiB", validate_default=True)
    """How much of a letter, from its beginning, SpamAssassin reads: longer letters are hardly ever
    spam, and their text stands at the beginning. clamd always reads all."""
    bayes_words: int = Field(default=1_000_000, ge=150_000)
    """How many words the Bayes store keeps: those met least recently are forgotten. About 200 bytes
    each."""
    bayes_letters: Duration = Field(default="180d", validate_default=True)
    """How long the Bayes store knows that it has learnt a letter already."""

    workers: int | None = Field(default=None, ge=2, le=200)
    """How many letters are scanned at once. By default twice the host's processors, four times with
    `network_tests`, which mostly wait; as far as memory allows (150 MB each)."""
    queue: int = Field(default=100, ge=10, le=128)
    """How many letters may wait for a worker before senders are told to try again."""
    scan_timeout: Duration = Field(default="120s", validate_default=True)
    """Time after which a letter's scan is given up, and its sender told to try again. Postfix
    waits 300 s for a milter: this plus 120 s must stay below."""

    @field_validator("local_signatures")
    @classmethod
    def _present(cls, value: list[str]) -> list[str]:
        for name in value:
            if not (ROOT / name).is_file():
                raise ValueError(f"{name!r} is not there; expected a file below the project's root")
            if not name.endswith((".ndb", ".hsb", ".hdb", ".ldb", ".yar", ".cvd", ".cld")):
                raise ValueError(f"{name!r}: expected a ClamAV signature file, such as 'own.ndb'")
        return value

    @model_validator(mode="after")
    def _sensible(self) -> "FilteringSettings":
        if not (self.official_signatures or self.signature_urls or self.local_signatures):
            raise ValueError(
                "no source of virus signatures: expected official_signatures = true, "
                "signature_urls or local_signatures"
            )
        if self.reject_score < self.tag_score or self.outgoing_reject_score < self.tag_score:
            raise ValueError("reject_score and outgoing_reject_score: expected at least tag_score")
        if not 30 <= self.scan_timeout <= 170:  # noqa: PLR2004 - documented above
            raise ValueError("scan_timeout: expected '30s' to '170s'")
        return self

    @property
    def downloads(self) -> bool:
        """Whether freshclam has anything to do."""
        return self.official_signatures or bool(self.signature_urls)
