"""Settings of the role `mta`."""

from ipaddress import IPv4Network
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from roles.common.settings import Duration, Settings, Size

_Milter = Annotated[
    str, StringConstraints(pattern=r"^(unix:/[A-Za-z0-9/._-]+|inet:[A-Za-z0-9.-]+:\d+)$")
]
_DnsblSite = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9.-]+\.[a-z]+(=[0-9.;\[\]]+)?(\*-?\d+)?$"),
]


class MtaSettings(Settings):
    """Mail transport: Postfix on the groups `mx` and `front`."""

    role: ClassVar[str] = "mta"

    milters: tuple[_Milter, ...] = ("unix:/var/spool/MIMEDefang/mimedefang.sock",)
    """Mail filters that every letter passes on an mx, in this order; one that does not answer
    defers the letter (article 8). Empty lets mail pass unscanned: for tests only."""
    message_size: Size = Field(default="50MiB", validate_default=True)
    """Largest letter, as it is transmitted: attachments count 4/3 of their size."""
    address_extension: Literal["+", ""] = "+"
    """What divides an address from a word of its owner's choice (`anv+tin@…`); empty for none."""

    queue_lifetime: Duration = Field(default="5d", validate_default=True)
    """How long a letter is tried again before it is returned (RFC 5321, 4.5.4.1)."""
    bounce_lifetime: Duration = Field(default="1d", validate_default=True)
    """The same for returned letters: often their sender was forged."""
    delay_warning: Duration = Field(default="4h", validate_default=True)
    """After how long the sender is told that a letter is still waiting."""
    retry_first: Duration = Field(default="5min", validate_default=True)
    """Shortest time between two attempts for a letter; it doubles up to `retry_last`."""
    retry_last: Duration = Field(default="1h", validate_default=True)
    """Longest time between two attempts: so long it may take after an outage of the store."""
    free_space: Size = Field(default="1GiB", validate_default=True)
    """Below this much free space for the queue new mail is refused with 452; at least 1.5 times
    `message_size`."""
    outbound_concurrency: int = Field(default=10, ge=1, le=100)
    """Connections to one foreign domain at the same time."""
    store_concurrency: int = Field(default=20, ge=1, le=100)
    """LMTP connections to one store at the same time."""
    dane: bool = False
    """Verify foreign servers by DANE (RFC 7672). Only where every resolver of the site validates
    DNSSEC and is reached over a trusted network."""
    minimum_tls: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """Oldest TLS that is spoken with anyone; a server that has none of it on port 25 is spoken
    to in clear, as one without TLS."""

    spf: Literal["reject", "mark"] = "reject"
    """What happens to a letter that its sender's SPF record disowns."""
    own_sender_outside: Literal["reject", "accept"] = "reject"
    """What happens on port 25 to a sender of the site's own domain: such mail has to come by
    submission. `accept` where forwarders abroad keep the sender."""
    bare_newlines: Literal["reject", "normalize"] = "reject"
    """What happens on port 25 to a line that ends in a lone LF: `normalize` repairs it, for senders
    whose programs are broken. In neither case does it end a letter (SMTP smuggling)."""
    require_reverse_dns: bool = False
    """Refuse servers whose address has no name. Many small agencies have none, and SpamAssassin
    scores it."""
    pregreet_wait: Duration = Field(default="6s", validate_default=True)
    """How long an unknown server waits for the greeting: one that speaks first is refused, as most
    spam robots do. Remembered for a day."""
    deep_tests: bool = False
    """Test unknown servers' SMTP beyond the greeting. Each is told once to come again, which delays
    its first letter."""
    dnsbl_sites: tuple[_DnsblSite, ...] = ()
    """DNS block lists with optional weights, such as `'zen.spamhaus.org*3'`; empty for a site
    without Internet, or whose resolver the lists do not answer."""
    dnsbl_threshold: int = Field(default=3, ge=1)
    """Sum of weights from which a server is refused."""

    client_connections: int = Field(default=30, ge=1)
    """Connections from one address at the same time, on any port."""
    client_connection_rate: int = Field(default=300, ge=0)
    """New connections a minute from one address; 0 for no limit, here and below."""
    client_message_rate: int = Field(default=600, ge=0)
    """Letters a minute from one address."""
    client_recipient_rate: int = Field(default=1200, ge=0)
    """Recipients a minute from one address."""
    client_login_rate: int = Field(default=60, ge=0)
    """Attempts to log in a minute from one address, on ports 465 and 587."""
    unlimited_networks: tuple[IPv4Network, ...] = ()
    """Networks without the limits above: agencies behind one address."""
    list_posters: Literal["anyone", "site", "members"] = "site"
    """Who may write to a distribution list that does not say so itself: everybody, also from
    outside; who has a mailbox here; who is in the list."""
    recipients_per_message: int = Field(default=200, ge=1, le=50000)
    """Recipients of one letter by submission (article 13: no spam is sent)."""
    recipients_per_hour: int = Field(default=600, ge=0)
    """Recipients an hour of one official, on each front (article 13); 0 for no limit."""
    recipients_per_day: int = Field(default=3000, ge=1)
    """Recipients a day of one official, on each front (article 13)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if 2 * self.free_space < 3 * self.message_size:
            raise ValueError(
                f"free_space is {self.free_space} bytes; expected at least 1.5 times message_size, "
                f"{self.message_size * 3 // 2}"
            )
        if self.retry_first > self.retry_last:
            raise ValueError("retry_first is longer than retry_last; expected it to be shorter")
        if not self.delay_warning < self.queue_lifetime:
            raise ValueError("delay_warning is not shorter than queue_lifetime; expected it to be")
        return self
