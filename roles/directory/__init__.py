"""The directory: OpenLDAP with units, people, mailboxes, policies and an audit log (article 3.2).

Everything else asks it: Postfix whether a recipient exists, Dovecot who may log in and where a
mailbox lies, the webmail for its address book. It is configured by cn=config, answers over TLS
only, and replicates between all hosts of the group. `files/schema.ldif` describes the tree.
"""

from roles.directory.deploy import directory

__all__ = ["directory"]
