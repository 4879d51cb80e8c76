"""Changes to a directory: its configuration, and its entries."""

from collections.abc import Generator, Sequence
from io import BytesIO

from pyinfra import logger
from pyinfra.api.command import FileUploadCommand, QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state
from pyinfra.facts.files import File

from roles.common.files import redacted
from roles.common.plan import say
from roles.common.redaction import MASK
from roles.directory.config import difference
from roles.directory.facts import (
    AUDIT,
    CONFIG,
    DATA,
    LOCKED,
    REPLICATOR,
    WORDS,
    Behind,
    DirectoryText,
    Holding,
    PackedWords,
    SlapdConfig,
    words_digest,
)
from roles.directory.ldif import Attributes, Change, changed_attributes, entries, same_set
from roles.directory.ldif import normalized as normalized_dn

Commands = Generator[StringCommand | FileUploadCommand, None, None]

_OWN = (
    "(|(objectClass=organization)(objectClass=organizationalUnit)(objectClass=pwdPolicy)"
    "(objectClass=applicationProcess))"
)
"""What the deployment itself makes is among these, and nobody's mailbox is."""
AS_ROOT = "-Q -Y EXTERNAL -H ldapi:///"
"""How ldap-utils bind as the host's root."""


def feed(changes: Sequence[Change], options: str, *, durable: bool = True) -> Commands:
    """Hand changes to slapd in one `ldapmodify`.

    They may hold secrets: they go through a file that only slapd's user reads and that is gone
    afterwards, never over a command line.

    Args:
        changes: what to change, in order; the first that is refused ends the run.
        options: how to bind.
        durable: whether each change is on the disk before the next one. Twice as fast without, but
            a machine that loses its power meanwhile loses the database (slapd-mdb(5), dbnosync):
            only for one that holds nothing yet.
    """
    text = "".join(change.ldif() for change in changes)
    command = f"ldapmodify {options} -f"
    if durable:
        yield from _with_file(text, command)
        return
    flushed = f"{_database('replace: olcDbNoSync')} && sync -d {DATA}/data.mdb {AUDIT}/data.mdb"
    yield from _with_file(
        text,
        f"{_database('replace: olcDbNoSync', 'olcDbNoSync: TRUE')} && {command}",
        afterwards=f"{{ {flushed}; }} || result=1",
    )


def _database(*change: str) -> str:
    """The command that changes how slapd keeps both databases, the audit log's and the other."""
    lines = "\\n".join(["dn: olcDatabase={%s}mdb,cn=config", "changetype: modify", *change])
    return f"printf '{lines}\\n\\n' 1 2 | ldapmodify {AS_ROOT} >/dev/null"


def _with_file(text: str, command: str, afterwards: str = "true") -> Commands:
    path = "/run/site-directory.ldif"
    yield StringCommand(f"rm -f {path} && install -m 600 -o openldap /dev/null {path}")
    yield FileUploadCommand(BytesIO(text.encode()), path)
    yield StringCommand(
        f"{LOCKED} && {command} {path} >/dev/null; result=$?; {afterwards}; rm -f {path};"
        " exit $result"
    )


@operation()
def forbidden_passwords(
    sources: Sequence[str], after: Sequence[OperationMeta]
) -> Generator[StringCommand, None, None]:
    """The list of forbidden passwords, packed for slapd; takes a few seconds.

    Args:
        sources: on the host, the program, names of people, lists of words.
        after: the operations that write them.
    """
    packed = host.get_fact(PackedWords, sources=list(sources))
    if packed and not (not state.is_executing and any(meta.will_change for meta in after)):
        return
    say("the list of forbidden passwords: packed anew")
    program, *lists = sources
    yield StringCommand(
        f"{program} {WORDS} {' '.join(lists)} && {words_digest(sources)} > {WORDS}/digest"
    )


@operation()
def slapd_config(wanted: str, source: str, suffix: str) -> Commands:
    """The configuration of slapd, cn=config.

    Where there is none it is built from its LDIF beside its place and moved there whole. Later
    only what differs is changed, while slapd runs. What slapd cannot change while it runs (modules,
    schema, the set of overlays) is built anew with slapd stopped; the data stays.

    Args:
        wanted: the LDIF.
        source: where it lies on the host, checked.
        suffix: the database whose indexes it describes.
    """
    found = host.get_fact(SlapdConfig)
    if not found.text:
        if not state.is_executing:
            logger.info(f"{host.print_prefix}cn=config: will be built")
        yield from _build(source)
        return
    differing = difference(wanted, found.text)
    rebuild = bool(differing.rebuild) or bool(differing.changes and not found.active)
    if not state.is_executing:
        for words in (*differing.words, *(f"anew, for {why}" for why in differing.rebuild)):
            logger.info(f"{host.print_prefix}{redacted(words)}")
    if rebuild:
        yield from _build(source, suffix if differing.reindex else "", active=found.active)
        if found.active:
            yield StringCommand(
                "systemctl start slapd.service"
                " || { journalctl --no-pager -n 30 -u slapd.service >&2; false; }"
            )
    elif differing.changes:
        yield from feed(differing.changes, AS_ROOT)


def _build(
    source: str, reindex: str = "", *, active: bool = False
) -> Generator[StringCommand, None, None]:
    """Build the configuration anew.

    Args:
        source: its LDIF on the host.
        reindex: the suffix of a database to index by it.
        active: whether slapd runs, and goes on with the configuration that it has if this fails.
    """
    new, old = f"{CONFIG}.new", f"{CONFIG}.old"
    yield StringCommand(
        f"rm -rf {new} && install -d -m 700 {new} && slapadd -n0 -F {new} -l {source}"
        f" && chown -R openldap:openldap {new}"
    )
    # The data is indexed before the configuration that relies on it counts: cut off here, the next
    # run begins again. Cut off between the two moves, it finds no configuration and builds it.
    index = f"runuser -u openldap -- slapindex -F {new} -b {reindex}" if reindex else "true"
    back = f"test -d {CONFIG} || mv -T {old} {CONFIG}; systemctl start slapd.service; false"
    yield StringCommand(
        f"systemctl stop slapd.service; {{ {index} && rm -rf {old}"
        f" && {{ test ! -d {CONFIG} || mv -T {CONFIG} {old}; }} && mv -T {new} {CONFIG}"
        f" && rm -rf {old}; }} || {{ {back if active else 'false'}; }}"
    )


@operation()
def first_entries(
    wanted: Sequence[tuple[str, Attributes]], base: str, peers: Sequence[str]
) -> Commands:
    """The same entries as `directory_entries` makes, into a database that was never used.

    They are there before slapd first answers, above all the password policy. Where another
    directory host has entries already, or may have, they come from there.

    Args:
        wanted: each DN with its attributes, parents first.
        base: the suffix.
        peers: full names of the other directory hosts.
    """
    if not _unused(base) or not _begins(base, peers):
        return
    changes = [Change("add", dn, attributes) for dn, attributes in wanted]
    _show(changes)
    load = f"runuser -u openldap -- slapadd -F {CONFIG} -b {base} -S 1 -w -l"
    yield from _with_file("".join(change.entry() for change in changes), load)


@operation()
def in_step(
    base: str, peers: Sequence[str], replicator: str
) -> Generator[StringCommand, None, None]:
    """A directory host that knows what the others know, before anything is changed on it.

    One that knows nothing while another does not answer is not filled: everybody would be made
    anew, and the new passwords would take the place of the real ones once the other is back.

    Args:
        base: the suffix.
        peers: full names of the other directory hosts.
        replicator: who may read them.

    Raises:
        OperationError: this host knows nothing, and the others do not answer.
    """
    if not peers:
        return
    behind = host.get_fact(Behind, peers=peers, base=base, replicator=replicator)
    if not behind:
        if words := _refusal(base, peers):
            if not state.is_executing:
                raise OperationError(words)
            yield StringCommand("echo", QuoteString(words), ">&2; exit 1")
        return
    if not state.is_executing:
        logger.info(f"{host.print_prefix}waits for changes of {', '.join(behind)}")
    check = Behind().command(peers=behind, base=base, replicator=replicator)
    yield StringCommand(
        'end=$(( $(date +%s) + 600 )); while test -n "$(', check, ')"; do'
        " if test $(date +%s) -gt $end; then"
        " echo 'still behind the other directory hosts after 10 minutes' >&2; exit 1; fi; done"
    )  # fmt: skip


def _deployed_too(peers: Sequence[str]) -> list[Host]:
    """Those of the other directory hosts that this run deploys as well."""
    # A full name begins with the name in the inventory.
    names = {peer.partition(".")[0] for peer in peers}
    return [other for other in state.inventory.get_active_hosts() if other.name in names]


def _begins(base: str, peers: Sequence[str]) -> bool:
    """Whether no other directory host holds anything: all are seen, and are empty."""
    others = _deployed_too(peers)
    return len(others) == len(peers) and all(
        other.get_fact(Holding, base=base) == "nothing" for other in others
    )


def _refusal(base: str, peers: Sequence[str]) -> str:
    """Nobody has news: why not to go on, where that is because nobody answers."""
    if host.get_fact(Holding, base=base) == "all" or _begins(base, peers):
        return ""
    # Before the run: it may itself start what will answer, or bring what asks.
    if not state.is_executing and (
        _deployed_too(peers) or not host.get_fact(File, path=REPLICATOR)
    ):
        return ""
    others = ", ".join(peers)
    return (
        f"{host.name}: its directory is not filled, and no other one answers that may know "
        f"everybody, with their passwords: {others}. Expected slapd to run there; if nothing was "
        "ever installed there, deploy all directory hosts together (LIMIT=directory); if a host is "
        "lost for good, take it out of site.toml"
    )


@operation()
def directory_entries(wanted: Sequence[tuple[str, Attributes]], base: str) -> Commands:
    """Entries of the directory that the deployment itself needs; others are left alone.

    Args:
        wanted: each DN with its attributes, parents first.
        base: the suffix.
    """
    if not state.is_executing and _unused(base):
        return
    found = entries(host.get_fact(DirectoryText, base=base, where=_OWN).splitlines())
    # Hashes of the services alone leave the host, to be compared; nobody's else do.
    services = host.get_fact(DirectoryText, base=f"ou=services,{base}", hashes=True)
    found |= entries(services.splitlines())
    changes = []
    for dn, attributes in wanted:
        present = found.get(normalized_dn(dn))
        if present is None:
            changes.append(Change("add", dn, attributes))
        elif differing := changed_attributes(attributes, present, same_set):
            changes.append(Change("modify", dn, differing))
    if changes:
        _show(changes)
        yield from feed(changes, AS_ROOT)


def _unused(base: str) -> bool:
    """Whether slapd never ran here."""
    active = host.get_fact(SlapdConfig).active
    return not active and not host.get_fact(DirectoryText, base=base)


def _show(changes: Sequence[Change]) -> None:
    """Print what the plan would change, without secrets."""
    if state.is_executing:
        return
    for change in changes:
        logger.info(f"{host.print_prefix}{change.kind} {change.dn}")
        for name, values in change.attributes.items():
            shown = MASK if name.lower() == "userpassword" else redacted(", ".join(values))
            logger.info(f"{host.print_prefix}    {name}: {shown}")
