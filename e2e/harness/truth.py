"""The truth of a call: what its actors did, and when, on the machine's clock.

Callers and agents record it while they act. Expectations are computed from it,
and not from anything that the product says.
"""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fact:
    t: float
    """Unix seconds."""
    who: str
    """`caller`, `agent`, or another actor's name."""
    what: str
    facts: dict = field(default_factory=dict)

    def __getitem__(self, key: str):
        return self.facts.get(key)


class Truth:
    """All facts of one call, and a way to wait for the next."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._changed = asyncio.Condition()
        self._lines: dict[str, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    def add(self, who: str, what: str, at: float | None = None, **facts) -> Fact:
        fact = Fact(at or time.time(), who, what, facts)
        self.facts.append(fact)
        asyncio.ensure_future(self._notify())
        return fact

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def all(self, who: str, what: str, **facts) -> list[Fact]:
        """Every fact of a kind, in the order of their times."""
        found = [
            f
            for f in self.facts
            if f.who == who and f.what == what and all(f[k] == v for k, v in facts.items())
        ]
        return sorted(found, key=lambda f: f.t)

    def one(self, who: str, what: str, **facts) -> Fact:
        found = self.all(who, what, **facts)
        assert found, f"{who} never did {what} {facts}"
        return found[0]

    def part(self, start: float, end: float, caller: str = "caller") -> "Truth":
        """The facts between two moments, with one of several callers as *the* caller."""
        part = Truth()
        for fact in self.facts:
            if start <= fact.t <= end and fact.who in (caller, "agent"):
                who = "caller" if fact.who == caller else fact.who
                part.facts.append(Fact(fact.t, who, fact.what, fact.facts))
        return part

    async def wait(
        self, who: str, what: str, *, after: float = 0.0, timeout: float = 20.0, **facts
    ) -> Fact:
        """Waits for the first such fact later than `after` (Unix seconds)."""

        def search() -> Fact | None:
            return next((f for f in self.all(who, what, **facts) if f.t > after), None)

        async with self._changed:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait_for(lambda: search() is not None)
            except TimeoutError:
                raise AssertionError(f"{who} did not {what} {facts} in {timeout} s") from None
        return search()

    async def listen(self, path: str) -> None:
        """Opens the line for actors in other processes."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=1 << 20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while raw := await reader.readline():
                fact = json.loads(raw)
                who, what, at = fact.pop("who"), fact.pop("what"), fact.pop("t")
                self._lines[who] = writer
                self.add(who, what, at, **fact)
        writer.close()

    def order(self, who: str, do: str, **how) -> None:
        """Sends an order to an actor on the line."""
        assert who in self._lines, f"{who} is not on the line"
        self._lines[who].write(json.dumps({"do": do, **how}).encode() + b"\n")

    async def close(self) -> None:
        for writer in self._lines.values():
            writer.close()
        if self._server:
            self._server.close()

    def story(self) -> str:
        """The call as lines to read, seconds from its first fact."""
        facts = sorted(self.facts, key=lambda f: f.t)
        start = facts[0].t if facts else 0.0
        return "\n".join(f"{f.t - start:8.3f} {f.who:8} {f.what} {f.facts or ''}" for f in facts)
