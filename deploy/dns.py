"""Prints what the public DNS must hold for an environment: `python -m deploy.dns --env production`.

The lines are those of a zone file (RFC 1035). Texts are split into strings of at most 255 bytes, as
a zone has them; a provider's web form takes them joined, without the quotes. The addresses are
those of `site.toml`: behind a translation of addresses put the public ones in their place. Reverse
names (PTR) are up to the provider of the addresses.
"""

import argparse
import sys
from dataclasses import dataclass

from roles.common.errors import SiteError
from roles.common.site import Site, load
from roles.signing.records import dmarc_record, key_names, key_record, quoted


@dataclass(frozen=True)
class Record:
    """One line of a zone."""

    name: str
    """Full, without the dot at its end."""
    kind: str
    value: str

    def __str__(self) -> str:
        """As a zone file has it."""
        return f"{self.name}.\tIN\t{self.kind}\t{self.value}"


_FOUND_BY = {
    "_imaps": (0, 993),
    "_pop3s": (10, 995),
    "_submissions": (0, 465),
    "_submission": (10, 587),
    "_sieve": (0, 4190),
}
"""Priority and port of what mail programs find by SRV (RFC 6186, RFC 8314)."""


def records(site: Site) -> list[Record]:
    """All that the world must know of the site."""
    result = [Record(site.domain, "MX", f"10 {mx.fqdn}.") for mx in site.group("mx")]
    result += [Record(mx.fqdn, "A", mx.address) for mx in site.group("mx")]
    result += [Record(site.mail_name, "A", front.address) for front in site.group("front")]
    result += [
        Record(site.domain, "TXT", quoted("v=spf1 mx -all")),
        # Who returns a letter says no more than its own name.
        *(Record(mx.fqdn, "TXT", quoted("v=spf1 a -all")) for mx in site.group("mx")),
        *(Record(name, "TXT", quoted(key_record(site))) for name in key_names(site)),
        Record(f"_dmarc.{site.domain}", "TXT", quoted(dmarc_record(site))),
    ]
    result += [
        Record(f"{name}._tcp.{site.domain}", "SRV", f"{priority} 1 {port} {site.mail_name}.")
        for name, (priority, port) in _FOUND_BY.items()
    ]
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dns", description=__doc__)
    parser.add_argument("--env", required=True, help="a folder in inventories/")
    options = parser.parse_args(arguments)
    try:
        for record in records(load(options.env)):
            print(record)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
