"""The receiving side: keeps each record and the time it came, and can be away."""

import asyncio
import json
import time
from dataclasses import dataclass

import jwt
from aiohttp import web

JWT_SECRET = "benchmark-secret-benchmark-secret"


@dataclass(frozen=True)
class Post:
    at: float
    """When the whole body had come, by `time.monotonic`."""
    record: dict
    fault: str | None
    """What is wrong with its signature."""


class Endpoint:
    def __init__(self) -> None:
        self.posts: list[Post] = []
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/call-history"

    async def start(self) -> None:
        """Listens; after a `stop` at the same port as before."""
        app = web.Application(client_max_size=4 << 20)
        app.router.add_post("/call-history", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Connections are refused from now on."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        now = time.monotonic()
        record = json.loads(body)
        post = Post(now, record, fault(request.headers.get("Authorization", ""), record))
        async with self._changed:
            self.posts.append(post)
            self._changed.notify_all()
        return web.Response()

    def of(self, rooms: set[str]) -> dict[str, list[Post]]:
        found: dict[str, list[Post]] = {room: [] for room in rooms}
        for post in self.posts:
            if (room := post.record.get("room_name")) in found:
                found[room].append(post)
        return found

    async def wait(self, rooms: list[str], within: float) -> dict[str, list[Post]]:
        """The posts about these rooms, when each has one or the time is over."""
        wanted = set(rooms)
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: all(self.of(wanted).values()))
        except TimeoutError:
            pass
        return self.of(wanted)


def fault(authorization: str, record: dict) -> str | None:
    try:
        claims = jwt.decode(
            authorization.removeprefix("Bearer "), JWT_SECRET, ["HS256"], {"require": ["exp"]}
        )
    except jwt.PyJWTError as error:
        return f"the token: {error}"
    if claims.get("phone_number") != record.get("phone_number") or claims.get("timestamp") != record.get(
        "end_time"
    ):
        return "the token is for another call"
    return None
