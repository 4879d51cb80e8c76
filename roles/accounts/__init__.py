"""The registry becomes the directory: units, people, unit mailboxes and who may use them.

`inventories/ENV/registry` holds reviewed tables (articles 3.2, 8 and 10): CSV files in UTF-8, or
the sheets of `registry.xlsx`; the last two may be missing. `registry.py` names their columns, with
the Vietnamese headings and words that are accepted; so does the operations guide. A column in
brackets may be left out or empty.

`units.csv`
:   `code`: also the unit mailbox's address, by decision 51/2016 (article 3.1a): lower case, no
    diacritics; a subordinate unit is `parent.name`. `name`. `kind`: department, service-unit,
    district, commune, … `parent`: code of the unit above. [`head`]: ID of the person who answers
    for the unit mailbox and may do everything with it (article 12). [`phone`]. [`location`]: postal
    address. [`aliases`]: further addresses, separated by spaces. [`store`]: the store's alias.
    [`quota`]: such as `5GiB`. [`redirect`]: yes, if letters to the unit also go to its head.
    [`hidden`]: what the public directory leaves out. [`order`]: the place in it.

`people.csv`
:   `id`: the person's number, never given twice; names and addresses may change, it does not.
    `name`: family name first. `unit`: the unit's code. [`title`]. [`phone`]. [`address`]: the part
    before the `@`; by default it is made of the name and kept from then on. [`aliases`].
    [`store`]. [`quota`]. [`services`]: such as `imap webmail lmtp`. [`state`]: active, locked or
    departed. [`until`]: last day of service. [`successor`]: ID of the person who reads the mail
    of one who departed. [`hidden`], [`order`]: as above.

`delegations.csv`
:   `unit`, `person`, `right`: `read`, `file` (also file and delete; includes read) or `send` (as
    the unit), one or several separated by spaces. [`since`], [`until`]: first and last day. One
    becomes a member of nothing by being in a unit: rights on the unit mailbox are given here, or
    come with being its head.

`lists.csv`
:   Distribution lists. `address`: the part before the `@`. `name`. `contains`: `unit` (its people),
    `subtree` (also those of the units below), `mailboxes` (those of all these units), `heads` (of
    all these units) or `members`. `unit`: code, or `*` for the whole province. [`members`]: IDs of
    people, codes of units (their mailboxes), addresses of lists. [`posters`]: who may write:
    `anyone`, `site`, `members`, IDs, codes, addresses outside; by default `mta.list_posters`.
    [`owner`]: ID or code of who gets what cannot be delivered; by default the unit, else the
    postmaster. [`aliases`]. [`since`], [`until`]: as above. There is no moderation.

`domains.csv`
:   `domain`: a further mail domain, such as that of a province that merged; x@ there is x@ ours.
    [`since`], [`until`].

Whoever is removed from the files has departed: nothing is deleted, the address stays reserved.
Lists and domains that are removed end; a list's address stays reserved, save for another list.
Entries that the registry did not make are reported and left alone.
"""

from roles.accounts.deploy import accounts

__all__ = ["accounts"]
