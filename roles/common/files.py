"""The one way in which a configuration file reaches a host.

`configure` renders before anything is sent, uploads beside the target, lets the daemon's own
checker judge the new files together, and moves them into place. Files that do not pass leave the
running ones untouched and the run fails with the daemon's words.
"""

import difflib
import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from pyinfra import logger
from pyinfra.api.command import FileUploadCommand, QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state
from pyinfra.facts.files import Directory as DirectoryFact

from roles.common.facts import FileState, FileStates, FileText
from roles.common.plan import announced
from roles.common.redaction import comparable, masked
from roles.common.rendering import render
from roles.common.site import ROOT, current_host, current_site


@dataclass(frozen=True)
class ConfigFile:
    """One file as it shall be on the host."""

    path: str
    content: bytes
    mode: str = "644"
    user: str = "root"
    group: str = "root"
    secret: bool = False
    """Nothing of it is ever shown: what is derived from a secret, and so known to no redaction."""

    @property
    def draft(self) -> str:
        """Where it waits, beside its target: hidden, so that no `conf.d/*` pattern reads it."""
        target = PurePosixPath(self.path)
        return str(target.with_name(f".{target.name}.new"))

    @property
    def state(self) -> FileState:
        """What `FileStates` reports once it is in place."""
        digest = hashlib.sha256(self.content).hexdigest()
        return FileState(self.mode, self.user, self.group, digest)


@dataclass(frozen=True)
class Check:
    """How a daemon judges its files before they are in place.

    Attributes:
        command: the checker; it fails on any complaint. `{tree}` stands for a copy of the folder
            `tree` in which the new files lie; `{PATH}` for the draft of a single file, such as
            `{/etc/nftables.conf}`.
        tree: a folder that is checked as a whole.
    """

    command: str
    tree: str | None = None

    @property
    def copy(self) -> str:
        """The copy of `tree`, beside it."""
        target = PurePosixPath(self.tree or "/")
        return str(target.with_name(f".{target.name}.check"))


def template(
    role: str,
    path: str,
    *,
    source: str | None = None,
    mode: str = "644",
    user: str = "root",
    group: str = "root",
    **values: Any,
) -> ConfigFile:
    """A file rendered from `templates/ROLE/PATH.j2`.

    Templates see `site`, `host` (the `SiteHost`), `secrets` and what is given as `values`.

    Args:
        role: the role's name.
        path: where it lies on the host, and below `templates/ROLE`.
        source: another path below `templates/ROLE`, for a template that makes several files.
        mode: permissions in octal, without a leading zero.
        user: its owner.
        group: its group.
        values: further names for the template; usually `settings`.

    Raises:
        SiteError: the template cannot be rendered.
    """
    site = current_site()
    context = {"site": site, "host": current_host(), "secrets": site.secrets, **values}
    text = render(f"{role}/{(source or path).lstrip('/')}.j2", context)
    return ConfigFile(path, text.encode(), mode, user, group)


def static(
    role: str,
    name: str,
    path: str,
    *,
    mode: str = "644",
    user: str = "root",
    group: str = "root",
) -> ConfigFile:
    """A file copied as it is from `roles/ROLE/files/NAME`."""
    content = (ROOT / "roles" / role / "files" / name).read_bytes()
    return ConfigFile(path, content, mode, user, group)


def program(lib: str, names: Iterable[str]) -> list[ConfigFile]:
    """A program of several modules, below `LIB/roles` on the host as below `roles` here.

    Args:
        lib: the folder on the host from which Python imports them.
        names: modules and other files, such as `directory/ldif.py`.
    """
    return [
        ConfigFile(f"{lib}/roles/{name}", (ROOT / "roles" / name).read_bytes()) for name in names
    ]


def configure(
    files: Sequence[ConfigFile],
    *,
    check: Check | None = None,
    absent: Sequence[str] = (),
    name: str,
) -> OperationMeta:
    """Put files on the host, checked together; see the module's docstring.

    Args:
        files: what shall be there; parent folders are made, root's and 755.
        check: the daemon's own checker.
        absent: files that shall not be there, such as a package's defaults.
        name: the operation's name in the plan.

    Returns:
        The operation's meta, for `service(after=[…])`.
    """
    return _configure(files=list(files), check=check, absent=list(absent), name=name)


@operation()
def _configure(
    files: list[ConfigFile], check: Check | None, absent: list[str]
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    drafts = [file.draft for file in files]
    before = announced()
    found = host.get_fact(FileStates, paths=[*[file.path for file in files], *drafts, *absent])
    changed = [
        file for file in files if file.state not in (found.get(file.path), before.get(file.path))
    ]
    before.update({file.path: file.state for file in changed})
    # What a run that was cut off left behind goes, too.
    gone = [path for path in absent if path in found]
    removed = [*gone, *(path for path in drafts if path in found)]
    if not state.is_executing:
        for file in changed:
            _show_diff(file, found.get(file.path))
        for path in removed:
            logger.info(f"{host.print_prefix}{path}: will be removed")
    if changed:
        # Made unreadable first: an upload writes before anything can set its permissions.
        yield _each(
            changed,
            lambda file: (
                "mkdir -p", QuoteString(str(PurePosixPath(file.path).parent)),
                "&& install -m 600 /dev/null", QuoteString(file.draft),
            ),
        )  # fmt: skip
        for file in changed:
            yield FileUploadCommand(BytesIO(file.content), file.draft)
        yield _each(
            changed,
            lambda file: (
                f"chown {file.user}:{file.group}", QuoteString(file.draft),
                f"&& chmod {file.mode}", QuoteString(file.draft),
            ),
        )  # fmt: skip
    if changed and check is not None:
        yield _checked(check, changed)
    if changed or removed:
        moves = [
            bit
            for file in changed
            for bit in ("mv -T", QuoteString(file.draft), QuoteString(file.path), "&&")
        ]
        if gone and files:
            # By the times of what stays a daemon is seen to run what is no longer there.
            moves += ["touch -c --", *[QuoteString(file.path) for file in files], "&&"]
        yield StringCommand(*moves, "rm -f --", *[QuoteString(path) for path in removed])


def _each(
    files: Sequence[ConfigFile], do: Callable[[ConfigFile], tuple[str | QuoteString, ...]]
) -> StringCommand:
    """One command that does something to each file, and ends at the first that fails."""
    return StringCommand(*[bit for file in files for bit in (*do(file), "&&")], "true")


def _checked(check: Check, changed: list[ConfigFile]) -> StringCommand:
    """The checker's command; on a complaint the drafts are removed and it fails."""
    drafts = " ".join(f"'{file.draft}'" for file in changed)
    names = ", ".join(file.path for file in changed)
    command = check.command
    prepare = clean = "true"
    if check.tree is not None:
        inside = [file for file in changed if file.path.startswith(f"{check.tree}/")]
        prepare = (
            f"rm -rf '{check.copy}' && mkdir -p '{check.tree}'"
            f" && cp -a '{check.tree}' '{check.copy}'"
        )
        for file in inside:
            target = check.copy + file.path.removeprefix(check.tree)
            prepare += (
                f" && mkdir -p '{PurePosixPath(target).parent}' && cp -a '{file.draft}' '{target}'"
            )
        prepare += f" && find '{check.copy}' -name '.*.new' -delete"
        clean = f"rm -rf '{check.copy}'"
        command = command.replace("{tree}", check.copy)
    for file in changed:
        command = command.replace("{" + file.path + "}", file.draft)
    # A path in braces that did not change is checked where it lies.
    command = re.sub(r"\{(/[^{}]+)\}", r"\1", command)
    return StringCommand(
        f"if {prepare} && ( {command} ) >&2; then {clean}; "
        f"else {clean}; rm -f -- {drafts}; "
        f"echo '{names}: refused by its own checker; what is running is untouched' >&2; false; fi"
    )


def _show_diff(file: ConfigFile, before: FileState | None) -> None:
    """Print what the plan would change in a file, without secrets."""
    prefix = host.print_prefix
    if before is not None and before != file.state:
        for what in ("mode", "user", "group"):
            old, new = getattr(before, what), getattr(file.state, what)
            if old != new:
                logger.info(f"{prefix}{file.path}: {what} {old} -> {new}")
    if file.secret:
        logger.info(f"{prefix}{hidden(file.path, new=before is None)}")
        return
    old_text = host.get_fact(FileText, path=file.path) if before else ""
    try:
        new_text = file.content.decode()
    except UnicodeDecodeError:
        logger.info(f"{prefix}{file.path}: {len(file.content)} bytes that are not text")
        return
    modes = [file.mode, *([before.mode] if before else [])]
    for line in diff(
        file.path,
        old_text if before else None,
        new_text,
        private=any(mode.endswith("0") for mode in modes),
    ):
        logger.info(f"{prefix}{line}")


def diff(path: str, old: str | None, new: str, *, private: bool) -> list[str]:
    """The lines of a plan that say what a file's text will be, without secrets.

    Args:
        path: the file.
        old: its text on the host; None where there is none.
        new: its text as it shall be.
        private: whether not everybody may read it.
    """
    if old == new:
        return []
    pair = comparable(old or "", new, current_site().secrets.values(), private=private)
    if pair is None:
        return [hidden(path, new=old is None)]
    lines = difflib.unified_diff(
        pair[0].splitlines(),
        pair[1].splitlines(),
        fromfile="/dev/null" if old is None else path,
        tofile=path,
        lineterm="",
        n=2,
    )
    # Only what is masked differs, or the ends of lines do.
    return list(lines) or [f"{path}: differs in what is not shown"]


def hidden(path: str, *, new: bool) -> str:
    """What a plan says of a file that is a secret."""
    return f"{path}: a secret, not shown, {'is new' if new else 'differs'}"


def redacted(text: str) -> str:
    """`text` with every secret of the site replaced by asterisks."""
    return masked(text, current_site().secrets.values())


@operation()
def directory(
    path: str, mode: str = "755", user: str = "root", group: str = "root"
) -> Generator[StringCommand, None, None]:
    """A folder with its owner and permissions, made in one step so that it is never more open.

    Args:
        path: where.
        mode: permissions in octal, without a leading zero.
        user: its owner.
        group: its group.
    """
    found = host.get_fact(DirectoryFact, path=path)
    wanted = (int(mode), user, group)
    if not found or (int(found["mode"]), found["user"], found["group"]) != wanted:
        # Five digits: fewer leave the set-group-ID bit that a parent may have passed on.
        yield StringCommand(
            f"install -d -m {mode.zfill(5)} -o {user} -g {group}", QuoteString(path)
        )
