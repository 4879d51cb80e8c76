"""Mailboxes: Dovecot as the backend on `store`, and as the login proxy on `front`.

A front asks the directory where an account's mailbox is (`mailHost`) and passes the session on; on
a host that is both, the same configuration opens the mailbox itself. A store takes letters by LMTP,
files them by Sieve, searches them without regard to diacritics, and shares unit mailboxes with
those whom the directory names.
"""

from roles.mailstore.deploy import mailstore

__all__ = ["mailstore"]
