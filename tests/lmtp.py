"""LMTP and the quota service of a mailbox's store, asked from an mx: nobody else may connect."""

import base64
import re

from roles.common.site import Site
from tests import clients, remote

_TLS = (
    "timeout 60 openssl s_client -quiet -verify_return_error -CAfile /etc/site-tls/ca.pem"
    " -verify_hostname {name} -connect {name}:{port}"
)
_AT_ONCE = """
import smtplib, ssl, sys
name, recipient, count = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/site-tls/ca.pem")
clients = [smtplib.LMTP(name, 24, local_hostname="mx.example") for _ in range(int(count))]
for client in clients:
    client.starttls(context=context)
    client.ehlo()
    client.mail("")
for client in clients:
    print(client.rcpt(recipient)[0])
for client in clients:
    client.quit()
"""
_CERTIFICATE = " -cert /etc/site-tls/cert.pem -key /etc/site-tls/key.pem"


def deliver(site: Site, recipient: str, content: bytes = b"") -> list[str]:
    """Hand a letter straight to the store, past all filters; the answers to RCPT and the content.

    Args:
        site: the site.
        recipient: the primary address.
        content: the letter; without one only RCPT is asked.
    """
    lines = ["LHLO mx.example", "MAIL FROM:<>", f"RCPT TO:<{recipient}>"]
    dialogue = "\r\n".join(lines).encode() + b"\r\n"
    if content:
        body = re.sub(rb"\r?\n", b"\r\n", content).removesuffix(b"\r\n") + b"\r\n"
        dialogue += b"DATA\r\n" + re.sub(rb"(?m)^\.", b"..", body) + b".\r\n"
    dialogue += b"QUIT\r\n"
    name = clients.store_name(site, recipient)
    answers = _ask(site, name, 24, dialogue, " -starttls lmtp")
    replies = [line for line in answers.splitlines() if re.match(r"\d{3} ", line)]
    return replies[replies.index("250 2.1.0 OK") + 1 : -1]


def rcpt_at_once(site: Site, recipient: str, count: int) -> list[int]:
    """The codes that RCPT has on so many connections, each of which stays open for all others.

    Args:
        site: the site.
        recipient: the primary address.
        count: how many connections.
    """
    said = remote.shell(
        site,
        clients.address_of(site, "mx"),
        f"python3 - {clients.store_name(site, recipient)} {recipient} {count}",
        stdin=_AT_ONCE,
    )
    return [int(line) for line in said.split()]


def quota_action(site: Site, recipient: str, size: int) -> str:
    """What the quota service advises Postfix to answer at RCPT."""
    attributes = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "recipient": recipient,
        "size": str(size),
    }
    query = "".join(f"{name}={value}\n" for name, value in attributes.items()) + "\n"
    name = clients.store_name(site, recipient)
    answer = _ask(site, name, 12341, query.encode(), _CERTIFICATE, wait=True)
    (action,) = re.findall(r"^action=(.*)$", answer, re.MULTILINE)
    return str(action)


def quota_service_without_certificate(site: Site) -> str:
    """What the quota service says to a host that does not show a certificate."""
    return _ask(site, site.store_names[0], 12341, b"request=smtpd_access_policy\n\n", "", wait=True)


def _ask(
    site: Site, name: str, port: int, dialogue: bytes, options: str, *, wait: bool = False
) -> str:
    text = base64.b64encode(dialogue).decode()
    options += " -no_ign_eof" if wait else ""
    command = f"{_TLS.format(name=name, port=port)}{options} 2>&1"
    shell = f"base64 -d | {command}"
    if wait:
        # The service keeps the connection open for the next question: it is closed once the
        # answer's last line, an empty one, has come.
        shell = (
            "gate=$(mktemp -u) && mkfifo $gate"
            f" && (base64 -d; cat $gate) | {command} | (sed '/^$/q'; : >$gate);"
            " rm $gate"
        )
    return remote.shell(site, clients.address_of(site, "mx"), shell, check=False, stdin=text)
