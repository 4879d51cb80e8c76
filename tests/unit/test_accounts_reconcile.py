"""From the registry to the directory: any registry after any other, in any order, cut off anywhere.

A directory in memory stands for slapd: it applies the same steps and refuses what the overlay
`unique` refuses.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from roles.accounts.deploy import site_registry
from roles.accounts.reconcile import Plan, Target, reconcile, with_passwords
from roles.accounts.registry import Delegation, Person, Registry, Right, Unit
from roles.accounts.settings import AccountsSettings
from roles.common.errors import SiteError
from roles.common.site import load
from roles.directory.ldif import Change, Entries, entries, normalized

BASE = "dc=example,dc=vn"
TARGET = Target(
    base=BASE,
    domain="example.vn",
    stores=["store-a.example.vn"],
    role_addresses=["postmaster", "abuse", "root"],
    settings=AccountsSettings(postmaster_unit="a"),
    now=datetime(2026, 1, 1, tzinfo=UTC),
)
CODES = ("a", "b", "b.x", "b.y")
LOCAL = ("p", "q", "anv", "anv2", "r")


def unit(code: str, **more: object) -> Unit:
    parent = code.rpartition(".")[0]
    return replace(Unit(code, f"Sở {code}", "department", parent), **more)  # type: ignore[arg-type]


def person(person_id: str, name: str = "Nguyễn Văn A", **more: object) -> Person:
    return replace(Person(person_id, name, "a"), **more)  # type: ignore[arg-type]


def registry(
    people: Sequence[Person] = (),
    units: Sequence[Unit] = (unit("a"),),
    delegations: Sequence[Delegation] = (),
) -> Registry:
    return Registry(
        {entry.code: entry for entry in units},
        {entry.id: entry for entry in people},
        frozenset(delegations),
    )


@st.composite
def registries(draw: st.DrawFn) -> Registry:
    """A valid registry: few names, IDs and addresses, so that they collide often."""
    codes = ["a", *draw(st.sets(st.sampled_from(("b", "b.x", "b.y"))))]
    if any(code.startswith("b.") for code in codes) and "b" not in codes:
        codes.append("b")
    free = draw(st.permutations(LOCAL))
    names = st.sampled_from(("Nguyễn Văn A", "Nguyễn Vân A", "Ngô Vũ Ấ", "Trần Thị Q"))
    people = []
    for person_id in draw(st.sets(st.sampled_from(("1", "2", "3", "10")))):
        named: bool = draw(st.booleans())
        called: bool = draw(st.booleans())
        people.append(
            Person(
                person_id,
                draw(names),
                draw(st.sampled_from(codes)),
                address=free.pop() if free and named else "",
                aliases=(free.pop(),) if free and called else (),
                state=draw(st.sampled_from(("active", "locked"))),
            )
        )
    ids = [entry.id for entry in people]
    given = st.builds(
        Delegation, st.sampled_from(codes), st.sampled_from(ids or ["-"]),
        st.sampled_from(get_args(Right)),
    )  # fmt: skip
    delegations = draw(st.sets(given, max_size=5)) if ids else set()
    head = draw(st.sampled_from(["", *ids]))
    units = [unit(code, head=head if code == "a" else "") for code in codes]
    return registry(people, units, sorted(delegations, key=repr))


def apply(directory: Entries, changes: Sequence[Change]) -> Entries:
    """The directory after some steps."""
    after = {dn: dict(attributes) for dn, attributes in directory.items()}
    for change in changes:
        # Through the text that slapd gets.
        ((dn, attributes),) = entries(change.ldif().splitlines()).items()
        if change.kind == "add":
            assert dn not in after
            after[dn] = {n: v for n, v in attributes.items() if n != "changetype"}
        elif change.kind == "delete":
            assert not [other for other in after if other.endswith(f",{dn}")]
            del after[dn]
        else:
            for name, values in change.attributes.items():
                assert name in after[dn] or values, "slapd refuses to remove what is not there"
                after[dn] = {**after[dn], name: list(values)}
                if not values:
                    del after[dn][name]
        held = [a for e in after.values() for a in {*e.get("mailLocalAddress", ())}]
        assert len(held) == len(set(held)), "the overlay unique refuses this"
    return after


def brought(directory: Entries, *wanted: Registry) -> Entries:
    """The directory after one registry after the other."""
    for one in wanted:
        directory = apply(directory, planned(one, directory).changes)
    return directory


def planned(wanted: Registry, directory: Entries, **more: object) -> Plan:
    return reconcile(wanted, directory, replace(TARGET, **more))  # type: ignore[arg-type]


def possible(*wanted: Registry) -> Entries:
    """As `brought`, passing over histories that the registry refuses."""
    try:
        return brought({}, *wanted)
    except SiteError:
        assume(False)
        raise


def outcome(wanted: Registry, directory: Entries) -> object:
    """The steps of a plan, or that it is refused."""
    try:
        return planned(wanted, directory).changes
    except SiteError:
        return "refused"


def addresses(directory: Entries) -> dict[str, str]:
    """Who has each address."""
    return {
        address: dn
        for dn, entry in directory.items()
        for address in entry.get("mailLocalAddress", ())
    }


@given(st.lists(registries(), min_size=1, max_size=4))
@settings(deadline=None)
def test_apply_after_plan_leaves_nothing_to_do(history: list[Registry]) -> None:
    directory = possible(*history)
    assert planned(history[-1], directory).changes == ()


@given(st.lists(registries(), min_size=1, max_size=2), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_rows_does_not_matter(history: list[Registry], random: object) -> None:
    *before, last = history
    directory = possible(*before)
    units, people = list(last.units.items()), list(last.people.items())
    random.shuffle(units)  # type: ignore[attr-defined]
    random.shuffle(people)  # type: ignore[attr-defined]
    shuffled = Registry(dict(units), dict(people), last.delegations)
    assert outcome(shuffled, directory) == outcome(last, directory)


@given(st.lists(registries(), min_size=1, max_size=3), st.data())
@settings(deadline=None)
def test_a_run_that_is_cut_off_is_completed_by_the_next(
    history: list[Registry], data: st.DataObject
) -> None:
    *before, last = history
    directory = possible(*before)
    undisturbed = possible(*history)
    plan = planned(last, directory)
    steps = data.draw(st.integers(0, len(plan.changes)))
    half = apply(directory, plan.changes[:steps])
    assert apply(half, planned(last, half).changes) == undisturbed


@given(st.lists(registries(), min_size=2, max_size=4))
@settings(deadline=None)
def test_an_address_once_given_is_never_given_to_somebody_else(history: list[Registry]) -> None:
    possible(*history)
    owners: dict[str, str] = {}
    directory: Entries = {}
    for one in history:
        directory = brought(directory, one)
        for address, dn in addresses(directory).items():
            assert owners.setdefault(address, dn) == dn


@given(st.lists(registries(), min_size=1, max_size=3))
@settings(deadline=None)
def test_rights_stand_on_both_sides(history: list[Registry]) -> None:
    directory = possible(*history)
    for code, rights in history[-1].holders().items():
        mailbox = directory[f"cn={code},ou=mailboxes,{BASE}"]
        for holder in history[-1].people:
            entry = directory[normalized(TARGET.person(holder))]
            dn = TARGET.person(holder)
            assert (holder in rights["read"]) == (code in entry.get("mailboxGroup", ()))
            assert (holder in rights["read"]) == (dn in mailbox.get("mailboxReader", ()))
            assert (holder in rights["file"]) == (dn in mailbox.get("mailboxFiler", ()))
            assert (holder in rights["file"]) == (f"{code}+file" in entry.get("mailboxGroup", ()))
            assert (holder in rights["send"]) == (dn in mailbox.get("mailboxSender", ()))
            assert (holder in rights["send"]) == (
                f"{code}@example.vn" in entry.get("mailboxSendAs", ())
            )


def test_those_who_share_a_name_get_addresses_in_the_order_of_their_ids() -> None:
    directory = brought({}, registry([person("10"), person("9"), person("100")]))
    found = {dn.partition(",")[0]: entry["mail"] for dn, entry in directory.items()
             if ",ou=people," in dn}  # fmt: skip
    assert found == {
        "employeenumber=9": ["anv@example.vn"],
        "employeenumber=10": ["anv2@example.vn"],
        "employeenumber=100": ["anv3@example.vn"],
    }


def test_a_renamed_person_keeps_the_address_and_a_new_address_leaves_the_old_one_as_alias() -> None:
    married = brought({}, registry([person("1")]), registry([person("1", "Nguyễn Thị B")]))
    assert married["employeenumber=1,ou=people," + BASE]["mail"] == ["anv@example.vn"]
    moved = brought(married, registry([person("1", "Nguyễn Thị B", address="bnt")]))
    entry = moved["employeenumber=1,ou=people," + BASE]
    assert entry["mail"] == ["bnt@example.vn"]
    assert entry["mailLocalAddress"] == ["bnt@example.vn", "anv@example.vn"]


@pytest.mark.regulation("8")
def test_the_address_of_somebody_who_left_is_refused_to_others_and_given_back() -> None:
    left = brought({}, registry([person("1")]), registry([]))
    assert f"employeenumber=1,ou=people,{BASE}" not in left
    with pytest.raises(SiteError, match=r"anv@example\.vn is reserved for employeenumber=1"):
        planned(registry([person("2", address="anv")]), left)
    other = brought(left, registry([person("2")]))
    assert f"{addresses(other)['anv2@example.vn']}".startswith("employeenumber=2")
    back = brought(left, registry([person("1")]))
    assert back[f"employeenumber=1,ou=people,{BASE}"]["mail"] == ["anv@example.vn"]


@pytest.mark.parametrize(("before", "after"), [("a", "b"), ("b", "a")])
def test_the_postmasters_addresses_go_from_unit_to_unit(before: str, after: str) -> None:
    wanted = registry(units=(unit("a"), unit("b")))
    directory: Entries = {}
    for code in (before, after):
        of_unit = AccountsSettings(postmaster_unit=code)
        directory = apply(directory, planned(wanted, directory, settings=of_unit).changes)
        assert addresses(directory)["postmaster@example.vn"] == f"cn={code},ou=mailboxes,{BASE}"
        assert addresses(directory)["abuse@example.vn"] == f"cn={code},ou=mailboxes,{BASE}"
        assert planned(wanted, directory, settings=of_unit).changes == ()


def test_entries_of_others_are_reported_and_left_alone() -> None:
    dn = f"employeenumber=t1,ou=people,{BASE}"
    foreign = {dn: {"mail": ["anv@example.vn"], "mailLocalAddress": ["anv@example.vn"]}}
    plan = planned(registry([person("1")]), foreign)
    assert plan.unmanaged == (dn,)
    assert not [change for change in plan.changes if normalized(change.dn) == dn]
    assert plan.people["1"].address == "anv2@example.vn"
    with pytest.raises(SiteError, match="not made by the registry"):
        planned(registry([person("t1")]), foreign)


def test_what_an_administrator_added_to_an_entry_stays() -> None:
    directory = brought({}, registry([person("1")]))
    key = f"employeenumber=1,ou=people,{BASE}"
    directory[key]["jpegPhoto"] = ["x"]
    directory[key]["userPassword"] = ["*"]
    directory[f"cn=phone,{key}"] = {"cn": ["phone"], "userPassword": ["*"]}
    assert planned(registry([person("1")]), directory).changes == ()
    # Whoever leaves takes the passwords of applications along.
    assert [change.dn for change in planned(registry([]), directory).changes][-2:] == [
        f"cn=phone,{key}",
        key,
    ]


def test_a_state_of_the_mailboxs_life_is_not_taken_back() -> None:
    directory = brought({}, registry([person("1")]))
    directory[f"employeenumber=1,ou=people,{BASE}"]["mailboxState"] = ["departed"]
    assert planned(registry([person("1")]), directory).changes == ()


def test_a_mailbox_never_moves_by_the_way() -> None:
    two = ["store-a.example.vn", "store-b.example.vn"]
    wanted = registry([person("1", store="store-b")])
    directory = apply({}, planned(wanted, {}, stores=two).changes)
    assert directory[f"employeenumber=1,ou=people,{BASE}"]["mailHost"] == ["store-b.example.vn"]
    with pytest.raises(SiteError, match="moving a mailbox is a job of its own"):
        planned(registry([person("1", store="store-a")]), directory, stores=two)


def test_a_department_shares_a_store_and_who_shares_a_mailbox_must() -> None:
    stores = [f"store-{letter}.example.vn" for letter in "abcdef"]
    units = [unit("a"), unit("b"), unit("b.x"), unit("b.y")]
    people = [person(str(n), unit=CODES[n % 4]) for n in range(40)]
    plan = planned(registry(people, units), {}, stores=stores)
    hosts = {
        normalized(change.dn): change.attributes["mailHost"][0]
        for change in plan.changes
        if "mailHost" in change.attributes
    }
    below_b = {hosts[f"cn={code},ou=mailboxes,{BASE}"] for code in ("b", "b.x", "b.y")}
    below_b |= {
        hosts[f"employeenumber={entry.id},ou=people,{BASE}"]
        for entry in people
        if entry.unit != "a"
    }
    assert len(below_b) == 1
    apart = [person("1", store="store-a"), person("2", store="store-b")]
    given = [Delegation("a", "1", "read"), Delegation("a", "2", "read")]
    with pytest.raises(SiteError, match="expected both on one store"):
        planned(registry(apart, delegations=given), {}, stores=stores)


def test_a_department_goes_where_its_top_unit_does_in_the_run_that_makes_it() -> None:
    stores = [f"store-{letter}.example.vn" for letter in "abcdef"]
    for store in "abcdef":
        units = [unit("a"), unit("b", store=f"store-{store}"), unit("b.x")]
        people = [person("1", unit="b"), person("2", unit="b.x")]
        made = apply({}, planned(registry(people, units), {}, stores=stores).changes)
        for dn in ("cn=b,ou=mailboxes", "cn=b.x,ou=mailboxes", "employeenumber=1,ou=people",
                   "employeenumber=2,ou=people"):  # fmt: skip
            assert made[f"{dn},{BASE}"]["mailHost"] == [f"store-{store}.example.vn"]


def test_a_department_stays_together_when_a_store_is_added() -> None:
    units = [unit(code) for code in ("a", "b")]
    few = [person("1", unit="a"), person("2", unit="b")]
    more = [*few, person("3", unit="a"), person("10", unit="b")]
    before = apply({}, planned(registry(few, units), {}).changes)
    added = [f"store-{letter}.example.vn" for letter in "abcdefgh"]
    after = apply(before, planned(registry(more, units), before, stores=added).changes)
    for new in ("3", "10"):
        assert after[f"employeenumber={new},ou=people,{BASE}"]["mailHost"] == TARGET.stores


def test_the_plan_says_in_words_what_changes_and_no_password() -> None:
    directory = brought({}, registry([person("1"), person("2", title="Văn thư")]))
    later = registry([person("2", title="Giám đốc"), person("3", "Lê Văn C")])
    plan = planned(later, directory)
    assert plan.words == (
        "+ reserved address anv@example.vn: reservedFor employeenumber=1, reservedAs none",
        "+ person 3 <clv@example.vn> (Lê Văn C): departmentNumber a, mailHost store-a.example.vn, "
        "mailboxQuota 2147483648",
        "~ person 2 <anv2@example.vn> (Nguyễn Văn A): title: Văn thư -> Giám đốc",
        "- person 1 <anv@example.vn> (Nguyễn Văn A)",
    )
    assert plan.new == ("3",)
    complete = with_passwords(plan, {"3": "{ARGON2}x"})
    assert complete.words == plan.words
    added = [change for change in complete.changes if change.kind == "add"][-1]
    assert added.attributes["userPassword"] == ["{ARGON2}x"]


def test_a_change_of_one_attribute_is_one_small_step() -> None:
    directory = brought({}, registry([person("1")]))
    plan = planned(registry([person("1", phone="+84 273 000 001")]), directory)
    assert [change.ldif() for change in plan.changes] == [
        f"dn: employeeNumber=1,ou=people,{BASE}\nchangetype: modify\n"
        "replace: telephoneNumber\ntelephoneNumber: +84 273 000 001\n-\n\n"
    ]


def test_the_lab_has_what_the_other_tests_need() -> None:
    """Two members of a unit mailbox, one of the unit who is none, a tiny mailbox, a locked one."""
    lab = site_registry(load("local"))
    holders = lab.holders()["stttt"]
    assert len(holders["send"]) >= 2
    assert [p for p in lab.people.values() if p.unit == "stttt" and p.id not in holders["read"]]
    assert [p for p in lab.people.values() if p.quota and p.quota <= 2 * 2**20]
    assert [p for p in lab.people.values() if p.state == "locked"]
