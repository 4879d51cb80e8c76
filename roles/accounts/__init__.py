"""The registry becomes the directory: units, people, unit mailboxes and who may use them.

`inventories/ENV/registry` holds three reviewed files (articles 3.2, 8 and 10), CSV in UTF-8 with a
heading line. A column in brackets may be left out or empty.

`units.csv`
:   `code`: also the unit mailbox's address, by decision 51/2016 (article 3.1a): lower case, no
    diacritics; a subordinate unit is `parent.name`. `name`. `kind`: department, service-unit,
    district, commune, … `parent`: code of the unit above. [`head`]: ID of the person who answers
    for the unit mailbox and may do everything with it (article 12). [`phone`]. [`aliases`]:
    further addresses, separated by spaces. [`store`]: the store's alias. [`quota`]: such as `5GiB`.

`people.csv`
:   `id`: the person's number, never given twice; names and addresses may change, it does not.
    `name`: family name first. `unit`: the unit's code. [`title`]. [`phone`]. [`address`]: the part
    before the `@`; by default it is made of the name and kept from then on. [`aliases`].
    [`store`]. [`quota`]. [`services`]: such as `imap webmail lmtp`. [`state`]: active or locked.

`delegations.csv`
:   `unit`, `person`, `right`: `read`, `file` (also file and delete; includes read) or `send` (as
    the unit), one or several separated by spaces. One becomes a member of nothing by being in a
    unit: rights on the unit mailbox are given here, or come with being its head.

Whoever is removed from the files is removed from the directory; the address stays reserved.
Entries that the registry did not make are reported and left alone.
"""

from roles.accounts.deploy import accounts

__all__ = ["accounts"]
