"""A caller in a browser: livekit-client in headless Chromium, with a fake microphone.

This module serves the page (`../browser/`) and controls it over a WebSocket, so
the browser needs no driver. Its microphone is a file: the lines of the script,
with pauses, played once from the moment the page unmutes. The page measures
what the microphone really played, and what came out of the room.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path

from aiohttp import web

from . import sound
from .ears import Ears
from .process import Child, plain_environment

_PAGE = Path(__file__).resolve().parent.parent / "browser"
_CLIENT = _PAGE / "node_modules/livekit-client/dist/livekit-client.esm.mjs"

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # The server is on the loopback interface, maybe on a machine that has no other.
    "--allow-loopback-in-peer-connection",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

_NOISE = 0.8
"""The length of a noise, in seconds."""

_TAKES = 60.0
"""Seconds that an order may take; starting is slow on a busy machine."""


def chromium() -> str:
    path = os.environ.get("CHROMIUM_BIN", "/usr/bin/chromium")
    assert os.access(path, os.X_OK), (
        f"there is no Chromium at {path}: install it (Debian: apt-get install chromium), "
        "or set CHROMIUM_BIN"
    )
    assert _CLIENT.exists(), "livekit-client is missing: run `npm ci --prefix e2e/browser`"
    return path


class Browser(Ears):
    """`script` is what the microphone plays: pairs of a pause in seconds and the number of a line,
    or `None` for a noise."""

    def __init__(
        self, url: str, token: str, lines: list[str], script: list[tuple[float, int | None]], report
    ) -> None:
        super().__init__()
        self.options: dict = {}
        """`RoomOptions` of livekit-client that differ from its defaults."""
        self._url, self._token, self._lines, self._script = url, token, lines, script
        self._report = report
        self._directory = tempfile.mkdtemp(prefix="browser-")
        self._child: Child | None = None
        self._runner: web.AppRunner | None = None
        self._line: web.WebSocketResponse | None = None
        self._connected = asyncio.Event()
        self._orders: dict[int, asyncio.Future] = {}
        self._numbers = itertools.count(1)
        self._spoken = iter(())

    # ---- What scenarios call

    async def join(self) -> None:
        """Opens the browser, and joins with a muted microphone."""
        await self._start()
        await self._order("join", url=self._url, token=self._token, options=self.options)

    async def speaks(self) -> None:
        """Unmutes the microphone, which then plays the script."""
        self._spoken = iter(self._script)
        await self._order("unmute")

    async def reloads(self) -> None:
        """Reloads the page, as a user may, and joins again."""
        self._report("reloads")
        self._connected.clear()
        await self._order("reload")
        async with asyncio.timeout(_TAKES):
            await self._connected.wait()
        await self._order("join", url=self._url, token=self._token, options=self.options)

    async def leaves(self) -> None:
        if not self._child:
            return
        if self._child.alive and self._line and not self._line.closed:
            self._report("leaves")
            await self._order("leave")
            self._report("left")
        await self._stop()

    def kill(self) -> None:
        """Kills the whole browser: it cannot leave the room properly."""
        self._child.kill()
        self._report("killed")

    # ---- The browser and its page

    async def _start(self) -> None:
        binary = chromium()
        app = web.Application()
        for path, file in {
            "/": _PAGE / "page.html",
            "/page.mjs": _PAGE / "page.mjs",
            "/meter.mjs": _PAGE / "meter.mjs",
            "/livekit-client.mjs": _CLIENT,
        }.items():
            app.router.add_get(path, _file(file))
        app.router.add_get("/line", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]

        microphone = os.path.join(self._directory, "microphone.wav")
        sound.write_wav(microphone, b"".join(self._sounds()))
        self._child = await Child.start(
            binary,
            *_FLAGS,
            f"--use-file-for-fake-audio-capture={microphone}%noloop",
            f"--user-data-dir={self._directory}/profile",
            f"http://127.0.0.1:{port}/",
            name="Chromium",
            # A home of its own: the browser writes files outside of its profile, too.
            env=plain_environment(HOME=self._directory),
            cwd=self._directory,
        )
        try:
            async with asyncio.timeout(_TAKES):
                await self._connected.wait()
        except TimeoutError:
            tail = "\n".join(self._child.lines[-20:])
            raise AssertionError(f"Chromium did not open the page in {_TAKES} s:\n{tail}") from None

    def _sounds(self):
        for pause, line in self._script:
            yield bytes(2 * int(sound.RATE * pause))
            if line is None:
                yield sound.tone(sound.noise_pitch(), _NOISE)
            else:
                yield sound.tone(sound.pitch_of_line(line), sound.seconds_for(self._lines[line]))
        yield bytes(2 * sound.RATE)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        line = web.WebSocketResponse()
        await line.prepare(request)
        self._line = line
        self._connected.set()
        async for message in line:
            fact = json.loads(message.data)
            self._take(fact.pop("what"), fact.pop("t"), fact)
        for order in self._orders.values():
            if not order.done():
                order.set_exception(AssertionError("the page is gone"))
        return line

    def _take(self, what: str, at: float, facts: dict) -> None:
        match what:
            case "done":
                order = self._orders.pop(facts["id"])
                if error := facts.get("error"):
                    order.set_exception(AssertionError(f"in the browser: {error}"))
                else:
                    order.set_result(at)
            case "agent_state":
                self.noted(facts["state"], at)
            case "makes_sound" | "made_sound":
                self._spoke(what, at)
            case _:
                self._report(what, at, **facts)

    def _spoke(self, what: str, at: float) -> None:
        if what == "makes_sound":
            _, line = next(self._spoken, (0, -1))
            self._saying = None if line is None else self._lines[line]
        if self._saying is None:
            self._report("noise" if what == "makes_sound" else "noise_over", at)
        else:
            self._report("speaks" if what == "makes_sound" else "spoke", at, text=self._saying)

    async def _order(self, do: str, **how) -> float:
        number = next(self._numbers)
        order = self._orders[number] = asyncio.get_running_loop().create_future()
        await self._line.send_json({"id": number, "do": do, **how})
        try:
            async with asyncio.timeout(_TAKES):
                return await order
        except TimeoutError:
            raise AssertionError(f"the page did not {do} in {_TAKES} s") from None

    async def _stop(self) -> None:
        await self._child.stop()
        if self._line:
            with contextlib.suppress(Exception):
                await self._line.close()
        await self._runner.cleanup()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._child = None


def _file(path: Path):
    async def serve(_: web.Request) -> web.FileResponse:
        kind = "text/html" if path.suffix == ".html" else "text/javascript"
        return web.FileResponse(path, headers={"Content-Type": kind})

    return serve
