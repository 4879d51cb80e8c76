"""The role `mta`: Postfix, between the Internet, the fronts, the filters and the stores.

On an `mx` it answers the Internet on port 25 and the site's own hosts on port 10025, asks the
directory whom it may take mail for, hands every letter to the milters, and delivers by LMTP to the
store that the directory names. On a `front` it takes what officials write, on ports 465 and 587,
and passes it on to an mx. A host of both groups does both in one Postfix, without the detour.
"""

from roles.mta.deploy import mta

__all__ = ["mta"]
