"""The role `webmail`: Roundcube at the one public name, on every front.

nginx answers HTTPS, PHP runs as a user of its own, and settings and sessions are in PostgreSQL,
so that fronts are interchangeable. Mail is read and sent through this host's own login proxy and
submission with the user's password; the address book, the identities and the password are the
directory's.
"""

from roles.webmail.deploy import webmail

__all__ = ["webmail"]
