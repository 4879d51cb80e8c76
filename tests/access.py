"""Waiting for `site-access`, which ends sessions and log-ins that the directory allows no longer.

Whoever opens a session while it has yet to act upon a change may have it ended.
"""

import shlex

from roles.common.site import Site
from tests import remote
from tests.clients import Account

WITHIN = 60
"""Seconds after which a change counts at the latest."""
_KNOWN = """
import sqlite3, sys, time
who, change, seconds = (word.lower() for word in sys.argv[1:])
path = "/var/lib/site-access/known.sqlite"
wanted = "SELECT change FROM account WHERE %s = ?" % ("dn" if "," in who else "user")
end = time.monotonic() + float(seconds)
while True:
    file = sqlite3.connect(path)
    (directories,), = file.execute("SELECT count(*) FROM directory")
    known = [row[0] for row in file.execute(wanted, [who])]
    file.close()
    if len(known) == (directories if change else 0) and all(one >= change for one in known):
        break
    if time.monotonic() > end:
        sys.exit(f"knows of {who} the change {known}; expected {change or 'none'}")
    time.sleep(0.1)
"""
"""Waits until a host has acted upon a change, as every directory has it; an empty one: the entry is
gone."""


def settle(site: Site, who: Account | str) -> None:
    """Wait until every store and front has acted upon the last change of an entry.

    That of whoever is new is a change of whom nobody knows yet: the directory notes the first
    log-in.

    Args:
        site: the site.
        who: an account, or the DN of an entry; that one may be gone.

    Raises:
        AssertionError: a host has not within a minute.
    """
    name = who if isinstance(who, str) else who.address
    base, scope = (name, "base") if isinstance(who, str) else (site.base_dn, "sub")
    condition = "(objectClass=*)" if isinstance(who, str) else f"(mail={name})"
    found = remote.shell(
        site, site.group("directory")[0].address,
        f"ldapsearch {remote.LDAP} -LLL -b {shlex.quote(base)} -s {scope} '{condition}' entryCSN"
        " 2>/dev/null | sed -n 's/^entryCSN: //p'",
    ).strip()  # fmt: skip
    assert found or isinstance(who, str), f"{name}: no entry of the directory"
    for host in site.group("store", "front"):
        words = shlex.join((name, found, str(WITHIN)))
        remote.shell(site, host.address, f"python3 - {words}", stdin=_KNOWN)
