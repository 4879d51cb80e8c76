"""The role `database`: PostgreSQL for the webmail and for SpamAssassin's Bayes store.

The first host of the group serves; there is no replica. Mail does not depend on it: while it is
down, letters are scanned without Bayes and the webmail says so. Each client host reaches its own
database and no other, over TLS, with a password that the server knows as a SCRAM verifier only.
"""

from roles.database.deploy import database

__all__ = ["database"]
