"""The LiveKit server the scenarios run on.

If `LIVEKIT_URL` is set, it is that server, with `LIVEKIT_API_KEY` and
`LIVEKIT_API_SECRET`. It may serve others too, so every agent gets a name of
its own. Otherwise the development server at `LIVEKIT_DEVSERVER_BIN` is
started, and the Python voice agent is unnamed, as most are.
"""

import json
import os
import uuid
from dataclasses import dataclass

from livekit import api

from .process import Child, plain_environment


@dataclass
class Server:
    url: str
    key: str
    secret: str
    voice_agent: str
    """Dispatch name of the Python voice agent."""
    node_agent: str
    """Dispatch name of the Node voice agent."""
    observer: str
    """Dispatch name of the product."""
    child: Child | None = None

    @classmethod
    async def find(cls, directory: str) -> "Server":
        mark = uuid.uuid4().hex[:6]
        if url := os.environ.get("LIVEKIT_URL"):
            key, secret = os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"]
            observer = f"call-history-e2e-{mark}"
            return cls(url, key, secret, f"e2e-voice-{mark}", f"e2e-node-{mark}", observer)
        return await cls.start(directory)

    @classmethod
    async def start(cls, directory: str, *options: str) -> "Server":
        """Starts a development server."""
        mark = uuid.uuid4().hex[:6]
        binary = os.environ.get("LIVEKIT_DEVSERVER_BIN")
        assert binary, "set LIVEKIT_URL (and keys) or LIVEKIT_DEVSERVER_BIN, see e2e/README.md"
        child = await Child.start(
            os.path.abspath(binary),
            "--port",
            "0",
            *options,
            name="dev server",
            env=plain_environment(),
            cwd=directory,
        )
        ready = json.loads(
            await child.line(lambda line: line.startswith("{") and '"url"' in line, 20.0)
        )
        url, key, secret = ready["url"], ready["api_key"], ready["api_secret"]
        return cls(url, key, secret, "", f"e2e-node-{mark}", "call-history", child=child)

    def settings(self) -> dict[str, str]:
        """The environment every LiveKit agent reads."""
        return {
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": self.key,
            "LIVEKIT_API_SECRET": self.secret,
        }

    def api(self) -> api.LiveKitAPI:
        return api.LiveKitAPI(self.url, self.key, self.secret)

    async def stop(self) -> None:
        if self.child:
            await self.child.stop()
