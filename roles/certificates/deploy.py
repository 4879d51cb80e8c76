"""The role `certificates`, step by step."""

from pyinfra.api.deploy import deploy

from roles.certificates.authority import Authority, Subject
from roles.certificates.facts import FOLDER
from roles.certificates.operations import host_certificate, host_key, trusted
from roles.certificates.settings import CertificatesSettings
from roles.common.errors import SiteError
from roles.common.files import Check, ConfigFile, configure, directory, template
from roles.common.services import service
from roles.common.site import Site, current_host, current_site
from roles.common.users import group

_UNITS = "/etc/systemd/system"


@deploy("Certificates")
def certificates() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    settings = site.of(CertificatesSettings, host.name)
    authority = Authority.of(site)
    publish(site, authority)

    group(group="site-tls", name="The group of those who read the key")
    directory(path=FOLDER, name="Folder")
    directory(path=f"{FOLDER}/reload.d", name="Folder of what acts on a new certificate")
    bundle = authority.pem + further_authorities(site, settings)
    configure(
        [ConfigFile(f"{FOLDER}/ca.pem", bundle.encode())],
        check=Check(f"openssl storeutl -noout -certs {{{FOLDER}/ca.pem}}"),
        name="Authorities that hosts trust among themselves",
    )
    system = "/usr/local/share/ca-certificates/site-ca.crt"
    installed = configure([ConfigFile(system, authority.pem.encode())], name="Authority's file")
    trusted(pem=authority.pem, after=[installed], name="Authority in the system's trust store")

    # Before the certificate, so that the first one is noticed as well.
    reload = [
        template("certificates", f"{_UNITS}/site-tls-reload.path"),
        template("certificates", f"{_UNITS}/site-tls-reload.service"),
    ]
    units = configure(reload, name="Units that let daemons read a new certificate")
    service(
        "site-tls-reload.path",
        config=[file.path for file in reload],
        after=[units],
        name="Watch for a new certificate",
    )
    host_key(name="Host's key")
    host_certificate(
        authority=authority,
        subject=Subject(host.names, (host.address,) if settings.addresses else ()),
        settings=settings,
        name="Host's certificate",
    )


def publish(site: Site, authority: Authority) -> None:
    """Leave the authority's certificate where tools on this machine find it."""
    path = site.state / "ca.pem"
    if not path.exists() or path.read_text() != authority.pem:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(authority.pem)


def further_authorities(site: Site, settings: CertificatesSettings) -> str:
    """The certificates that the setting `further_authorities` names.

    Raises:
        SiteError: a file is not there, or holds none.
    """
    text = ""
    for name in settings.further_authorities:
        path = site.folder / name
        content = path.read_text() if path.exists() else ""
        if "-----BEGIN CERTIFICATE-----" not in content:
            raise SiteError(
                f"{site.folder / 'site.toml'}: certificates.further_authorities: {path} "
                f"{'holds no certificate' if content else 'not found'}; expected certificates (PEM)"
            )
        text += content.rstrip("\n") + "\n"
    return text
