"""A mailbox as Dovecot shows it: over IMAP, from a process of its own and without a password."""

import base64
import re
import subprocess
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from roles.archive.container import end

_LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
_FETCHED = re.compile(
    rb'^\* \d+ FETCH \(UID (?P<uid>\d+) FLAGS \((?P<flags>[^)]*)\) INTERNALDATE "(?P<date>[^"]+)"'
)
_SIZED = re.compile(rb"^\* \d+ FETCH \(UID (?P<uid>\d+) RFC822\.SIZE (?P<size>\d+)\)")
_LISTED = re.compile(rb'^\* (?:LIST|LSUB) \((?P<flags>[^)]*)\) (?:"[^"]*"|NIL) (?P<name>.*?)\r\n$')
_PREFIXES = re.compile(rb'\("((?:[^"\\]|\\.)*)" ')
_BATCH_BYTES, _BATCH_LETTERS = 8 << 20, 200
HELP_DESKS = ".EXPUNGED"
"""What was deleted for good: no program lists it."""


class ImapError(Exception):
    """Dovecot refused a command, with its words."""


class Imap:
    """A session. Names of folders are in clear, NFC or not as the owner wrote them."""

    def __init__(self, user: str, *command: str) -> None:
        self._process = subprocess.Popen(
            [*(command or ("doveadm", "exec", "imap", "-u", user))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._in, self._out = end(self._process.stdin), end(self._process.stdout)
        self._count = 0
        self._response()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.ask(b"LOGOUT")
        finally:
            self._in.close()
            self._out.close()
            self._process.wait()

    def _response(self) -> list[bytes]:
        """Texts and literals by turns."""
        parts = []
        while True:
            line = self._out.readline()
            if not line.endswith(b"\r\n"):
                raise ImapError("Dovecot ended the session; its journal says why")
            parts.append(line)
            if not (found := _LITERAL.search(line)):
                return parts
            literal = self._out.read(int(found[1]))
            parts.append(literal)

    def ask(self, command: bytes, literal: bytes | None = None) -> list[list[bytes]]:
        """Give a command and return what is answered before its end.

        Args:
            command: without tag and end of line.
            literal: its last argument.

        Raises:
            ImapError: it was refused.
        """
        self._count += 1
        tag = b"a%d " % self._count
        text = tag + command
        if literal is not None:
            text += b" {%d+}\r\n" % len(literal) + literal
        self._in.write(text + b"\r\n")
        self._in.flush()
        answers = []
        while not (response := self._response())[0].startswith(tag):
            answers.append(response)
        if not response[0].startswith(tag + b"OK"):
            words = response[0].removeprefix(tag).decode(errors="replace").strip()
            raise ImapError(f"{command[:200].decode(errors='replace')}: {words}")
        return answers

    def _names(self, command: bytes) -> list[tuple[str, bytes]]:
        found = []
        for answer in self.ask(command):
            line = answer[0]
            if len(answer) > 1:
                name = re.sub(rb'(["\\])', rb"\\\1", answer[1])
                line = line[: line.rindex(b"{")] + b'"' + name + b'"\r\n'
            if matched := _LISTED.match(line):
                raw = matched["name"]
                if raw.startswith(b'"'):
                    raw = re.sub(rb"\\(.)", rb"\1", raw[1:-1])
                found.append((decoded(raw), matched["flags"]))
        return found

    def folders(self) -> dict[str, bool]:
        """The mailbox's own folders, and whether each is subscribed."""
        (spaces,) = [a[0] for a in self.ask(b"NAMESPACE") if a[0].startswith(b"* NAMESPACE ")]
        others = tuple(decoded(prefix) for prefix in _PREFIXES.findall(spaces) if prefix)
        subscribed = {name for name, _ in self._names(b'LSUB "" "*"')}
        result = {
            name: name in subscribed
            for name, flags in self._names(b'LIST "" "*"')
            if rb"\Noselect" not in flags
            and rb"\NonExistent" not in flags
            and not (f"{name}/".startswith(others) if others else False)
        }
        try:
            self.examine(HELP_DESKS)
        except ImapError:
            return dict(sorted(result.items()))
        return dict(sorted({**result, HELP_DESKS: False}.items()))

    def examine(self, folder: str) -> None:
        """Open a folder without changing anything of it."""
        self.ask(b"EXAMINE " + quoted(folder))

    def state(self, folder: str) -> str:
        """A text that differs once anything in the folder changed."""
        items = b"(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
        (line,) = [
            answer[-1]
            for answer in self.ask(b"STATUS " + quoted(folder) + b" " + items)
            if answer[0].startswith(b"* STATUS ")
        ]
        return line[line.rindex(b"(") :].decode().strip()

    def letters(self, folder: str) -> Iterator[tuple[tuple[str, ...], str, bytes]]:
        """Flags, INTERNALDATE and bytes of every letter of a folder, in its order."""
        self.examine(folder)
        sizes = [
            (int(found["uid"]), int(found["size"]))
            for answer in self.ask(b"UID FETCH 1:* (UID RFC822.SIZE)")
            if (found := _SIZED.match(answer[0]))
        ]
        for batch in batches(sizes):
            uids = b",".join(b"%d" % uid for uid in batch)
            got = {}
            answers = self.ask(b"UID FETCH " + uids + b" (UID FLAGS INTERNALDATE BODY.PEEK[])")
            for answer in answers:
                if found := _FETCHED.match(answer[0]):
                    flags = tuple(
                        flag for flag in found["flags"].decode().split() if flag != r"\Recent"
                    )
                    content = answer[1] if len(answer) > 1 else b""
                    got[int(found["uid"])] = (flags, found["date"].decode(), content)
            if missing := set(batch) - got.keys():
                raise ImapError(f"{folder}: UID {min(missing)} cannot be read")
            for uid in batch:
                yield got[uid]

    def append(self, folder: str, flags: tuple[str, ...], received: str, content: bytes) -> None:
        """Store a letter, byte for byte."""
        head = f' ({" ".join(flags)}) "{received}"'.encode()
        self.ask(b"APPEND " + quoted(folder) + head, content)

    def make(self, folder: str) -> None:
        """Make a folder that programs show."""
        self.ask(b"CREATE " + quoted(folder))
        self.ask(b"SUBSCRIBE " + quoted(folder))

    def room(self) -> int | None:
        """Bytes that the mailbox may still take; None where nothing limits it."""
        for answer in self.ask(b"GETQUOTAROOT INBOX"):
            if found := re.search(rb"\(.*?STORAGE (\d+) (\d+)", answer[-1]):
                return (int(found[2]) - int(found[1])) * 1024
        return None


def batches(sizes: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Letters that are fetched at a time: a few hundred small ones, or one large one.

    Args:
        sizes: UIDs with their bytes.
    """
    batch: list[int] = []
    total = 0
    for uid, size in sizes:
        if batch and (total + size > _BATCH_BYTES or len(batch) == _BATCH_LETTERS):
            yield batch
            batch, total = [], 0
        batch.append(uid)
        total += size
    if batch:
        yield batch


def decoded(name: bytes) -> str:
    """A folder's name from modified UTF-7 (RFC 3501, 5.1.3)."""

    def part(found: re.Match[str]) -> str:
        text = found[1].replace(",", "/")
        if not text:
            return "&"
        return base64.b64decode(text + "=" * (-len(text) % 4)).decode("utf-16-be")

    return re.sub(r"&([^-]*)-", part, name.decode("ascii"))


def quoted(name: str) -> bytes:
    """A folder's name as a command holds it: modified UTF-7, quoted."""

    def part(found: re.Match[str]) -> str:
        if found[0] == "&":
            return "&-"
        text = base64.b64encode(found[0].encode("utf-16-be")).decode().rstrip("=")
        return f"&{text.replace('/', ',')}-"

    text = re.sub(r"&|[^\x20-\x7e]+", part, name)
    return b'"' + re.sub(r'(["\\])', r"\\\1", text).encode() + b'"'
