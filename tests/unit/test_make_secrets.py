"""`make secrets`: what an environment has stays, what it misses is made."""

from pathlib import Path

import pyrage
import pytest

from deploy import secrets as job
from roles.common import secrets


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    folder = tmp_path / "inventories" / "somewhere"
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text("[site]\n")
    (folder / "recipients.txt").write_text(f"{identity.to_public()}\n")
    monkeypatch.setenv("AGE_IDENTITY", str(tmp_path / "key.txt"))
    monkeypatch.setattr(job, "ROOT", tmp_path)
    return folder


def test_missing_secrets_are_completed_and_the_others_kept(root: Path) -> None:
    assert job.main(["somewhere"]) == 0
    made = secrets.load(root, None)
    assert made is not None
    rest = [
        line for line in made.to_toml().splitlines(True) if not line.startswith("webmail_database")
    ]
    key = pyrage.x25519.Recipient.from_str((root / "recipients.txt").read_text().strip())
    (root / "secrets.age").write_bytes(pyrage.encrypt("".join(rest).encode(), [key]))
    assert job.main(["somewhere"]) == 0
    completed = secrets.load(root, None)
    assert completed is not None
    assert completed.ca_key == made.ca_key
    assert completed.webmail_database_password != made.webmail_database_password


def test_without_recipients_nothing_is_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "recipients.txt").unlink()
    assert job.main(["somewhere"]) == 1
    assert "recipients.txt: names no recipient" in capsys.readouterr().err
    assert not (root / "secrets.age").exists()


def test_an_unknown_environment_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["nowhere"]) == 1
    assert "no such environment" in capsys.readouterr().err
