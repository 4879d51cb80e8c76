"""Units, people and mailboxes alone: `make accounts-plan ENV=…`, `make accounts ENV=…`.

On a directory host: one of them makes the registry's changes, the others follow.
"""

from roles.accounts import accounts
from roles.common.site import current_host, roles_of

if "accounts" in roles_of(current_host()):
    accounts()
