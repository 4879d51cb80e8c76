"""Secrets: generated once, encrypted for the operators, never shown."""

from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import SecretStr

from roles.common import secrets
from roles.common.errors import SiteError
from roles.common.secrets import Secrets, TargetSecrets
from roles.common.site import ROOT


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"# an operator\n{identity}\n")
    (tmp_path / "recipients.txt").write_text(f"# operators\n{identity.to_public()}\n")
    monkeypatch.setenv("AGE_IDENTITY", str(tmp_path / "key.txt"))
    return tmp_path


def test_what_is_encrypted_is_read_back(environment: Path) -> None:
    made = Secrets()
    target = secrets.encrypt(environment, made)
    assert made.webmail_database_password.get_secret_value().encode() not in target.read_bytes()
    assert secrets.load(environment, None) == made


def test_what_opens_further_targets_of_backups_is_kept_and_never_shown(environment: Path) -> None:
    own = TargetSecrets(ssh_key=SecretStr("-----BEGIN KEY-----\nx\n-----END KEY-----\n"))
    made = Secrets(backup_targets={"second": own, "third": TargetSecrets()})
    secrets.encrypt(environment, made)
    assert secrets.load(environment, None) == made
    assert own.ssh_key.get_secret_value() in made.values()
    # An empty one would stand between any two letters.
    assert "" not in made.values()


def test_none_are_none(environment: Path) -> None:
    assert secrets.load(environment, None) is None


def test_a_wrong_key_is_named(environment: Path) -> None:
    secrets.encrypt(environment, Secrets())
    (environment / "key.txt").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(SiteError, match=r"secrets\.age: cannot be decrypted"):
        secrets.load(environment, None)


def test_a_missing_key_is_named(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.encrypt(environment, Secrets())
    monkeypatch.delenv("AGE_IDENTITY")
    with pytest.raises(SiteError, match="AGE_IDENTITY is not set"):
        secrets.load(environment, None)


def test_an_incomplete_file_names_what_it_misses_and_is_completed(environment: Path) -> None:
    whole = Secrets()
    text = "".join(
        line for line in whole.to_toml().splitlines(True) if not line.startswith("webmail_database")
    )
    key = pyrage.x25519.Recipient.from_str(
        (environment / "recipients.txt").read_text().splitlines()[1]
    )
    (environment / "secrets.age").write_bytes(pyrage.encrypt(text.encode(), [key]))
    with pytest.raises(SiteError, match="misses webmail_database_password"):
        secrets.load(environment, None)
    completed = secrets.load(environment, None, complete=True)
    assert completed is not None
    assert completed.webmail_session_key == whole.webmail_session_key


def test_a_secret_without_a_user_is_named_and_left_out(environment: Path) -> None:
    whole = Secrets()
    text = f"{whole.to_toml()}former_password = 'visible'\n"
    key = pyrage.x25519.Recipient.from_str(
        (environment / "recipients.txt").read_text().splitlines()[1]
    )
    (environment / "secrets.age").write_bytes(pyrage.encrypt(text.encode(), [key]))
    with pytest.raises(SiteError, match="holds former_password, which nothing uses") as caught:
        secrets.load(environment, None)
    assert "visible" not in str(caught.value)
    assert secrets.load(environment, None, complete=True) == whole
    (environment / "secrets.toml").write_text(text)
    assert secrets.load(environment, environment) == whole


def test_every_secret_has_a_user() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("roles", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".j2") and path.name != "secrets.py"
    )
    assert not {name for name in Secrets.model_fields if f"secrets.{name}" not in code}


def test_the_lab_makes_its_own_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = secrets.load(tmp_path, state)
    assert first is not None
    assert not state.exists(), "to read leaves nothing behind"
    secrets.keep(state, first)
    assert secrets.load(tmp_path, state) == first
    file = state / "secrets.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(state.iterdir()) == [file]


def test_the_labs_own_are_completed(tmp_path: Path) -> None:
    whole = Secrets()
    secrets.keep(tmp_path, whole)
    file = tmp_path / "secrets.toml"
    lines = [
        line
        for line in file.read_text().splitlines(True)
        if not line.startswith("webmail_database")
    ]
    file.write_text("".join(lines))
    completed = secrets.load(tmp_path, tmp_path)
    assert completed is not None
    assert completed.webmail_session_key == whole.webmail_session_key
    secrets.keep(tmp_path, completed)
    assert secrets.load(tmp_path, tmp_path) == completed


def test_what_nothing_needs_any_more_is_dropped(tmp_path: Path) -> None:
    whole = Secrets()
    file = tmp_path / "secrets.toml"
    file.write_text(f"doveadm_password = 'former'\n{whole.to_toml()}")
    assert secrets.load(tmp_path, tmp_path) == whole
    secrets.keep(tmp_path, whole)
    assert "former" not in file.read_text()


def test_the_labs_file_is_refused_without_being_quoted(tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text("webmail_database_password = ['visible']\n")
    with pytest.raises(SiteError, match="is not a set of secrets") as caught:
        secrets.load(tmp_path, tmp_path)
    assert "visible" not in str(caught.value)


def test_nothing_shows_a_secret() -> None:
    made = Secrets()
    assert made.webmail_database_password.get_secret_value() not in repr(made) + str(made)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: str = "") -> str:
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden
    ).decode()


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (lambda: pem(rsa.generate_private_key(65537, 1024)), "has 1024 bits"),  # noqa: S505
        (lambda: pem(ec.generate_private_key(ec.SECP256R1())), "is no RSA key"),
        (lambda: pem(rsa.generate_private_key(65537, 2048), "x"), "is no private key"),
        (lambda: "MIIBIjANBgkq", "is no private key"),
        (lambda: "", "is no private key"),
    ],
    ids=["short", "elliptic", "encrypted", "garbage", "empty"],
)
def test_a_key_that_signs_nothing_others_take_is_named(
    environment: Path, key: Callable[[], str], fault: str
) -> None:
    wrong = key()
    made = Secrets().model_copy(update={"dkim_key": SecretStr(wrong)})
    target = secrets.encrypt(environment, made)
    with pytest.raises(SiteError, match=rf"{target}: dkim_key: {fault}.*; expected an RSA") as said:
        secrets.load(environment, None)
    assert "2048 to 4096 bits" in str(said.value)
    assert not wrong or wrong not in str(said.value)


def test_a_key_as_opendkim_genkey_makes_it_is_taken(environment: Path) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    made = Secrets().model_copy(update={"dkim_key": SecretStr(key.decode())})
    secrets.encrypt(environment, made)
    assert secrets.load(environment, None) == made
