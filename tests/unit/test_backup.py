"""The role `backup` without a host: passwords, what a host holds, what the client does and says."""

import ast
import dataclasses
import fcntl
import hashlib
import inspect
import json
import os
import tomllib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from deploy import restore
from roles.backup import abandoned, keeping, keys, stages, target_file, targets, timers
from roles.backup import client as program
from roles.backup import deploy as role
from roles.backup.client import Client, Config, PartError
from roles.backup.deploy import CLIENTS, clients, parts, relays, server
from roles.backup.facts import Key, Repositories
from roles.backup.settings import BackupSettings
from roles.backup.targets import TargetError
from roles.base.firewall import rules
from roles.certificates.authority import Authority
from roles.common import files
from roles.common.errors import SiteError
from roles.common.facts import FileState
from roles.common.files import ConfigFile
from roles.common.rendering import render
from roles.common.secrets import TargetSecrets
from roles.common.site import ROOT, Site, SiteHost, load, parse
from roles.signing.deploy import KEY

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVy"
SOURCE = ROOT / "inventories" / "production" / "site.toml"


@pytest.fixture
def site() -> Site:
    return load("local")


def second(**values: Any) -> Site:
    """The lab's site, with a second place for backups."""
    site = load("local")
    settings = BackupSettings.model_validate({"targets": {"second": values}})
    own = TargetSecrets(
        ssh_key=SecretStr("-----BEGIN KEY-----\nx\n-----END KEY-----"),
        access_key_id=SecretStr("key-1"), secret_access_key=SecretStr("secret-1"),
    )  # fmt: skip
    return dataclasses.replace(
        site,
        settings={**site.settings, "backup": settings},
        _secrets=site.secrets.model_copy(update={"backup_targets": {"second": own}}),
    )


# -- passwords -------------------------------------------------------------------------------------


def test_each_host_has_passwords_of_its_own(site: Site) -> None:
    made = [keys.maintenance(site)]
    for host in site.hosts.values():
        made += [keys.login(site, host), keys.repository(site, host)]
        made += [keys.copy(site, "second", host), keys.copy(site, "third", host)]
    assert len(set(made)) == len(made)
    assert all(len(password) == 64 for password in made)


def test_another_key_makes_other_passwords(site: Site) -> None:
    host = site.hosts["store1"]
    secrets = site.secrets.model_copy(update={"backup_key": SecretStr("x" * 64)})
    other = dataclasses.replace(site, _secrets=secrets)
    assert keys.repository(other, host) != keys.repository(site, host)
    assert keys.maintenance(other) != keys.maintenance(site)


def test_the_server_knows_digests_only(site: Site) -> None:
    text = keys.htpasswd(site, clients(site))
    names = [line.partition(":")[0] for line in text.splitlines()]
    assert names == ["directory1", "store1", "mx1", "front1"]
    for host in clients(site):
        assert keys.login(site, host) not in text
    assert all(":{SHA}" in line for line in text.splitlines())


def test_a_plan_shows_nothing_of_what_is_derived(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = keys.login(site, site.hosts["store1"])
    said: list[str] = []

    class Host:
        print_prefix = ""

        def get_fact(self, *_: Any, **__: Any) -> str:
            return "former"

    monkeypatch.setattr(files, "host", Host())
    monkeypatch.setattr("roles.common.files.logger.info", said.append)
    file = ConfigFile("/etc/x", password.encode(), mode="600", secret=True)
    files._show_diff(file, None)
    files._show_diff(file, FileState("600", "root", "root", "0" * 64))
    assert said == [
        "/etc/x: a secret, not shown, is new",
        "/etc/x: a secret, not shown, differs",
    ]


# -- the site --------------------------------------------------------------------------------------


def test_every_part_is_somebodys_and_the_database_is_the_first_hosts() -> None:
    pair = load("pair")
    held = {host.name: parts(pair, host) for host in clients(pair)}
    assert held["directory1"] == held["directory2"] == ["directory", "keys"]
    assert held["store1"] == held["store2"] == ["mail", "archive", "keys"]
    assert held["database1"] == ["database", "keys"]
    assert held["mx1"] == held["front2"] == ["keys"]
    assert "backup1" not in held
    (one,) = load("single").hosts.values()
    assert parts(load("single"), one) == ["directory", "database", "mail", "archive", "keys"]


def test_the_server_answers_hosts_that_hold_something_and_nobody_else() -> None:
    production = load("production")
    (rule,) = [r for r in rules(production, production.hosts["backup1"]) if 8000 in r.ports]
    assert set(rule.sources) == {host.address for host in clients(production)}
    others = [host for host in production.hosts.values() if not host.serves("backup")]
    assert not [r for host in others for r in rules(production, host) if 8000 in r.ports]


def imported(text: str) -> set[str]:
    """The modules of ours that one imports when it runs: `roles/backup/journal.py`."""
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("roles."):
            path = (node.module or "").replace(".", "/")
            package = (ROOT / path).is_dir()
            names = [f"{path}/{alias.name}" for alias in node.names] if package else [path]
            found |= {f"{name}.py" for name in names}
    return found


def made(site: Site, host: SiteHost, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files that the role makes on a host; nothing is sent."""
    found: dict[str, str] = {}

    def configure(files: Sequence[ConfigFile], **_: Any) -> None:
        found.update({file.path: file.content.decode() for file in files})

    def nothing(*_: Any, **__: Any) -> None:
        """What is done on the host."""

    for module in (role, keeping, timers):
        for name in (
            "configure", "directory", "in_group", "masked", "packages", "repositories_made",
            "service",
        ):  # fmt: skip
            if hasattr(module, name):
                monkeypatch.setattr(module, name, configure if name == "configure" else nothing)
    for module in (role, files):
        monkeypatch.setattr(module, "current_site", lambda: site)
        monkeypatch.setattr(module, "current_host", lambda: host)
    monkeypatch.setattr(role, "repositories", lambda **_: SimpleNamespace())
    inspect.unwrap(role.backup)(begun=inspect.unwrap(role.backup_repositories)())
    return found


@pytest.mark.parametrize("environment", ["local", "single", "pair"])
def test_each_host_gets_what_its_programs_need(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = load(environment)
    for host in site.group("backup", *CLIENTS):
        found = made(site, host, monkeypatch)
        tools = [path.rpartition("/")[2] for path in found if path.startswith("/usr/local/sbin/")]
        keeps, holds = host == server(site), host in clients(site)
        assert ("site-backup-keeper" in tools, "site-backup" in tools) == (keeps, holds)
        units = {path for path in found if path.endswith(".timer")}
        assert len(units) == 2 * holds + len(keeping.JOBS) * keeps
        for path in units:
            assert path.removesuffix("timer") + "service" in found
        for lib, wanted in ((role.LIB, holds), (keeping.LIB, keeps)):
            modules = {path for path in found if path.startswith(f"{lib}/")}
            assert bool(modules) == wanted
            # What one imports of another is there, too.
            for path in modules:
                missing = {f"{lib}/{name}" for name in imported(found[path])} - modules
                assert not missing, path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"schedule": "hourly; rm -rf /"}, "schedule"),
        ({"schedule": "'"}, "schedule"),
        ({"upload_limit": 5}, "is not a size; expected a whole number and a unit"),
        ({"folder": "srv/restic"}, "folder"),
        ({"niceness": 20}, "niceness"),
        ({"disk_class": "realtime"}, "disk_class"),
        ({"patience": "5s"}, "patience"),
        ({"alone": "4h"}, "alone: 14400 s; expected more than stale, 14400 s"),
    ],
)
def test_what_is_no_setting_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        BackupSettings.model_validate(values)


def test_a_host_writes_through_itself_where_it_can() -> None:
    pair = load("pair")
    first, second = (host.fqdn for host in pair.group("mx"))
    assert relays(pair, pair.hosts["mx2"]) == [second, first]
    assert relays(pair, pair.hosts["store1"]) == [first, second]
    for host in clients(pair):
        found = [r for r in rules(pair, pair.hosts["mx1"]) if 10025 in r.ports]
        assert host.name == "mx1" or host.address in found[0].sources


def test_a_mistake_names_file_and_key() -> None:
    document = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    document["backup"] = {"jitter": "10", "colour": "red"}
    wrong = r"site\.toml: backup\.jitter: '10' is not a duration"
    with pytest.raises(SiteError, match=wrong) as found:
        parse(document, SOURCE)
    assert "backup.colour: unknown key; expected one of folder" in str(found.value)


def test_keys_of_repositories_are_read_as_restic_keeps_them() -> None:
    line = json.dumps({"hostname": "store1", "username": "site-0123", "kdf": "scrypt", "data": "x"})
    found = Repositories().process([f"store1/keys/ab12 {line}"])
    assert found == {"store1": [Key("ab12", "store1", "site-0123")]}


# -- the client ------------------------------------------------------------------------------------


def config(folder: Path, *held: str, **values: Any) -> Config:
    (folder / "login").write_text("secret-login\n")
    (folder / "state").mkdir(exist_ok=True)
    (folder / "archive").mkdir(exist_ok=True)
    known = {
        "host": "store1", "repository": "rest:https://b:8000/store1/", "login": folder / "login",
        "password": folder / "password", "authority": folder / "ca.pem", "base": "dc=vidu",
        "parts": held, "archive": folder / "archive", "state": folder / "state", "upload_limit": 0,
        "alone": 3600,
    }  # fmt: skip
    return Config(**{**known, **values})


def test_the_role_writes_what_the_client_reads(site: Site, tmp_path: Path) -> None:
    host = site.hosts["store1"]
    settings = BackupSettings(upload_limit="1025B")
    text = render(
        "backup/etc/site-backup/client.toml.j2",
        {
            "site": site, "host": host, "settings": settings, "parts": parts(site, host),
            "repository": "rest:https://b:8000/store1/", "archive": "/var/lib/site-archive",
            "state": "/var/lib/site-backup", "login": "/l", "password": "/p",
        },
    )  # fmt: skip
    path = tmp_path / "client.toml"
    path.write_text(text)
    read = Config.read(path)
    assert read.parts == ("mail", "archive", "keys")
    # Never zero, which would be no limit at all.
    assert read.upload_limit == 2
    assert read.alone == 8 * 3600
    assert read.base == "dc=tiengiang,dc=gov,dc=vn"


def test_no_password_is_on_the_command_line(tmp_path: Path) -> None:
    command, environment = Client(config(tmp_path, "keys", upload_limit=7)).restic()
    assert command == ["restic", "--limit-upload=7", "--retry-lock=15m"]
    assert environment["RESTIC_REST_PASSWORD"] == "secret-login"
    assert environment["RESTIC_REPOSITORY"] == "rest:https://b:8000/store1/"


def test_a_snapshot_bears_the_time_at_which_its_part_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came while it was staged may be missing from it; restic itself comes after that."""
    restic = tmp_path / "bin" / "restic"
    restic.parent.mkdir()
    said = {"snapshot_id": "a" * 64, "total_files_processed": 1, "total_bytes_processed": 2,
            "data_added": 3}  # fmt: skip
    restic.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$TZ\" \"$@\" > {tmp_path}/asked\necho '{json.dumps(said)}'\n"
    )
    restic.chmod(0o755)
    monkeypatch.setenv("PATH", f"{restic.parent}:{os.environ['PATH']}")
    vietnam = timezone(timedelta(hours=7))
    begun = datetime(2026, 11, 20, 8, 0, 1, 250_000, tzinfo=vietnam)
    Client(config(tmp_path, "keys")).snapshot("keys", begun, tmp_path / "stage")
    zone, *asked = (tmp_path / "asked").read_text().splitlines()
    assert zone == "UTC"
    assert "--time=2026-11-20 01:00:01.250000" in asked
    assert asked[-1] == f"{tmp_path}/stage"


def test_a_part_that_fails_fails_the_run_and_no_other_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def fails(_: Client) -> None:
        raise PartError("the dump ended too early")

    def tidied() -> list[str]:
        done.append("tidy")
        return []

    monkeypatch.setattr(program, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(abandoned, "forget", tidied)
    monkeypatch.setitem(program.PARTS, "database", fails)
    monkeypatch.setitem(program.PARTS, "keys", lambda _: done.append("keys"))
    client = Client(config(tmp_path, "database", "keys"))
    assert client.all([]) == 1
    assert done == ["tidy", "keys"]
    assert {*json.loads((tmp_path / "state/successes.json").read_text())} == {"keys"}
    assert "database: failed: the dump ended too early" in caplog.text
    assert client.all(["keys"]) == 0
    with pytest.raises(PartError, match="mail: no part of this host; expected some of database"):
        client.all(["mail"])


def test_a_dump_that_fails_says_what_the_program_said(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with pytest.raises(PartError, match="broken pipe of the dump"):
        program.dump(["sh", "-c", "echo half; echo broken pipe of the dump >&2; exit 3"],
                     tmp_path / "x")  # fmt: skip
    program.dump(["echo", "whole"], tmp_path / "x")
    assert (tmp_path / "x").read_text() == "whole\n"


def test_a_stage_is_described(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("xyz")
    (tmp_path / "a").write_text("")
    program.describe(tmp_path)
    lines = (tmp_path / "MANIFEST").read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256(b'').hexdigest()} 0 a", f"{hashlib.sha256(b'xyz').hexdigest()} 3 b/c",
    ]  # fmt: skip


def test_an_archive_is_read_once_and_drafts_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    sent: list[Sequence[str]] = []
    manifests: list[str] = []
    true_digest = stages.digest

    def digest(path: Path) -> str:
        read.append(path.name)
        return true_digest(path)

    client = Client(config(tmp_path, "archive"))
    archive = client.config.archive
    (archive / "people").mkdir()
    (archive / "people" / "1.age").write_text("letters")
    (archive / "work").mkdir()
    (archive / "work" / "draft").write_text("half")

    def snapshot(_: str, __: datetime, *paths: Path, options: Sequence[str] = ()) -> None:
        sent.append(options)
        manifests.append((paths[1] / "MANIFEST").read_text())
        with (archive / "lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(program, "digest", digest)
    monkeypatch.setattr(client, "snapshot", snapshot)
    program.PARTS["archive"](client)
    program.PARTS["archive"](client)
    assert read == ["1.age"]
    expected = f"{hashlib.sha256(b'letters').hexdigest()} 7 {archive}/people/1.age\n"
    assert manifests == [expected, expected]
    assert f"{archive}/work" in sent[0]
    assert not (client.config.stage / "archive").exists()
    (archive / "people" / "1.age").write_text("others!")
    program.PARTS["archive"](client)
    assert read == ["1.age", "1.age"]


def test_a_further_target_is_known_as_long_as_an_operator_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "ON_CLIENT", tmp_path / "targets")
    client = Client(config(tmp_path, "keys", host="directory1"))
    with (
        pytest.raises(PartError, match=r"--from second: .*targets has none; deploy\.restore"),
        client.restic_at("second"),
    ):
        pass
    site = second(url="s3:https://s3.vidu.vn/sao-luu")
    directory = site.hosts["directory1"]
    (tmp_path / "targets").write_text(target_file.text(site, ["second"], [directory]))
    with client.restic_at("second") as (command, environment):
        assert command == ["restic", "--retry-lock=15m"]
    assert environment["RESTIC_REPOSITORY"] == "s3:https://s3.vidu.vn/sao-luu/directory1"
    assert environment["RESTIC_PASSWORD"] == keys.copy(site, "second", directory)
    assert environment["AWS_ACCESS_KEY_ID"] == "key-1"
    assert environment["AWS_SECRET_ACCESS_KEY"] == "secret-1"
    # The site's own authority says nothing of a server elsewhere.
    assert not {"RESTIC_PASSWORD_FILE", "RESTIC_CACERT"} & {*environment}
    other = Client(config(tmp_path, "keys", host="store1"))
    with pytest.raises(TargetError, match="store1: its password"), other.restic_at("second"):
        pass


def test_by_s3_an_authority_that_is_set_is_the_only_one(site: Site, tmp_path: Path) -> None:
    pem = Authority.of(site).pem
    store = site.hosts["store1"]
    elsewhere = second(url="s3:https://s3.vidu.vn/sao-luu", authority=pem)
    (tmp_path / "targets").write_text(target_file.text(elsewhere, ["second"], [store]))
    with targets.read(tmp_path / "targets")["second"].reached("store1") as (options, environment):
        assert options == []
        authority = Path(environment["RESTIC_CACERT"])
        assert authority.read_text() == pem
    assert not authority.exists()


def test_by_sftp_nobody_but_the_server_that_the_settings_name_is_believed(tmp_path: Path) -> None:
    site = second(url="sftp://saoluu@kho2.vidu.vn:2222/srv/tiengiang", host_key=HOST_KEY)
    store = site.hosts["store1"]
    (tmp_path / "targets").write_text(target_file.text(site, ["second"], [store]))
    target = targets.read(tmp_path / "targets")["second"]
    with target.reached("store1") as (options, environment):
        assert environment["RESTIC_REPOSITORY"] == (
            "sftp:saoluu@kho2.vidu.vn:/srv/tiengiang/store1"
        )  # fmt: skip
        words = options[1].removeprefix("sftp.command=").split()
        assert words[-5:] == ["-p", "2222", "saoluu@kho2.vidu.vn", "-s", "sftp"]
        assert {
            "StrictHostKeyChecking=yes", "ConnectTimeout=60", "ServerAliveInterval=60",
        } <= {*words}  # fmt: skip
        (known,) = [word for word in words if word.startswith("UserKnownHostsFile=")]
        assert Path(known.partition("=")[2]).read_text() == f"[kho2.vidu.vn]:2222 {HOST_KEY}\n"
        key = Path(words[words.index("-i") + 1])
        assert key.read_text() == "-----BEGIN KEY-----\nx\n-----END KEY-----\n"
        assert key.stat().st_mode & 0o777 == 0o600
    assert not key.exists()
    ornate = "@@@@@@@\n@ CHANGED!  @\n@@@@@@@\na@b: Host key verification failed.\n"

    def fail(said: str) -> None:
        with target.reached("store1") as (options, _):
            words = options[1].split()
            Path(words[words.index("-E") + 1]).write_text(said)
            raise PartError("restic failed")

    with pytest.raises(TargetError, match=r"^ssh: CHANGED! a@b: Host key .* failed\.; restic fai"):
        fail(ornate)
    with pytest.raises(PartError, match=r"^restic failed"):
        fail("")


def test_a_target_without_credentials_is_named_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = second(url="s3:https://s3.vidu.vn/sao-luu")
    bare = site.secrets.model_copy(update={"backup_targets": {}})
    with pytest.raises(SiteError, match=r"miss access_key_id, .*\[backup_targets\.second\]"):
        target_file.text(dataclasses.replace(site, _secrets=bare), ["second"], [])
    monkeypatch.setattr(restore, "load", lambda _: site)
    assert restore.main(["--env", "local", "plan", "site", "--from", "third"]) == 1
    assert "third: no further target of backups; expected one of: second" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"url": "s3:https://s3.vidu.vn/sao-luu", "host_key": HOST_KEY}, "host_key"),
        ({"url": "sftp://a@kho2.vidu.vn/srv"}, "host_key: ''; expected the server's public key"),
        ({"url": "sftp:a@kho2.vidu.vn:/srv", "host_key": HOST_KEY}, "url"),
        ({"url": "http://kho2.vidu.vn/srv"}, "url"),
        # Neither is an option of ssh.
        ({"url": "sftp://-f@kho2.vidu.vn/srv", "host_key": HOST_KEY}, "url"),
        ({"url": "sftp://a@-f/srv", "host_key": HOST_KEY}, "url"),
        ({"url": "s3:https://s3.vidu.vn/x", "colour": "red"}, "colour"),
        ({"url": "s3:https://s3.vidu.vn/x", "authority": "ca.pem"}, "expected certificates"),
        ({"url": "s3:https://s3.vidu.vn/x", "stale": "2"}, "stale"),
    ],
)
def test_what_is_no_target_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        BackupSettings.model_validate({"targets": {"second": values}})


def test_the_key_that_signs_mail_is_backed_up() -> None:
    assert KEY.removeprefix("/") in program._KEYS
