"""A network of its own for the browser, with one address in it: the webmail.

Chromium gives up what it is loading whenever an interface of the machine comes or goes, and in a
lab containers do. In a network namespace nothing ever changes, and nobody else can be reached: a
page that asks another server cannot go unnoticed.

Inside, `127.0.0.1:443` leads through a Unix socket to the webmail outside:
`python -m tests.browser.namespace SOCKET` is the inner half.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from roles.common.site import ROOT

PORT = 443
_CHUNK = 65536


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until there are no more."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Make two connections one."""
    await asyncio.gather(_pump(reader, other[1]), _pump(other[0], writer))
    writer.close()
    other[1].close()


async def _inside(path: str) -> None:
    """The inner half: what the browser connects to."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(reader, writer, await asyncio.open_unix_connection(path))

    server = await asyncio.start_server(accept, "127.0.0.1", PORT)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _outside(path: str, address: str) -> None:
    """The outer half: what connects to the webmail."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other = await asyncio.open_connection(address, PORT)
        except OSError:
            writer.close()
            return
        await _join(reader, writer, other)

    server = await asyncio.start_unix_server(accept, path)
    await server.serve_forever()


@contextmanager
def wrapped(program: str, address: str, folder: Path) -> Iterator[Path]:
    """A program that runs in such a network.

    Args:
        program: what shall run.
        address: of the webmail.
        folder: for the socket and the wrapper.

    Yields:
        The path of a script that runs the program with its arguments.
    """
    socket = folder / "webmail.sock"
    loop = asyncio.new_event_loop()
    outer = Thread(target=_serve, args=(loop, str(socket), address), daemon=True)
    outer.start()
    inner = subprocess.Popen(
        ["unshare", "--net", "--", sys.executable, "-m", __name__, str(socket)],
        cwd=ROOT,  # where the module is found, whatever folder the tests are started in
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert inner.stdout is not None
        assert inner.stdout.readline() == "ready\n", "no network namespace: these tests need root"
        script = folder / "in-its-network"
        script.write_text(f'#!/bin/sh\nexec nsenter --target {inner.pid} --net -- {program} "$@"\n')
        script.chmod(0o755)
        yield script
    finally:
        inner.terminate()
        inner.wait()
        if inner.stdout:
            inner.stdout.close()
        loop.call_soon_threadsafe(_cancel, loop)
        outer.join()
        loop.close()


def _serve(loop: asyncio.AbstractEventLoop, path: str, address: str) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_outside(path, address))
    except asyncio.CancelledError:
        loop.run_until_complete(loop.shutdown_asyncgens())


def _cancel(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    asyncio.run(_inside(sys.argv[1]))
