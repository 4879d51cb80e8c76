"""The role `base`: its settings and what follows from them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from roles.base import operations
from roles.base.access import public_keys
from roles.base.facts import Admins, AdminState, KernelParameters
from roles.base.operations import parameters
from roles.base.settings import Admin, BaseSettings
from roles.common.errors import SiteError
from roles.common.rendering import render
from roles.common.site import load

KEY = f"ssh-ed25519 {'A' * 68} an.nguyen@laptop"
ADMIN = {"name": "Nguyễn Văn An", "keys": [KEY]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"journal_size": "26GIGOTS"}, "expected a whole number and a unit"),
        ({"upgrade_time": "2:30"}, "upgrade_time"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"reboot": "always"}, "'never' or 'when-needed'"),
        ({"sysctl": {"vm.swappiness\nkernel.panic": 0}}, "expected one such as"),
        ({"admins": {"an": {**ADMIN, "keys": []}}}, "at least 1"),
        ({"admins": {"an": {**ADMIN, "keys": ["hunter2"]}}}, "admins.an.keys.0"),
        ({"admins": {"An Nguyen": ADMIN}}, "admins"),
        ({"admins": {"root": ADMIN}}, "root"),
        ({"root_keys": [f"{KEY}\n{KEY}"]}, "root_keys"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        BaseSettings.model_validate(values)


def test_a_key_may_stand_in_a_file(tmp_path: Path) -> None:
    site = replace(load("local"), state=tmp_path)
    (tmp_path / "an.pub").write_text(f"{KEY}\n")
    named = BaseSettings.model_validate(
        {"admins": {"an": {**ADMIN, "keys": [KEY, "file:{state}/an.pub"]}}}
    )
    assert public_keys(named.admins["an"].keys, site) == [KEY, KEY]
    (tmp_path / "an.pub").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    with pytest.raises(SiteError, match=r"an\.pub holds no public key; expected") as caught:
        public_keys(named.admins["an"].keys, site)
    assert "abc" not in str(caught.value)
    with pytest.raises(SiteError, match=r"khong\.pub: No such file .*; expected a file with"):
        public_keys(["file:{state}/khong.pub"], site)


def test_an_environments_kernel_parameters_count_last() -> None:
    settings = BaseSettings.model_validate({"sysctl": {"vm.swappiness": 60, "net.x.y": "1  2"}})
    found = parameters(render("base/etc/sysctl.d/60-site.conf.j2", {"settings": settings}))
    assert found["vm.swappiness"] == "60"
    assert found["net.x.y"] == "1 2"
    assert found["net.ipv4.ip_local_port_range"] == "16384 60999"


def test_only_persons_with_the_right_become_root() -> None:
    settings = BaseSettings.model_validate(
        {"admins": {"binh": ADMIN, "an": ADMIN, "chi": {**ADMIN, "sudo": False}}}
    )
    text = render("base/etc/sudoers.d/site-admins.j2", {"settings": settings})
    assert [line.split()[0] for line in text.splitlines() if "NOPASSWD" in line] == ["an", "binh"]


def test_only_hosts_with_postfix_send_reports_of_upgrades() -> None:
    site = load("production")
    name = "base/etc/apt/apt.conf.d/52unattended-upgrades-site.j2"
    for host in site.hosts.values():
        text = render(name, {"settings": BaseSettings(), "site": site, "host": host})
        assert ("postmaster@tiengiang.gov.vn" in text) is host.serves("mx", "front")


def test_the_clock_uses_the_sites_servers_and_no_others() -> None:
    name = "base/etc/systemd/timesyncd.conf.d/60-site.conf.j2"
    own = BaseSettings.model_validate({"time_servers": ["10.0.0.1", "ntp.example"]})
    assert "NTP=10.0.0.1 ntp.example\n" in render(name, {"settings": own})
    assert "FallbackNTP=\n" in render(name, {"settings": own})
    assert "NTP=" not in render(name, {"settings": BaseSettings()})


def test_the_mirror_is_used_for_security_too() -> None:
    site = load("production")
    table = site.table.model_copy(update={"package_mirror": "http://mirror.example/debian"})
    text = render("base/etc/apt/sources.list.d/site.sources.j2", {"site": {"table": table}})
    assert "URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n" in text
    assert "URIs: http://mirror.example/debian-security\nSuites: trixie-security\n" in text


def test_accounts_are_read_with_their_state() -> None:
    lines = [
        "yes::an:x:1000:1000:Nguyễn Văn An,,,:/home/an:/bin/bash",
        "no:1:binh:x:1001:1001:Bình:/home/binh:/usr/sbin/nologin",
    ]
    assert Admins().process(lines) == {
        "an": AdminState(1000, "Nguyễn Văn An", "/bin/bash", locked_out=False, member=True),
        "binh": AdminState(1001, "Bình", "/usr/sbin/nologin", locked_out=True, member=False),
    }


def test_kernel_parameters_are_read_whole() -> None:
    found = KernelParameters().process(
        ["/proc/sys/a/b=1", "/proc/sys/net/ipv4/ip_local_port_range=16384\t60999"]
    )
    assert found == {"a.b": "1", "net.ipv4.ip_local_port_range": "16384 60999"}


def commands(monkeypatch: pytest.MonkeyPatch, operation: Any, fact: Any, **arguments: Any) -> str:
    """What an operation runs on a host on which its one fact is `fact`."""
    monkeypatch.setattr(
        operations, "host", SimpleNamespace(name="mx1", get_fact=lambda *_, **__: fact)
    )
    monkeypatch.setattr(operations, "say", lambda _: None)
    return "\n".join(str(command) for command in operation._inner(**arguments))


def test_only_parameters_that_differ_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"vm.swappiness": "10", "kernel.panic": "10", "net.absent.here": "1"}
    found = {"vm.swappiness": "60", "kernel.panic": "10"}
    run = commands(monkeypatch, operations.kernel_parameters, found, wanted=wanted)
    assert run == "sysctl -q -w vm.swappiness=10"


def test_a_person_is_made_once_and_locked_out_when_taken_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = {"an": Admin.model_validate(ADMIN)}
    there = AdminState(1000, "Nguyễn Văn An", "/bin/bash", locked_out=False, member=True)
    assert "useradd" in commands(monkeypatch, operations.admins, {}, wanted=wanted)
    assert commands(monkeypatch, operations.admins, {"an": there}, wanted=wanted) == ""
    gone = commands(monkeypatch, operations.admins, {"an": there}, wanted={})
    assert "--expiredate 1" in gone
    assert "rm -f /etc/ssh/authorized_keys.d/an" in gone
    back = replace(there, locked_out=True, member=False)
    assert "usermod" in commands(monkeypatch, operations.admins, {"an": back}, wanted=wanted)


def test_a_daemons_account_is_never_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = AdminState(101, "", "/usr/sbin/nologin", locked_out=False, member=False)
    with pytest.raises(SiteError, match=r"base\.admins\.an: mx1 has a system account"):
        commands(
            monkeypatch,
            operations.admins,
            {"an": daemon},
            wanted={"an": Admin.model_validate(ADMIN)},
        )
