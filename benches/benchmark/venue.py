"""The LiveKit server: the development server, or the one of LIVEKIT_URL."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from livekit import api

from .program import Program

LOOK_EVERY = 0.005
CALL_TIMEOUT = aiohttp.ClientTimeout(total=10)
ACTIVE = api.ParticipantInfo.State.ACTIVE


@dataclass
class Venue:
    url: str
    key: str
    secret: str
    dev: Program | None
    client: api.LiveKitAPI

    @classmethod
    async def open(cls, binaries: Path, folder: Path) -> "Venue":
        url, key, secret = (
            os.environ.get(f"LIVEKIT_{name}", "") for name in ("URL", "API_KEY", "API_SECRET")
        )
        dev = None
        if not url:
            command = [str(binaries / "livekit-devserver"), "--port", "0", "--departure-timeout", "3"]
            dev = await Program.start(command, folder / "server.log", {"RUST_LOG": "error"})
            try:
                [(_, ready)] = await dev.wait_for(lambda line: "url" in line, 30)
            except BaseException:
                await dev.kill()
                raise
            url, key, secret = ready["url"], ready["api_key"], ready["api_secret"]
        return cls(url, key, secret, dev, api.LiveKitAPI(url, key, secret, timeout=CALL_TIMEOUT))

    @property
    def env(self) -> dict[str, str]:
        return {"LIVEKIT_URL": self.url, "LIVEKIT_API_KEY": self.key, "LIVEKIT_API_SECRET": self.secret}

    @property
    def name(self) -> str:
        return "this repository's development server" if self.dev else "the LiveKit server of LIVEKIT_URL"

    async def create(self, room: str, agent_name: str) -> float:
        """Makes a room to which an agent is dispatched. When the request began, by `time.monotonic`."""
        began = time.monotonic()
        dispatch = api.RoomAgentDispatch(agent_name=agent_name)
        await self.client.room.create_room(api.CreateRoomRequest(name=room, agents=[dispatch]))
        return began

    async def delete(self, room: str) -> float:
        """When the request began, by `time.monotonic`."""
        began = time.monotonic()
        try:
            await self.client.room.delete_room(api.DeleteRoomRequest(room=room))
        except api.TwirpError as error:
            if error.code != api.TwirpErrorCode.NOT_FOUND:
                raise
        return began

    async def active(self, room: str) -> int:
        """Participants of a room that are connected, hidden ones included."""
        found = await self.client.room.list_participants(api.ListParticipantsRequest(room=room))
        return sum(p.state == ACTIVE for p in found.participants)

    async def waits_for(self, room: str, number: int, within: float) -> float:
        """Waits until so many are connected. When that was seen, by `time.monotonic`."""
        async with asyncio.timeout(within):
            while await self.active(room) < number:
                await asyncio.sleep(LOOK_EVERY)
        return time.monotonic()

    async def close(self) -> None:
        await self.client.aclose()
        if self.dev:
            await self.dev.stop()
