"""A line between the scenario and an actor in another process.

The actor (voice agent, or a caller that is going to be killed) connects to the
scenario's Unix socket. The actor sends facts ("I began to speak", with the
time), the scenario sends orders ("say this"). The line does not touch the room,
so the product cannot see it. When the actor dies, the line is closed.
"""

import asyncio
import json
import time


class Line:
    """The actor's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: str):
        self._reader, self._writer, self._who = reader, writer, who

    @classmethod
    async def connect(cls, path: str, who: str) -> "Line":
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        return cls(reader, writer, who)

    def report(self, what: str, at: float | None = None, **facts) -> None:
        """Reports a fact, stamped with the wall clock unless a time is given."""
        fact = {"t": at or time.time(), "who": self._who, "what": what, **facts}
        self._writer.write(json.dumps(fact).encode() + b"\n")

    async def orders(self):
        """Yields orders until the scenario closes the line."""
        while raw := await self._reader.readline():
            yield json.loads(raw)
