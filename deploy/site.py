"""The whole site: `pyinfra inventories/ENV/inventory.py deploy/site.py`.

Each host gets the roles that its groups switch on, in the order in which they need each other.
"""

from roles.accounts import accounts
from roles.addressbook import addressbook
from roles.archive import archive
from roles.backup import backup, backup_repositories
from roles.base import base
from roles.certificates import certificates
from roles.common.packages import needed_by
from roles.common.site import current_host, current_site, roles_of
from roles.database import database
from roles.directory import directory
from roles.filtering import filtering
from roles.mailstore import mailstore
from roles.mta import mta
from roles.publicdirectory import publicdirectory
from roles.signing import signing
from roles.webmail import webmail

roles = roles_of(current_host())

base(others=needed_by(roles, current_site(), current_host()))
certificates()
# Their keys take time; meanwhile the rest is deployed.
begun = backup_repositories()
if "directory" in roles:
    directory()
if "accounts" in roles:
    accounts()
if "database" in roles:
    database()
if "filtering" in roles:
    filtering()
if "signing" in roles:
    signing()
if "mta" in roles:
    mta()
if "mailstore" in roles:
    mailstore()
if "archive" in roles:
    archive()
if "webmail" in roles:
    webmail()
if "publicdirectory" in roles:
    publicdirectory()
if "addressbook" in roles:
    addressbook()
if "backup" in roles:
    backup(begun=begun)
