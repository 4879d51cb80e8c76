"""How a host gets its key and its certificate."""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from io import BytesIO

from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state

from roles.certificates.authority import Authority, Subject
from roles.certificates.facts import FOLDER, HostTls, TrustStoreHolds
from roles.certificates.settings import CertificatesSettings
from roles.common.errors import SiteError
from roles.common.plan import say

KEY_MODE = "640 root site-tls"


@operation()
def host_key() -> Generator[StringCommand, None, None]:
    """The host's own private key, made on the host; one that is there stays."""
    found = host.get_fact(HostTls)
    draft, target = f"{FOLDER}/.key.pem.new", f"{FOLDER}/key.pem"
    own = f"chown root:site-tls {draft} && chmod 640 {draft} && mv -T {draft} {target}"
    if not found.public_key:
        say(f"{target}: a new key")
        yield StringCommand(
            "umask 077; openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
            f" -out {draft} && {own}"
        )
    elif found.key_mode != KEY_MODE:
        say(f"{target}: {found.key_mode} -> {KEY_MODE}")
        yield StringCommand(f"chown root:site-tls {target} && chmod 640 {target}")


@operation()
def host_certificate(
    authority: Authority, subject: Subject, settings: CertificatesSettings
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """The host's certificate, signed here for the key that the host has.

    Args:
        authority: who signs.
        subject: whom it shall name.
        settings: how long it is valid, when it is renewed, and whether another issuer keeps it.
    """
    found = host.get_fact(HostTls)
    if settings.issuer == "external" and found.certificate:
        return
    now = datetime.now(UTC)
    fault: str | None = "there is no key"
    if found.public_key:
        expiring = now + timedelta(seconds=settings.renew_before)
        fault = authority.fault(found.certificate, found.public_key, subject, expiring)
    if fault is None:
        return
    target, draft = f"{FOLDER}/cert.pem", f"{FOLDER}/.cert.pem.new"
    say(f"{target}: a new certificate for {subject}: {fault}")
    if not found.public_key:
        if state.is_executing:
            raise SiteError(f"{host.name}: {FOLDER}/key.pem cannot be read; expected a key")
        yield StringCommand("true")  # so that the plan counts it; the key is made by then
        return
    validity = timedelta(seconds=settings.validity)
    signed = authority.sign(found.public_key, subject, validity, now)
    yield FileUploadCommand(BytesIO(signed.encode()), draft)
    yield StringCommand(
        f"chown root:root {draft} && chmod 644 {draft}"
        f" && openssl verify -CAfile {FOLDER}/ca.pem {draft} >&2 && mv -T {draft} {target}"
        f" || {{ rm -f {draft}; false; }}"
    )


@operation()
def trusted(pem: str, after: list[OperationMeta]) -> Generator[StringCommand, None, None]:
    """The authority in the bundle that every TLS client of the host reads by default.

    Args:
        pem: its certificate.
        after: the operation that writes it below `/usr/local/share/ca-certificates`.
    """
    # The last line holds the end of the signature: no other certificate has it.
    holds = host.get_fact(TrustStoreHolds, line=pem.strip().splitlines()[-2])
    if not holds or (not state.is_executing and any(meta.will_change for meta in after)):
        say("the system's trust store: anew")
        yield StringCommand("update-ca-certificates >/dev/null")
