"""`outside1` of the lab that the environment variables ENV and LAB_INSTANCE name."""

import os

from roles.common.site import load
from tests.lab.outside.site import OUTSIDE, with_outside

_site = with_outside(load(os.environ.get("ENV", "local")))
_keys = _site.state / "ssh"

outside = [
    (
        f"@site/{OUTSIDE}",
        {
            "site": _site,
            "ssh_user": "root",
            "ssh_hostname": _site.hosts[OUTSIDE].address,
            "ssh_key": str(_keys / "id_ed25519"),
            "ssh_known_hosts_file": str(_keys / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
        },
    )
]
