"""What PostgreSQL keeps of a password: a SCRAM-SHA-256 verifier (RFC 5803), made and checked here.

So a password never reaches the database host in clear, and whether one is set already can be seen
without logging in.
"""

import base64
import hashlib
import hmac
import re
import secrets

_FORM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_ITERATIONS = 4096
"""PostgreSQL's own default; the passwords are 32 random characters, which no iteration helps."""


def verifier(password: str, salt: bytes | None = None, iterations: int = _ITERATIONS) -> str:
    """The verifier of an ASCII password, as `pg_authid.rolpassword` holds it.

    Args:
        password: in clear.
        salt: random by default.
        iterations: of PBKDF2.
    """
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(x).decode() for x in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def matches(password: str, known: str) -> bool:
    """Whether a verifier is that of a password."""
    form = _FORM.fullmatch(known)
    if form is None:
        return False
    expected = verifier(password, base64.b64decode(form[2]), int(form[1]))
    return hmac.compare_digest(expected, known)
