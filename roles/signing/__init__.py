"""The role `signing`: what leaves the site carries its signature (DKIM, RFC 6376).

OpenDKIM is Postfix' last milter on an `mx`: it signs what the scanners have left of a letter, so
that whoever gets it sees who sent it and that nobody has changed it. It is asked for what comes
from the site itself: by the ports for its own hosts and for those who have logged in, or written on
this host; never for what comes in by port 25, whatever that says of its author. When it does not
answer, the site's own mail waits: nothing leaves unsigned.

The key is the environment's secret `dkim_key`, the same on every mx; its public half stands in the
DNS, as `make dns` prints it.
"""

from roles.signing.deploy import signing

__all__ = ["signing"]
