"""The role `addressbook`: the province's address book by LDAP, for mail programs (article 8).

A mail program searches `ldaps://mail.…`, the one name it knows, with its user's own password. What
it reaches is a slapd of the front's own (`site-addressbook.service`), never the directory: a copy
of what officials may know of each other, without a password, a hash or a state.

* `site-addressbook-mirror.timer` asks the directory as `cn=addressbook` and makes the copy say the
  same (`mirror.py`): units as a tree and their people below them (`entries.py`), by the very rules
  of the public directory. Names stand there with and without their diacritics.
* `site-addressbook-login.service` answers slapd's question who somebody is (`login.py`): it finds
  the account, as long as it may log in, and binds at the directory, whose policy counts and locks.
  Later questions of an open connection pass as long as the account may log in.

Why neither of what is usual: a proxy (`back-ldap`) shows the directory's own entries, flat, named
by numbers, and found with the right diacritics only; a replica (syncrepl) does so as well, and puts
hashes where the Internet knocks.
"""

from roles.addressbook.deploy import addressbook

__all__ = ["addressbook"]
