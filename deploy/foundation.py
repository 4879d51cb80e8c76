"""What hosts need before their data comes back from the backup: `python -m deploy.restore` runs it.

The rest of `deploy/site.py` would fill an empty directory from the registry, with new passwords,
and let mail arrive before the mailboxes are there.
"""

from roles.backup import backup, backup_repositories
from roles.base import base
from roles.certificates import certificates
from roles.common.packages import needed_by
from roles.common.site import current_host, current_site, roles_of
from roles.database import database
from roles.directory import directory
from roles.mailstore.operations import vmail_user
from roles.mailstore.values import VMAIL_ID

roles = roles_of(current_host())

# Not of all roles: what takes mail comes when the data is there.
first = [role for role in roles if role in ("directory", "database", "backup")]
base(others=needed_by(first, current_site(), current_host()))
certificates()
# Their keys take time; meanwhile the rest is deployed.
begun = backup_repositories()
if "directory" in roles:
    directory()
if "database" in roles:
    database()
if current_host().serves("store"):
    # Without the rest of the role: it would let mail arrive.
    vmail_user(name="Owner of all mail", uid=VMAIL_ID)
if "backup" in roles:
    backup(begun=begun)
