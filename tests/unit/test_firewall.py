"""The firewall: who may connect follows from the groups, and from nothing else."""

import copy
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from roles.base.firewall import Flow, Rule, rules
from roles.common.rendering import render
from roles.common.site import ROOT, Site, load, parse

SOURCE = ROOT / "inventories" / "production" / "site.toml"
PRODUCTION: dict[str, Any] = tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def sources(found: list[Rule], port: int) -> tuple[str, ...]:
    (only,) = [rule.sources for rule in found if port in rule.ports]
    return only


def addresses(site: Site, *names: str) -> set[str]:
    return {site.hosts[name].address for name in names}


def test_the_directory_answers_its_own_hosts_only() -> None:
    site = load("production")
    found = rules(site, site.hosts["directory1"])
    assert {port for rule in found for port in rule.ports} == {22, 636}
    expected = addresses(
        site, "directory2", "store1", "store2", "mx1", "mx2", "front1", "front2", "backup1"
    )
    assert set(sources(found, 636)) == {*expected, "203.0.113.0/28"}


@pytest.mark.regulation("3")
def test_ssh_is_answered_from_the_management_network_alone() -> None:
    site = load("production")
    for host in site.hosts.values():
        assert sources(rules(site, host), 22) == ("203.0.113.0/28",)


@pytest.mark.regulation("3")
def test_clients_may_be_narrowed_to_the_units_networks() -> None:
    document = copy.deepcopy(PRODUCTION)
    document["site"]["networks"]["clients"] = ["198.51.100.0/25", "198.51.100.128/25"]
    site = parse(document, SOURCE)
    found = rules(site, site.hosts["front1"])
    for port in (80, 443, 143, 993, 995, 465, 587, 636, 4190):
        assert sources(found, port) == ("198.51.100.0/24", "203.0.113.0/28"), port


def test_mail_comes_from_everywhere_and_the_relay_from_the_hosts() -> None:
    site = load("production")
    found = rules(site, site.hosts["mx1"])
    assert sources(found, 25) == ()
    assert addresses(site, "front1", "front2", "store1", "store2") <= set(sources(found, 10025))


def test_one_host_in_every_group_opens_only_what_others_use() -> None:
    site = load("single")
    (host,) = site.hosts.values()
    found = rules(site, host)
    assert {port for rule in found for port in rule.ports} == {
        22, 25, 80, 143, 443, 465, 587, 636, 993, 995, 3269, 4190,
    }  # fmt: skip
    assert host.address not in {source for rule in found for source in rule.sources}
    # What is for the site's hosts alone has no rule: it is this host, by loopback.
    assert not [rule for rule in found if {24, 5432, 10025} & set(rule.ports)]


def test_a_port_of_two_groups_is_open_for_both() -> None:
    document = copy.deepcopy(PRODUCTION)
    document["site"]["networks"]["clients"] = ["198.51.100.0/24"]
    document["hosts"]["store1"]["groups"] = ["store", "front"]
    site = parse(document, SOURCE)
    found = sources(rules(site, site.hosts["store1"]), 993)
    assert {"198.51.100.0/24", *addresses(site, "front1", "front2", "store2")} <= set(found)
    assert site.hosts["store1"].address not in found


def test_networks_never_overlap() -> None:
    site = load("production")
    flows = [Flow("x", ("mx",), (7,), ("clients", "store", "management"))]
    assert rules(site, site.hosts["mx1"], flows) == [Rule((7,), ("0.0.0.0/0",), "x")]


def test_ports_with_the_same_sources_share_a_rule() -> None:
    site = load("local")
    flows = [Flow("a", ("mx",), (9, 7), ("store",)), Flow("b", ("mx",), (8,), ("store",))]
    assert rules(site, site.hosts["mx1"], flows) == [
        Rule((7, 8, 9), (site.hosts["store1"].address,), "a, b")
    ]


@pytest.mark.skipif(not shutil.which("nft"), reason="nftables is not installed")
@pytest.mark.parametrize("environment", ["local", "single", "pair", "staging", "production"])
def test_nftables_takes_the_rules_of_every_host(environment: str, tmp_path: Path) -> None:
    site = load(environment)
    for host in site.hosts.values():
        file = tmp_path / host.name
        file.write_text(render("base/etc/nftables.conf.j2", {"rules": rules(site, host)}))
        # In a network namespace of its own where that is possible: this machine's is untouched.
        done = subprocess.run(
            ["unshare", "--net", "nft", "-c", "-f", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if "unshare failed" in done.stderr:
            pytest.skip("needs root")
        assert done.returncode == 0, done.stderr
