"""Who gets in: the operators' keys, and the refusal to lock them out."""

from collections.abc import Sequence
from ipaddress import ip_address

from pydantic import TypeAdapter, ValidationError
from pyinfra.context import host

from roles.base.facts import SshSource
from roles.base.settings import BaseSettings, PublicKey
from roles.common.errors import SiteError
from roles.common.files import ConfigFile, template
from roles.common.site import ROOT, Site, current_site

KEYS = "/etc/ssh/authorized_keys.d"
"""One file of public keys for each person; root's alone to write."""


_KEY: TypeAdapter[str] = TypeAdapter(PublicKey)
_FILE = "file:"


def public_keys(keys: Sequence[str], site: Site) -> list[str]:
    """The keys of a setting, each in full: what stands in files is read.

    Raises:
        SiteError: a file is not there, or holds no public key.
    """
    result = []
    for key in keys:
        if not key.startswith(_FILE):
            result.append(key)
            continue
        path = ROOT / key.removeprefix(_FILE).replace("{state}", str(site.state))
        try:
            text = path.read_text(encoding="utf-8").strip()
            # A private key, or the name of a further file, is none.
            result.append(_KEY.validate_python("" if text.startswith(_FILE) else text))
        except OSError as error:
            raise SiteError(
                f"base: {key}: {path}: {error.strerror}; expected a file with a public SSH key"
            ) from None
        except (UnicodeDecodeError, ValidationError):
            # Without what it holds: that may be the private one.
            raise SiteError(
                f"base: {key}: {path} holds no public key; expected one line such as "
                "'ssh-ed25519 AAAA… name'"
            ) from None
    return result


def key_files(settings: BaseSettings) -> tuple[list[ConfigFile], list[str]]:
    """The key files of the admins, and of root where the environment names keys for it.

    Returns:
        The files, and the paths where none shall be.
    """
    site = current_site()
    keys = {name: public_keys(admin.keys, site) for name, admin in settings.admins.items()}
    if settings.root_keys:
        keys["root"] = public_keys(settings.root_keys, site)
    files = [
        template("base", f"{KEYS}/{name}", source="/etc/ssh/authorized_keys", keys=keys[name])
        for name in sorted(keys)
    ]
    return files, [] if settings.root_keys else [f"{KEYS}/root"]


def refuse_lock_out() -> None:
    """Refuse a firewall that would not let this very connection in again.

    Raises:
        SiteError: the operator is not in a management network.
    """
    site = current_site()
    source = host.get_fact(SshSource)
    networks = site.table.networks.management
    if source and not any(ip_address(source) in network for network in networks):
        raise SiteError(
            f"{site.folder / 'site.toml'}: site.networks.management: {host.name} sees this "
            f"connection come from {source}, which is in none of "
            f"{', '.join(str(network) for network in networks)}; expected a network that holds it, "
            "or the firewall would lock you out"
        )
