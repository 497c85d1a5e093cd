"""The operator's endpoint: receives posts, keeps each one unchanged, and can misbehave."""

import asyncio
import json
import time
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Post:
    t: float
    """When the whole body had arrived, in Unix seconds."""
    headers: dict[str, str]
    body: bytes
    status: int
    """The status of the answer."""

    @property
    def room(self) -> str | None:
        try:
            return json.loads(self.body).get("room_name")
        except (ValueError, AttributeError):
            return None


class Endpoint:
    """`answers` are the statuses of the next answers, in turn; after those, always 200."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[int] = []
        self.events: list[dict] = []
        """LiveKit's webhooks, from a server that is configured to send them to `hooks`."""
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.url = self.hooks = ""

    async def start(self) -> None:
        """Listens; after a `stop`, at the same address as before."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/calls", self._take)
        app.router.add_post("/hooks", self._hear)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}/calls"
        self.hooks = f"http://127.0.0.1:{self._port}/hooks"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 200
        post = Post(time.time(), {k.lower(): v for k, v in request.headers.items()}, body, status)
        async with self._changed:
            self.posts.append(post)
            self._changed.notify_all()
        return web.Response(status=status)

    async def _hear(self, request: web.Request) -> web.Response:
        self.events.append(json.loads(await request.read()))
        return web.Response()

    def of(self, room: str) -> list[Post]:
        return [post for post in self.posts if post.room == room]

    async def wait(self, room: str, count: int = 1, timeout: float = 60.0) -> list[Post]:
        """The first `count` posts about a room."""
        async with self._changed:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait_for(lambda: len(self.of(room)) >= count)
            except TimeoutError:
                raise AssertionError(
                    f"{len(self.of(room))} of {count} posts about the call in {timeout} s"
                ) from None
        return self.of(room)[:count]

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
