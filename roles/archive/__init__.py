"""The end of a mailbox's life on a `store`: archived when its time has come, then destroyed.

A mailbox departs by the registry and is kept for `accounts.departed_keep`, open to a successor
(role `mailstore`). When the directory's `mailboxRetainUntil` has come, `site-archive.timer` brings
it, folders, letters, flags, dates and Sieve scripts, into one file that only the site's key opens
(`archive_identity` of the environment's secrets, which is on no host), and takes it off the store
(`program.py` says in which steps). After `archive_keep` the archive is destroyed, and a certificate
says what was destroyed, when, and why.

A later `mailboxRetainUntil` keeps either for longer (`deploy.archive hold`). Operators list,
search, restore and destroy with `python -m deploy.archive`.
"""

from roles.archive.deploy import archive

__all__ = ["archive"]
