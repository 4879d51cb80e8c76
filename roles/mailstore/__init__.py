"""Mailboxes: Dovecot as the backend on `store`, and as the login proxy on `front`.

A front asks the directory where an account's mailbox is (`mailHost`) and passes the session on; on
a host that is both, the same configuration opens the mailbox itself. A store takes letters by LMTP,
files them by Sieve, searches them without regard to diacritics, and shares unit mailboxes with
those whom the directory names.

A shared mailbox is seen as "Sở Nội vụ (snv)" below `units_folder`, in every program: `site-units`
writes the name into the map by which Dovecot lists, and Dovecot looks the account up by the address
in parentheses. So a unit that is renamed shows its new name at the next log-in, what each reader
has read stays, and a filter or a program that still says the former name, or `Đơn vị/snv`, is led
to the same folders.
"""

from roles.mailstore.deploy import mailstore

__all__ = ["mailstore"]
