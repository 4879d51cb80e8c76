"""The file by which hosts reach further targets of backups: see `targets.py`."""

import json
import re
from collections.abc import Iterable
from typing import Any

from roles.backup import keys
from roles.backup.settings import BackupSettings, Target
from roles.common.errors import SiteError
from roles.common.secrets import TargetSecrets
from roles.common.site import Site, SiteHost

_KEEPS = ("daily", "weekly", "monthly", "yearly")
_SFTP = re.compile(r"sftp://(?P<login>[^:/]+)(?::(?P<port>\d+))?(?P<path>/.+)")


def text(site: Site, names: Iterable[str], hosts: Iterable[SiteHost]) -> str:
    """The content of the file: secret.

    Args:
        site: the environment.
        names: of targets, as the settings have them.
        hosts: whose repositories it opens.

    Raises:
        SiteError: there is no such target, or its credentials are not among the secrets.
    """
    known, hosts = site.of(BackupSettings).targets, list(hosts)
    found = {}
    for name in names:
        if name not in known:
            expected = ", ".join(sorted(known)) or "none is set in backup.targets"
            raise SiteError(f"{name}: no further target of backups; expected one of: {expected}")
        found[name] = _described(site, name, known[name], hosts)
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _described(site: Site, name: str, target: Target, hosts: list[SiteHost]) -> dict[str, Any]:
    own = site.secrets.backup_targets.get(name, TargetSecrets())
    credentials = {key: getattr(own, key).get_secret_value() for key in TargetSecrets.model_fields}
    sftp = _SFTP.fullmatch(target.url)
    needed = ["ssh_key"] if sftp else ["access_key_id", "secret_access_key"]
    if missing := [key for key in needed if not credentials[key]]:
        raise SiteError(
            f"{site.environment}: the secrets miss {', '.join(missing)} in "
            f"[backup_targets.{name}]; expected what opens {target.url}"
        )
    ssh, environment, url = {}, {}, target.url
    if sftp:
        login, port = sftp["login"], sftp["port"] or "22"
        url = f"sftp:{login}:{sftp['path']}"
        address = login.partition("@")[2]
        place = address if port == "22" else f"[{address}]:{port}"
        ssh = {
            "to": f"-p {port} {login}", "known": f"{place} {target.host_key}\n",
            "key": credentials["ssh_key"].strip() + "\n",
        }  # fmt: skip
    else:
        environment = {
            "AWS_ACCESS_KEY_ID": credentials["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": credentials["secret_access_key"],
        }
    return {
        "url": url, "ssh": ssh, "environment": environment, "authority": target.authority,
        "passwords": {host.name: keys.copy(site, name, host) for host in hosts},
        "upload_limit": -(-target.upload_limit // 1024), "stale": target.stale,
        "prune": target.prune,
        # The backup host copies the last backup once a run: hours are not kept apart.
        "keep": {"hourly": 0, **{period: getattr(target, f"keep_{period}") for period in _KEEPS}},
    }  # fmt: skip
