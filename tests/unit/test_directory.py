"""The directory role without a directory: LDIF, the comparison of cn=config, the seed."""

import base64
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pyinfra.api.exceptions import FactError, OperationError

from roles.common.rendering import render
from roles.common.secrets import Secrets
from roles.common.site import ROOT, Site, SiteHost, load
from roles.directory import operations
from roles.directory.config import difference
from roles.directory.facts import (
    CONFIG,
    DATA,
    REPLICATOR,
    WORDS,
    Behind,
    DirectoryText,
    Holding,
    Written,
)
from roles.directory.ldif import Change, entries, normalized, parse
from roles.directory.settings import DirectorySettings
from roles.directory.tree import SERVICES, hashed, hashed_generated, one_time, policies, tree

PASSWORDS = ROOT / "roles/directory/files/passwords"
FOUND = """\
dn: cn=config
objectClass: olcGlobal
cn: config
olcLogLevel: stats
structuralObjectClass: olcGlobal
entryCSN: 20261123204912.777494Z#000000#000#000000

dn: cn=module{0},cn=config
objectClass: olcModuleList
cn: module{0}
olcModuleLoad: {0}back_mdb
olcModuleLoad: {1}argon2 m=19456 t=2 p=1

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

dn: cn={0}core,cn=schema,cn=config
objectClass: olcSchemaConfig
cn: {0}core

dn: olcDatabase={1}mdb,cn=config
objectClass: olcMdbConfig
olcDatabase: {1}mdb
olcSuffix: dc=example
olcAccess: {0}to attrs=userPassword by self =xw by * none
olcAccess: {1}to * by * none
olcDbIndex: mail eq
olcDbIndex: cn eq,sub

dn: olcOverlay={0}ppolicy,olcDatabase={1}mdb,cn=config
objectClass: olcPPolicyConfig
olcOverlay: {0}ppolicy
"""
WANTED = """\
# A comment,
#  continued.
dn: cn=config
objectClass: olcGlobal
cn: config
olcLogLevel: stats

dn: cn=module{0},cn=config
objectClass: olcModuleList
cn: module{0}
olcModuleLoad: back_mdb
olcModuleLoad: argon2 m=19456 t=2 p=1

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif

dn: olcDatabase={1}mdb,cn=config
objectClass: olcMdbConfig
olcDatabase: {1}mdb
olcSuffix: dc=example
# Why.
olcAccess: to attrs=userPassword
  by self =xw
  by * none
olcAccess: to * by * none
olcDbIndex: cn eq,sub
olcDbIndex: mail eq

dn: olcOverlay={0}ppolicy,olcDatabase={1}mdb,cn=config
objectClass: olcPPolicyConfig
olcOverlay: {0}ppolicy
"""


def test_the_same_configuration_has_no_difference() -> None:
    found = difference(WANTED, FOUND)
    assert (found.rebuild, found.changes, found.words) == ((), (), ())


def test_a_value_is_changed_while_slapd_runs() -> None:
    found = difference(WANTED.replace("olcLogLevel: stats", "olcLogLevel: stats sync"), FOUND)
    assert found.rebuild == ()
    assert found.changes == (Change("modify", "cn=config", {"olcLogLevel": ["stats sync"]}),)
    assert found.words == (
        "cn=config: - olcLogLevel: stats",
        "cn=config: + olcLogLevel: stats sync",
    )


def test_the_order_of_access_rules_counts_and_that_of_indexes_does_not() -> None:
    first, second = re.findall(r"olcAccess: \{\d\}(.*)", FOUND)
    swapped = FOUND.replace(first, "held").replace(second, first).replace("held", second)
    found = difference(WANTED, swapped)
    assert [list(change.attributes) for change in found.changes] == [["olcAccess"]]


def test_a_value_that_is_no_longer_wanted_is_removed() -> None:
    found = difference(
        WANTED, FOUND.replace("olcLogLevel: stats", "olcLogLevel: stats\nolcIdleTimeout: 5")
    )
    assert found.changes == (Change("modify", "cn=config", {"olcIdleTimeout": []}),)
    assert "replace: olcIdleTimeout\n-\n" in found.changes[0].ldif()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("olcModuleLoad: argon2 m=19456", "olcModuleLoad: argon2 m=32768"),
        ("olcModuleLoad: back_mdb", "olcModuleLoad: back_mdb\nolcModuleLoad: unique"),
        ("core.ldif", "core.ldif\n\ninclude: file:///etc/ldap/schema/misc.ldif"),
        ("olcOverlay={0}ppolicy,", "olcOverlay={0}unique,"),
        ("olcSuffix: dc=example", "olcSuffix: dc=test"),
    ],
)
def test_what_slapd_cannot_change_is_built_anew(old: str, new: str) -> None:
    assert difference(WANTED.replace(old, new), FOUND).rebuild


def test_an_index_is_built_with_slapd_stopped() -> None:
    modules = ("olcModuleLoad: back_mdb", "olcModuleLoad: back_mdb\nolcModuleLoad: unique")
    assert not difference(WANTED.replace(*modules), FOUND).reindex
    found = difference(WANTED.replace("olcDbIndex: mail eq", "olcDbIndex: mail eq,sub"), FOUND)
    assert found.rebuild == ("olcdatabase={1}mdb,cn=config: olcDbIndex",)
    assert found.reindex


def test_an_overlay_added_by_hand_is_not_expected() -> None:
    extra = "\ndn: olcOverlay={1}unique,olcDatabase={1}mdb,cn=config\nolcOverlay: {1}unique\n"
    assert difference(WANTED, FOUND + extra).rebuild == (
        "olcoverlay=unique,olcdatabase={1}mdb,cn=config: not expected",
    )


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(
            lambda name: name not in ("dn", "changetype")
        ),
        st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1),
        max_size=4,
    )
)
def test_ldif_keeps_every_value(attributes: dict[str, list[str]]) -> None:
    text = Change("add", "cn=a,dc=example", attributes).ldif()
    assert text.isascii()
    ((dn, read),) = parse(text.splitlines())
    assert dn == "cn=a,dc=example"
    assert read == {"changetype": ["add"], **attributes}


def test_ldif_is_read_as_slapcat_prints_it() -> None:
    value = base64.b64encode("Sở Nội vụ".encode()).decode()
    text = f"dn: OU=snv, dc=Example\ndisplayName:: {value}\nentryUUID: 1\nlong: a\n b\n\n"
    assert entries(text.splitlines()) == {
        "ou=snv,dc=example": {"displayName": ["Sở Nội vụ"], "long": ["ab"]}
    }
    assert normalized(" OU=a , DC=b") == "ou=a,dc=b"


def seed(site: Site, host: SiteHost) -> str:
    """The seed of a directory host."""
    schema = (ROOT / "roles/directory/files/schema.ldif").read_text(encoding="utf-8")
    return render(
        "directory/etc/ldap/slapd.ldif.j2",
        {
            "site": site,
            "host": host,
            "secrets": Secrets(),
            "settings": site.of(DirectorySettings),
            "schema": schema,
        },
    )


@pytest.fixture(scope="module", params=["local", "production"])
def seeds(request: pytest.FixtureRequest) -> list[str]:
    """The seed of every directory host of an environment."""
    site = load(request.param)
    return [seed(site, host) for host in site.group("directory")]


def test_each_directory_host_has_a_number_and_follows_the_others(seeds: list[str]) -> None:
    numbers = [re.findall(r"^olcServerID: (\d+)$", seed, re.MULTILINE) for seed in seeds]
    assert numbers == [[str(number)] for number in range(1, len(seeds) + 1)]
    for number, seed in enumerate(seeds, 1):
        providers = re.findall(r"^olcSyncrepl: rid=(\d+) provider=ldaps://\S+ ", seed, re.MULTILINE)
        assert sorted(map(int, providers)) == [
            other for other in range(1, len(seeds) + 1) if other != number
        ]
        assert ("olcMultiProvider: TRUE" in seed) == (len(seeds) > 1)


@pytest.mark.parametrize("environment", ["local", "production"])
def test_only_other_directory_hosts_replicate_and_from_their_addresses(environment: str) -> None:
    site = load(environment)
    for host in site.group("directory"):
        rules = [line for line in seed(site, host).splitlines() if line.startswith("olcAccess:")]
        peers = [f"{other.address} read" for other in site.group("directory") if other != host]
        named = [
            re.findall(r'cn=replicator,[^"]+" peername\.ip=(\S+ read)', rule) for rule in rules
        ]
        # The audit log and the data; and never without an address.
        assert [found for found in named if found] == ([peers] * 2 if peers else [])
        assert sum(rule.count("cn=replicator") for rule in rules) == 2 * len(peers)


def test_every_attribute_that_is_asked_for_is_indexed(seeds: list[str]) -> None:
    indexed = {
        name
        for line in re.findall(r"^olcDbIndex: (\S+) ", seeds[0], re.MULTILINE)
        for name in line.split(",")
    }
    asked = {"objectClass", "mail", "mailLocalAddress", "mailboxSendAs", "mailboxState"}
    unique = re.findall(r"^olcUniqueURI: serialize ldap:///\?(\w+)\?", seeds[0], re.MULTILINE)
    references = re.findall(r"^olcRefintAttribute: (\w+)$", seeds[0], re.MULTILINE)
    assert unique
    assert references
    assert asked | {*unique} | {*references} <= indexed


def test_every_schema_number_is_given_once() -> None:
    schema = (ROOT / "roles/directory/files/schema.ldif").read_text(encoding="utf-8")
    numbers = re.findall(r"\( (site(?:Attribute|Class):\d+) NAME", schema)
    assert len(numbers) == len(set(numbers)) > 30


def test_a_hash_of_the_same_password_is_the_same_only_with_a_salt_of_its_own() -> None:
    settings = DirectorySettings()
    salt = bytes(16)
    generated = hashed_generated("secret", settings, salt)
    assert generated == hashed_generated("secret", settings, salt)
    assert generated != hashed_generated("secret", settings)
    assert generated.startswith("{ARGON2}$argon2id$v=19$m=256,t=1,p=1$")
    assert hashed("secret", settings) != hashed("secret", settings)
    assert hashed("secret", settings).startswith("{ARGON2}$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_tree_names_every_service_after_its_policy() -> None:
    site = load("local")
    names = [dn for dn, _ in tree(site, site.of(DirectorySettings))]
    for service in SERVICES:
        assert f"cn={service},ou=services,{site.base_dn}" in names
    assert names[0] == site.base_dn
    assert names.index(f"cn=services,ou=policies,{site.base_dn}") < names.index(
        f"cn=postfix,ou=services,{site.base_dn}"
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "behind"),
    [
        ({1: 5, 2: 7}, {1: 5, 2: 7}, False),
        ({1: 5}, {1: 6, 2: 7}, False),
        ({1: 5, 2: 8}, {1: 6, 2: 7}, True),
        ({1: 5, 2: 8}, {1: 5}, True),
        ({1: 5}, {}, True),
        ({}, {1: 5}, False),
        ({}, {}, False),
    ],
)
def test_a_host_is_behind_when_it_lacks_a_change_of_any_host(
    tmp_path: Path, theirs: dict[int, int], ours: dict[int, int], behind: bool
) -> None:
    def answer(numbers: dict[int, int]) -> str:
        lines = [
            f"contextCSN: 2026112300000{second}.000000Z#000000#{host:03}#000000"
            for host, second in numbers.items()
        ]
        return "\n".join(["dn: dc=example", *lines])

    stub = tmp_path / "ldapsearch"
    stub.write_text(
        f"#!/bin/sh\ncase \"$*\" in *ldapi*) echo '{answer(ours)}' ;;"
        f" *) echo '{answer(theirs)}' ;; esac\n"
    )
    stub.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("x")
    command = str(Behind().command(["other.example"], "dc=example", "cn=replicator"))
    command = command.replace(REPLICATOR, str(secret)).replace("/run/", f"{tmp_path}/")
    shown = subprocess.run(
        ["sh", "-c", command.replace("sleep 1", "true")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    assert Behind().process(shown.stdout.splitlines()) == (["other.example"] if behind else [])


# -- passwords -----------------------------------------------------------------------------------


def test_every_policy_is_of_its_name_and_only_peoples_have_a_lock() -> None:
    found = policies(DirectorySettings(lockout_failures=7))
    assert {name: policy["cn"] for name, policy in found.items()} == {
        name: [name] for name in ("default", "imported", "applications", "services")
    }
    locked = {name for name, policy in found.items() if policy["pwdLockout"] == ["TRUE"]}
    assert locked == {"default", "imported"}
    assert {found[name]["pwdMaxFailure"][0] for name in locked} == {"7"}


def test_a_onetime_password_is_one_change() -> None:
    site = load("local")
    now = datetime(2026, 11, 30, 7, 0, tzinfo=timezone(timedelta(hours=7)))
    ldif = one_time(site, f"employeeNumber=1,ou=people,{site.base_dn}", "mot lan", now).ldif()
    assert "mot lan" not in ldif
    assert "userPassword: {ARGON2}$argon2id$" in ldif
    assert "replace: pwdReset\npwdReset: TRUE\n" in ldif
    assert "replace: pwdEndTime\npwdEndTime: 20261203000000Z\n" in ldif


def test_what_a_password_is_compared_with_is_one_value_of_lines() -> None:
    (argument,) = policies(DirectorySettings())["default"]["pwdCheckModuleArg"]
    assert f"cracklibDict {WORDS}/words" in argument.splitlines()
    assert "useCracklib 1" in argument.splitlines()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is not there"), (b"m\xe1t", "expected a file in UTF-8")]
)
def test_a_list_of_words_is_read_before_the_first_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    monkeypatch.setattr("roles.directory.settings.ROOT", tmp_path)
    if content is not None:
        (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(ValidationError, match=words):
        DirectorySettings(forbidden_lists=["own.txt"])


@pytest.fixture
def packed(tmp_path: Path) -> Callable[[str], set[str]]:
    """Packs words; returns the forms that cracklib's packer is given."""
    packer = tmp_path / "cracklib-packer"
    packer.write_text('#!/bin/sh\ncat > "$1.pwd"\n')
    packer.chmod(0o755)
    program = (PASSWORDS / "pack").read_text(encoding="utf-8")
    (tmp_path / "pack").write_text(program.replace("/usr/sbin/cracklib-packer", str(packer)))
    names = tmp_path / "names.txt"
    names.write_text("# Names.\nfamily: Đỗ\nmiddle: Văn\ngiven: Ấn\n", encoding="utf-8")

    def pack(words: str) -> set[str]:
        own = tmp_path / "own.txt"
        own.write_text(words, encoding="utf-8")
        target = tmp_path / "words"
        subprocess.run([sys.executable, tmp_path / "pack", target, names, own], check=True)
        lines = (target / "words.pwd").read_bytes().splitlines()
        assert lines == sorted(set(lines))
        return {line.decode() for line in lines}

    return pack


def test_words_are_packed_in_every_way_of_typing_them(packed: Callable[[str], set[str]]) -> None:
    forms = packed("# No word.\nBưởi da xanh\n")
    assert {"bưởi da xanh", "buoi da xanh", "bưởidaxanh", "buoidaxanh"} <= forms
    assert {"buoidaxanh7", "buoidaxanh20", "buoidaxanh@20", "buoidaxanhbuoidaxanh"} <= forms
    assert {"dovanan", "do van an", "đỗ văn ấn", "dovanan19", "dovanan@2", "ando"} <= forms
    assert not any("no word" in form for form in forms)
    # In its other normal form, and packed again over the former list.
    assert "mật mã" in packed(unicodedata.normalize("NFD", "Mật mã\n"))


def test_the_lists_are_in_proper_spelling() -> None:
    for name in ("words.txt", "names.txt"):
        text = (PASSWORDS / name).read_text(encoding="utf-8")
        assert text == unicodedata.normalize("NFC", text)
        lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
        assert [line for line in lines if line != line.strip()] == []
        assert len(lines) == len(set(lines))


# -- on a host, with programs that stand for slapd's -----------------------------------------------


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder of programs; each that is not written yet does nothing. What they do is logged."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("slapadd", "slapindex", "slapcat", "chown"):
        program(folder, name, "true")
    program(folder, "runuser", 'shift 3; exec "$@"')
    program(folder, "systemctl", f"echo $1 >> {tmp_path}/log")
    (tmp_path / "slapd.d").mkdir()
    (tmp_path / "slapd.d" / "config").write_text("old")
    (tmp_path / "data.mdb").write_text("data")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def run_on(stubs: Path, command: object) -> subprocess.CompletedProcess[str]:
    """Run a command of a host, with its folders below the test's."""
    here = str(stubs.parent)
    text = str(command).replace(CONFIG, f"{here}/slapd.d").replace(DATA, here)
    return subprocess.run(
        ["sh", "-c", text.replace("/run/", f"{here}/")],
        env={"PATH": f"{stubs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("active", "left"), [(True, ["stop", "start"]), (False, ["stop"])])
@pytest.mark.parametrize("fails", ["slapindex", "mv"])
def test_slapd_goes_on_with_what_it_had_where_a_rebuild_fails(
    stubs: Path, active: bool, left: list[str], fails: str
) -> None:
    # Of the two moves the second one.
    second = 'case "$2" in *.new) exit 1 ;; esac; exec /bin/mv "$@"'
    program(stubs, fails, second if fails == "mv" else "exit 1")
    results = [
        run_on(stubs, command).returncode
        for command in operations._build("/seed", "dc=example", active=active)
    ]
    assert results == [0, 1]
    assert (stubs.parent / "log").read_text().split() == left
    if active or fails == "slapindex":
        assert (stubs.parent / "slapd.d" / "config").read_text() == "old"


def test_a_rebuilt_configuration_is_in_place_and_slapd_is_started_by_the_caller(
    stubs: Path,
) -> None:
    program(stubs, "slapadd", f"touch {stubs.parent}/slapd.d.new/built")
    for command in operations._build("/seed", "dc=example", active=True):
        assert run_on(stubs, command).returncode == 0
    assert (stubs.parent / "log").read_text().split() == ["stop"]
    assert [path.name for path in (stubs.parent / "slapd.d").iterdir()] == ["built"]


ENTRY = "dn: dc=example\nobjectClass: organization\nuserPassword:: c2VjcmV0\nentryCSN: 1\n"


def test_entries_are_read_without_hashes_unless_asked_for(stubs: Path) -> None:
    program(stubs, "slapcat", f"echo 'a warning' >&2; printf '{ENTRY}'")
    for hashes, shown in ((False, "userPassword: *"), (True, "userPassword:: c2VjcmV0")):
        done = run_on(stubs, DirectoryText().command("dc=example", hashes=hashes))
        text = DirectoryText().process(done.stdout.splitlines())
        assert text == f"dn: dc=example\nobjectClass: organization\n{shown}\n"


def test_only_what_is_needed_is_sent(stubs: Path) -> None:
    text = "dn:: eA==\ncn: x\ncnx: x\nmail:: eA==\nuserPassword:: c2VjcmV0\n\ndn: dc=y\ncn: y\n"
    program(stubs, "slapcat", f"printf '{text}'; echo \"$*\" > {stubs}/asked")
    for attributes, shown in (
        (("mail", "dc"), "dn:: eA==\nmail:: eA==\n\ndn: dc=y\n"),
        (("cn", "userPassword"), "dn:: eA==\ncn: x\nuserPassword: *\n\ndn: dc=y\ncn: y\n"),
    ):
        command = DirectoryText().command("dc=example", attributes, where="(cn=x)")
        assert DirectoryText().process(run_on(stubs, command).stdout.splitlines()) == shown
    assert "-s dc=example -a (cn=x)" in (stubs / "asked").read_text()


def test_a_database_tells_when_it_was_written(stubs: Path) -> None:
    def written() -> str:
        return Written().process(run_on(stubs, Written().command()).stdout.splitlines())

    before = written()
    assert written() == before != ""
    [file] = stubs.parent.rglob("data.mdb")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert written() not in ("", before)
    file.unlink()
    assert written() == ""


def test_what_cannot_be_read_is_not_empty(stubs: Path) -> None:
    program(stubs, "slapcat", f"printf '{ENTRY}'; echo 'disk on fire' >&2; exit 1")
    for fact in (DirectoryText(), Holding()):
        done = run_on(stubs, fact.command("dc=example"))
        with pytest.raises(FactError, match=r"cannot be read: .*disk on fire"):
            fact.process(done.stdout.splitlines())
    # Nor where a change that was left running does not end.
    program(stubs, "slapcat", "true")
    program(stubs, "flock", "exit 1")
    done = run_on(stubs, DirectoryText().command("dc=example"))
    with pytest.raises(FactError, match="cannot be read"):
        DirectoryText().process(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("text", "holds"),
    [("", "nothing"), (ENTRY, "part"), (f"{ENTRY}contextCSN: 20261123#1\n", "all")],
)
def test_a_first_copy_is_not_whole_before_its_number_is_written(
    stubs: Path, text: str, holds: str
) -> None:
    program(stubs, "slapcat", f"printf '{text}'")
    done = run_on(stubs, Holding().command("dc=example"))
    lines = done.stdout.splitlines()
    assert (Holding().process(lines) if lines else Holding().default()) == holds
    (stubs.parent / "data.mdb").unlink()
    assert run_on(stubs, Holding().command("dc=example")).stdout == ""


# -- what the first directory host is filled with --------------------------------------------------


class Directories:
    """Directory hosts that stand for those of a run: what each of them says of itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def first(
        self,
        own: str = "nothing",
        behind: Sequence[str] = (),
        seen: Sequence[str] = (),
        *,
        executing: bool = True,
        prepared: bool = True,
        text: str = "",
    ) -> None:
        """The first host.

        Args:
            own: what it holds.
            behind: peers that answer and know more.
            seen: what each peer holds that is deployed in this run.
            executing: whether the run has begun.
            prepared: whether it can ask its peers already.
            text: its entries.
        """

        def fact(holds: str) -> Any:
            facts = {
                "Holding": holds, "Behind": list(behind), "File": prepared or None,
                "SlapdConfig": SimpleNamespace(active=False), "DirectoryText": text,
            }  # fmt: skip

            def answer(cls: type, **arguments: Any) -> Any:
                self.asked.append((cls.__name__, arguments))
                return facts[cls.__name__]

            return answer

        me = SimpleNamespace(name="directory1", print_prefix="", get_fact=fact(own))
        others = [
            SimpleNamespace(name=f"directory{number}", get_fact=fact(holds))
            for number, holds in enumerate(seen, 2)
        ]
        inventory = SimpleNamespace(
            get_active_hosts=lambda: [me, *others, SimpleNamespace(name="mx1")]
        )
        self.monkeypatch.setattr(operations, "host", me)
        self.monkeypatch.setattr(
            operations, "state", SimpleNamespace(is_executing=executing, inventory=inventory)
        )


@pytest.fixture
def directories(monkeypatch: pytest.MonkeyPatch) -> Directories:
    return Directories(monkeypatch)


PEERS = ["directory2.example"]
FIRST = [("dc=example", {"dc": ["example"]})]


def filled(peers: Sequence[str] = PEERS) -> bool:
    """Whether the first entries are loaded."""
    run = operations.first_entries._inner
    return bool(list(run(wanted=FIRST, base="dc=example", peers=peers)))


def stepped(peers: Sequence[str] = PEERS) -> list[object]:
    """The commands that wait for other hosts."""
    run = operations.in_step._inner
    return list(run(base="dc=example", peers=peers, replicator="cn=replicator"))


def test_a_first_installation_fills_the_first_directory(directories: Directories) -> None:
    directories.first(seen=["nothing"])
    assert filled()
    assert stepped() == []
    directories.first()
    assert filled(peers=[])
    assert stepped(peers=[]) == []
    # Later on everybody is in step, whether the other one answers or not.
    directories.first("all")
    assert stepped() == []


def test_a_directory_that_is_built_anew_is_filled_by_the_others_only(
    directories: Directories,
) -> None:
    for holds in ("part", "all"):
        directories.first(seen=[holds], behind=PEERS)
        assert not filled()
        assert len(stepped()) == 1
    directories.first(behind=PEERS)
    assert not filled()
    assert len(stepped()) == 1
    # Of several, all are seen to be empty.
    directories.first(seen=["nothing"])
    assert not filled(peers=[*PEERS, "directory3.example"])


@pytest.mark.parametrize("own", ["nothing", "part"])
@pytest.mark.parametrize("seen", [[], ["all"], ["part"]])
def test_an_empty_directory_is_not_filled_while_another_does_not_answer(
    directories: Directories, own: str, seen: list[str]
) -> None:
    directories.first(own, seen=seen)
    assert not filled()
    (command,) = stepped()
    done = subprocess.run(["sh", "-c", str(command)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "directory2.example. Expected slapd to run there" in done.stderr


def test_before_a_run_it_is_refused_only_what_the_run_does_not_change(
    directories: Directories,
) -> None:
    directories.first(seen=["all"], executing=False)
    assert stepped() == []
    directories.first(executing=False, prepared=False)
    assert stepped() == []
    directories.first(executing=False)
    with pytest.raises(OperationError):
        stepped()


def test_hashes_of_services_alone_leave_the_host(directories: Directories) -> None:
    directories.first("all", text="dn: dc=example\ndc: example\n")
    run = operations.directory_entries._inner
    assert list(run(wanted=FIRST, base="dc=example")) == []
    read = [arguments for name, arguments in directories.asked if name == "DirectoryText"]
    assert [arguments["base"] for arguments in read if arguments.get("hashes")] == [
        "ou=services,dc=example"
    ]
    # Nor do people, to whom this has nothing to say.
    (entries,) = [arguments for arguments in read if not arguments.get("hashes")]
    assert "mailboxAccount" not in entries["where"]
    assert "(objectClass=*)" not in entries["where"]
