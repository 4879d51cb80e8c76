"""The lab: what a machine needs, what a container is made with, what a run must do."""

import dataclasses
import io
import json
import tarfile
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roles.common import secrets
from roles.common.errors import SiteError
from roles.common.packages import Needed
from roles.common.site import ROOT, load
from tests.lab import image, info, lab, machine, prepared
from tests.lab.__main__ import parser
from tests.lab.keys import File, Keys, tar
from tests.lab.lab import LABEL, Container, LabInstance, create_arguments, network_arguments, work
from tests.lab.machine import (
    INOTIFY_INSTANCES,
    STORAGE,
    Machine,
    allow_inotify,
    cgroup2_mounts,
    clashing,
    decide,
    distribution,
    filesystem,
    has_capability,
    packages_needed,
    require,
)
from tests.lab.outside.site import OUTSIDE, outside_of, serial, with_outside
from tests.lab.podman import Podman, settings
from tests.lab.prepared import packages_of

ORDINARY = Machine(
    root=True,
    distribution="debian 13",
    cgroup_v2_only=True,
    controllers=frozenset({"cpu", "memory", "pids"}),
    raises_limits=True,
    hard_limits={"nofile": 1048576, "nproc": -1},
    mtu=1500,
    filesystem="ext4",
)
SMALL = dataclasses.replace(
    ORDINARY,
    distribution="debian 12",
    cgroup_v2_only=False,
    controllers=frozenset(),
    raises_limits=False,
    hard_limits={"nofile": 20000, "nproc": 96365},
    mtu=1400,
)
MX = Container("mx1", "local-up-mx1", "10.77.0.13", "mx1.tiengiang.gov.vn")


def test_an_ordinary_machine_needs_no_workaround() -> None:
    found = decide(ORDINARY)
    assert found.describe() == []
    assert found.ulimits == ()
    assert "runc" not in packages_needed(ORDINARY)
    assert "runtime" not in settings(found)
    assert "ulimits" not in settings(found)
    assert "pids_limit" not in settings(found)


def test_a_small_machine_gets_what_it_lacks_and_no_more() -> None:
    found = decide(SMALL)
    assert len(found.describe()) == 4
    assert found.private_cgroup
    assert found.mtu == 1400
    assert {"runc", "iptables"} <= set(packages_needed(SMALL))
    text = settings(found)
    assert 'runtime = "runc"' in text
    assert "pids_limit = 0" in text
    assert 'default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]' in text


def test_each_workaround_has_a_cause_of_its_own() -> None:
    for change in ("cgroup_v2_only", "controllers", "raises_limits", "mtu"):
        value = getattr(SMALL, change)
        found = decide(dataclasses.replace(ORDINARY, **{change: value}))
        assert len(found.describe()) == 1, change


def test_limits_never_exceed_the_machines_own_nor_podmans() -> None:
    limited = dataclasses.replace(SMALL, hard_limits={"nofile": -1, "nproc": 500})
    assert decide(limited).ulimits == ("nofile=1048576:1048576", "nproc=500:500")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": False}, "expected root"),
        ({"distribution": "ubuntu 24.04"}, "'ubuntu 24.04'; expected debian 12 or debian 13"),
        ({"filesystem": "overlay"}, "lies on overlayfs.*mount a volume there"),
    ],
)
def test_a_machine_that_cannot_is_told_why(change: dict[str, Any], message: str) -> None:
    require(ORDINARY)
    with pytest.raises(SiteError, match=message):
        require(dataclasses.replace(ORDINARY, **change))


def test_the_machine_is_read_from_the_kernels_files() -> None:
    status = "Name:\tpython3\nCapEff:\t000001fffeffffff\n"
    assert has_capability(status, 21)
    assert not has_capability(status, 24)
    assert not has_capability("Name:\tpython3\n", 24)
    mounts = (
        "cgroup /sys/fs/cgroup/pids cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    assert cgroup2_mounts(mounts) == ["/sys/fs/cgroup/unified"]
    mounts = "overlay / overlay rw 0 0\n/dev/vda /var/lib ext4 rw 0 0\ntmpfs /var/li tmpfs rw 0 0\n"
    assert filesystem(mounts, Path("/var/lib/lab")) == "ext4"
    assert filesystem(mounts, Path("/srv")) == "overlay"
    assert distribution('NAME="Debian"\nVERSION_ID="13"\nID=debian\n') == "debian 13"
    assert distribution("NAME=x\n") == "? ?"


def test_a_route_into_the_labs_network_is_a_clash() -> None:
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"dst": "10.77.0.7", "dev": "tun0"},
    ]
    assert clashing(IPv4Network("10.77.0.0/24"), routes) == ["route to 10.77.0.7 by tun0"]
    assert clashing(IPv4Network("10.77.1.0/24"), routes) == []


def test_sources_are_found_in_both_notations() -> None:
    one_line = """
# deb https://mirror.invalid/old bookworm main
deb [arch=amd64 signed-by=/x] https://mirror.invalid/debian bookworm main contrib  # ours
deb-src https://mirror.invalid/debian bookworm main
"""
    stanzas = """
Types: deb deb-src
# a comment
URIs: https://mirror.invalid/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib

Types: deb
Enabled: no
URIs: https://mirror.invalid/disabled
Suites: bookworm
Components: main
"""
    (line,) = image.one_line_sources(one_line)
    assert line == image.Source("https://mirror.invalid/debian", "bookworm", ("main", "contrib"))
    found = image.deb822_sources(stanzas)
    assert [source.suite for source in found] == ["bookworm", "bookworm-updates"]
    assert found[0].components == ("main", "contrib")


def test_the_base_image_comes_from_the_machines_own_mirror() -> None:
    sources = [
        image.Source("https://mirror.invalid/debian/", "bookworm", ("main",)),
        image.Source("https://mirror.invalid/debian", "bookworm", ("main",)),
        image.Source("https://mirror.invalid/security", "bookworm-security", ("main",)),
        image.Source("https://mirror.invalid/debian", "bookworm-backports", ("main",)),
        image.Source("https://other.invalid/tools", "nodistro", ("main",)),
        image.Source("https://other.invalid/more", "bookworm", ("stable",)),
    ]
    assert image.debian_sources(sources, "bookworm") == [
        "deb https://mirror.invalid/debian trixie main",
        "deb https://mirror.invalid/security trixie-security main",
    ]
    with pytest.raises(SiteError, match="no source of Debian's packages for 'trixie'"):
        image.debian_sources(sources, "trixie")


def test_all_files_of_sources_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "a.list").write_text("deb https://mirror.invalid/a trixie main\n")
    (folder / "b.sources").write_text(
        "Types: deb\nURIs: https://mirror.invalid/b\nSuites: trixie\nComponents: main\n"
    )
    (folder / "c.sources.save").write_text("Types: deb\n")
    assert [source.uri[-1] for source in image.machine_sources(tmp_path)] == ["a", "b"]


def test_only_the_settings_that_reach_the_mirror_are_taken_over() -> None:
    dump = (
        'APT::Install-Recommends "1";\nAcquire "";\nAcquire::http::Proxy "http://proxy.invalid";\n'
        'Acquire::http::Proxy::mirror.invalid "DIRECT";\nAcquire::Check-Date "false";\n'
        'Acquire::https::Proxy "";\n'
    )
    assert image.machine_apt_settings(dump) == (
        'Acquire::http::Proxy "http://proxy.invalid";\n'
        'Acquire::http::Proxy::mirror.invalid "DIRECT";\nAcquire::Check-Date "false";\n'
    )


def test_a_container_is_made_with_its_address_and_labels() -> None:
    arguments = create_arguments(MX, "local-up", "localhost/base:1")
    assert "--ip=10.77.0.13" in arguments
    assert "--hostname=mx1.tiengiang.gov.vn" in arguments
    assert f"--label={LABEL}=local-up" in arguments
    assert f"--label={LABEL}.root={ROOT}" in arguments
    assert "--cap-add=NET_ADMIN,NET_RAW" in arguments
    assert arguments[-2:] == ["localhost/base:1", "/sbin/init"]


def test_the_networks_packets_are_no_larger_than_the_machines() -> None:
    network = IPv4Network("10.77.0.0/24")
    assert "--opt=mtu=1400" in network_arguments("local-up", network, 1400)
    assert not [part for part in network_arguments("local-up", network, None) if "mtu" in part]


def entry(state: str = "running", address: str = MX.address) -> dict[str, Any]:
    return {"State": state, "Labels": {f"{LABEL}.address": address}}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Keys that know the mx."""
    keys = Keys(tmp_path / "ssh")
    keys.public()
    keys.remember(MX.address, b"ssh-ed25519 AAAA mx1\n")
    return keys


def test_a_lab_that_is_up_needs_nothing(keys: Keys) -> None:
    assert not work([MX], {MX.name: entry()}, keys)


def test_what_is_missing_is_made(keys: Keys) -> None:
    todo = work([MX], {}, keys)
    assert (todo.remove, todo.create, todo.start) == ([], [MX], [])


@pytest.mark.parametrize("state", ["exited", "created"])
def test_what_stopped_is_started(keys: Keys, state: str) -> None:
    # After a reboot, Podman shows containers as created or as exited, by its version.
    todo = work([MX], {MX.name: entry(state)}, keys)
    assert (todo.remove, todo.create, todo.start) == ([], [], [MX.name])


def test_what_cannot_be_used_is_made_again(keys: Keys) -> None:
    moved = work([MX], {MX.name: entry(address="10.77.1.13")}, keys)
    assert (moved.remove, moved.create) == ([MX.name], [MX])
    dead = work([MX], {MX.name: entry("dead")}, keys)
    assert (dead.remove, dead.create, dead.start) == ([MX.name], [MX], [])
    keys.forget(MX.address)
    half_made = work([MX], {MX.name: entry("created")}, keys)
    assert (half_made.remove, half_made.create) == ([MX.name], [MX])


def test_what_the_inventory_no_longer_has_is_removed(keys: Keys) -> None:
    todo = work([MX], {MX.name: entry(), "local-up-mx2": entry()}, keys)
    assert (todo.remove, todo.create) == (["local-up-mx2"], [])


def test_a_host_is_known_by_its_last_key(keys: Keys) -> None:
    keys.remember("10.77.0.1", b"ssh-ed25519 BBBB\n")
    keys.remember(MX.address, b"ssh-ed25519 CCCC mx1\n")
    assert keys.known_hosts.read_text() == (
        "10.77.0.1 ssh-ed25519 BBBB\n10.77.0.13 ssh-ed25519 CCCC\n"
    )
    assert not keys.knows("10.77.0.11")
    assert keys.private.stat().st_mode & 0o777 == 0o600


def test_files_of_a_host_keep_their_modes() -> None:
    archive = tar({"root/.ssh/authorized_keys": File(b"key", 0o600), "etc/hosts": File(b"hosts")})
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        modes = {member.name: member.mode for member in members.getmembers()}
    assert modes == {"root/.ssh": 0o700, "root/.ssh/authorized_keys": 0o600, "etc/hosts": 0o644}


@pytest.mark.parametrize(
    ("environment", "instance"),
    [(environment, name) for environment in ("local", "single", "pair") for name in ("up", "test")],
)
def test_instances_share_no_name_and_no_address(environment: str, instance: str) -> None:
    lab = LabInstance(load(environment, instance), instance)
    names = [container.name for container in lab.containers]
    addresses = [container.address for container in lab.containers]
    assert len(set(addresses)) == len(addresses)
    assert all(name.startswith(f"{environment}-{instance}-") for name in names)
    assert all(IPv4Address(address) in lab.outside.lab.network for address in addresses)
    with pytest.raises(SiteError, match="'mx9' is no host"):
        lab.container("mx9")


def test_an_environment_of_real_machines_is_no_lab() -> None:
    with pytest.raises(SiteError, match=r"production/site\.toml: has no table \[lab\]"):
        outside_of(load("production"))


def test_an_address_of_the_labs_own_is_refused() -> None:
    site = load("local", "up")
    mx = dataclasses.replace(site.hosts["mx1"], address="10.77.0.21")
    taken = dataclasses.replace(site, hosts={**site.hosts, "mx1": mx})
    with pytest.raises(SiteError, match=r"hosts\.mx1\.address: 10\.77\.0\.21 is that of outside1"):
        outside_of(taken)


def test_the_outside_is_a_host_of_no_group() -> None:
    site = with_outside(load("local", "up"))
    assert site.hosts[OUTSIDE].fqdn == "outside1.vidu.example"
    assert all(host.name != OUTSIDE for host in site.group("mx", "store", "front"))
    outside = outside_of(site)
    assert outside.reverse_zone == "0.77.10.in-addr.arpa"
    assert str(outside.gateway) == "10.77.0.1"
    assert str(outside.second_address) == "10.77.0.21"


def test_a_zones_serial_follows_its_text() -> None:
    assert serial("one") == serial("one") != serial("two")
    assert 0 <= serial("one") < 2**32


def test_tools_are_told_what_they_need(tmp_path: Path) -> None:
    state = ROOT / ".lab" / "unit"
    site = dataclasses.replace(load("local", "up"), state=state)
    with pytest.raises(SiteError, match="expected a lab that is up"):
        info.info(site)
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "id_ed25519").touch()
    (tmp_path / "accounts.json").write_text(
        json.dumps(
            [
                {
                    "id": number,
                    "address": f"{name}@tiengiang.gov.vn",
                    "password": "x",
                    "kind": "person",
                    "name": "Á",
                }
                for number, name in (
                    ("1001", "anv"),
                    ("1004", "small"),
                    ("1006", "locked"),
                    ("1012", "without POP3"),
                    ("1043", "without submission"),
                    ("9999", "gone"),
                )
            ]
        )
    )
    told = info.info(dataclasses.replace(site, state=tmp_path), root=tmp_path)
    assert set(told) == {
        "domain", "webmail_url", "ca_certificate", "hosts", "ssh", "accounts", "foreign",
    }  # fmt: skip
    assert told["ssh"] == {"user": "root", "key": "ssh/id_ed25519"}
    assert told["ca_certificate"] == "ca.pem"
    assert told["hosts"]["mx1"] == {"address": "10.77.0.13", "groups": ["mx"]}
    assert told["foreign"]["smtp_host"] == "10.77.0.20"
    assert told["accounts"] == [
        {"address": "anv@tiengiang.gov.vn", "password": "x", "kind": "person", "name": "Á"}
    ]


class Removal:
    """A lab of containers that exist on paper only; what is removed is noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.others: dict[str, Any] = {}
        self.done: list[str] = []
        self.storage = folder / "storage"
        self.storage.mkdir()
        self.site = dataclasses.replace(load("local", "up"), state=folder / "states" / "local")
        monkeypatch.setattr(lab, "STORAGE", self.storage)
        monkeypatch.setattr(machine, "inspect", lambda: ORDINARY)
        monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/podman")
        monkeypatch.setattr(lab, "stop_holder", lambda: self.done.append("holder"))
        monkeypatch.setattr(lab, "remove_all", lambda: self.done.append("storage"))
        monkeypatch.setattr(LabInstance, "_remove", lambda _: self.done.append("instance"))
        monkeypatch.setattr(LabInstance, "_listed", lambda *_: self.others)

    def down(self, keep: bool = False) -> list[str]:
        """Remove it; what was done for that."""
        secrets.keep(self.site.state, self.site.secrets)
        LabInstance(self.site, "up").down(keep)
        return self.done


@pytest.fixture
def removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Removal:
    return Removal(tmp_path, monkeypatch)


def test_the_last_lab_takes_everything_with_it(removal: Removal) -> None:
    assert removal.down() == ["instance", "holder", "storage"]
    assert not removal.site.state.parent.exists()


def test_the_base_image_is_kept_if_asked_for(removal: Removal) -> None:
    assert removal.down(keep=True) == ["instance", "holder"]
    assert not removal.site.state.exists()


def test_another_lab_is_left_alone(removal: Removal) -> None:
    (removal.site.state.parent / "single").mkdir(parents=True)
    removal.others = {"single-up-mail1": entry()}
    assert removal.down() == ["instance"]
    assert [path.name for path in removal.site.state.parent.iterdir()] == ["single"]


def test_where_no_lab_ever_was_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "STORAGE", tmp_path / "storage")
    site = dataclasses.replace(load("local", "up"), state=tmp_path / "state")
    assert {state for _, _, state in LabInstance(site, "up").status()} == {"absent"}
    with pytest.raises(SiteError, match="expected a lab that is up"):
        info.info(dataclasses.replace(site, state=ROOT / ".lab" / "unit"))
    assert site.secrets
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "STORAGE", tmp_path / "storage")
    lock = tmp_path / "storage" / "lock"
    calls = []

    def flock(_file: Any, _how: int) -> None:
        calls.append(1)
        if len(calls) == 1:
            # What the last holder did while this run waited.
            lock.unlink()
            lock.parent.rmdir()

    monkeypatch.setattr("fcntl.flock", flock)
    with lab.exclusive():
        assert lock.exists()
    assert len(calls) == 2


def test_the_forges_container_has_a_volume_where_the_lab_lies() -> None:
    assert f":{STORAGE}\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_command_line_takes_what_the_tests_call() -> None:
    options = parser().parse_args(["up", "--env", "single", "--instance", "test"])
    assert (options.command, options.env, options.instance) == ("up", "single", "test")
    options = parser().parse_args(["shell", "mx1", "systemctl", "--failed"])
    assert (options.host, options.words) == ("mx1", ["systemctl", "--failed"])


def test_the_containers_may_watch_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = tmp_path / "max_user_instances"
    setting.write_text("128\n")
    allow_inotify(setting)
    assert setting.read_text() == f"{INOTIFY_INSTANCES}\n"
    assert "instead of 128" in capsys.readouterr().err
    allow_inotify(setting)
    assert capsys.readouterr().err == ""


def test_a_limit_of_watches_that_stays_low_is_an_error(tmp_path: Path) -> None:
    class Fixed(type(tmp_path)):  # type: ignore[misc]
        def write_text(self, *_: object) -> int:
            raise OSError("Read-only file system")

    setting = tmp_path / "max_user_instances"
    setting.write_text("128\n")
    with pytest.raises(SiteError, match=r"128, and cannot be written: .*; expected at least"):
        allow_inotify(Fixed(setting))
    assert setting.read_text() == "128\n"


def test_hosts_are_prepared_with_what_reads_nothing_of_the_site_when_it_is_installed() -> None:
    wanted = {host: set(needed.names) for host, needed in packages_of(load("local")).items()}
    assert wanted["outside1"] > {"unbound", "openssh-server"}
    assert wanted["mx1"] > {"postfix", "clamav-daemon", "openssh-server"}
    assert wanted["front1"] > {"postfix", "roundcube-core"}
    # PostgreSQL creates its cluster as a file says, and one unit stands before its package's own.
    assert not {"postgresql-17", "policyd-rate-limit"} & wanted["front1"]
    assert "clamav-daemon" not in wanted["front1"]


def test_hosts_of_a_kind_share_an_image_that_is_built_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, built = {"base"}, []

    class Storage:
        def run(self, *words: str, **_: Any) -> Any:
            return SimpleNamespace(stdout="sha256:1\n", returncode=words[-1] not in known)

    def build(_podman: Any, _base: str, name: str, _needed: Needed) -> None:
        built.append(name)
        known.add(name)

    monkeypatch.setattr(prepared, "_build", build)
    wanted = {"mx1": Needed(["postfix"]), "mx2": Needed(["postfix"]), "store1": Needed(["age"])}
    podman = cast(Podman, Storage())
    images = prepared.ensure(podman, "base", wanted)
    assert images["mx1"] == images["mx2"] != images["store1"]
    assert sorted(built) == sorted({images["mx1"], images["store1"]})
    assert prepared.ensure(podman, "base", wanted) == images
    assert len(built) == 2
