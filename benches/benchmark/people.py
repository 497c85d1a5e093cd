"""Callers and voice agents on LiveKit's Rust SDK, in processes of `load people`. They cost the same in each turn, and
their cost is not counted."""

import os
from pathlib import Path
from typing import Any

from .program import Program
from .venue import Venue

EACH = 25
"""Calls in one process."""
OPEN_WITHIN, ANSWER_WITHIN = 120.0, 30.0


class People:
    def __init__(self, members: list[Program]) -> None:
        self.members = members

    @classmethod
    async def gather(cls, binaries: Path, venue: Venue, calls: int, folder: Path) -> "People":
        members: list[Program] = []
        env = {**venue.env, "PATH": os.environ["PATH"]}
        for i in range(-(-calls // EACH)):
            members.append(
                await Program.start([str(binaries / "load"), "people"], folder / f"people-{i}.log", env)
            )
        return cls(members)

    def shares(self, calls: list[Any]) -> list[tuple[Program, list[Any]]]:
        """Which process holds which calls; the same each time for a call's number, which ends the room's name."""
        shares: list[list[Any]] = [[] for _ in self.members]
        for call in calls:
            room = call if isinstance(call, str) else call[0]
            shares[int(room.rpartition("-")[2]) % len(shares)].append(call)
        return [(member, share) for member, share in zip(self.members, shares, strict=True) if share]

    async def open(self, rooms: list[str], agent_name: str | None, at_once: int = 5) -> None:
        """Opens a call in each room, and waits until caller and voice agent are in."""
        waits = []
        for member, share in self.shares(rooms):
            seen = len(member.lines)
            await member.order({"Open": {"rooms": share, "at_once": at_once, "agent_name": agent_name}})
            waits.append((member, share, seen))
        for member, share, seen in waits:
            mine = set(share)
            lines = await member.wait_for(
                lambda line: line.get("open") in mine, OPEN_WITHIN, seen, len(share)
            )
            if errors := [line["error"] for _, line in lines if "error" in line]:
                raise RuntimeError(f"{len(errors)} of {len(rooms)} calls could not be opened: {errors[0]}")

    async def hold(self, calls: list[tuple[str, str]], agent_name: str) -> None:
        """Begins scripted calls: each a room and a story."""
        for member, share in self.shares(calls):
            await member.order({"Hold": {"calls": share, "agent_name": agent_name}})

    async def held(self, calls: list[tuple[str, str]], what: str, within: float) -> dict[str, dict]:
        """Waits for a line `talking` or `held` about each scripted call."""
        found = {}
        for member, share in self.shares(calls):
            rooms = {room for room, _ in share}

            def of_these(line: dict, rooms: set[str] = rooms) -> bool:
                return line.get(what) in rooms or ("error" in line and line.get("held") in rooms)

            for _, line in await member.wait_for(of_these, within, 0, len(share)):
                if "error" in line:
                    raise RuntimeError(f"a scripted call failed: {line['error']}")
                found[line[what]] = line
        return found

    async def talk(self, on: bool) -> None:
        for member in self.members:
            await member.order({"Talk": {"on": on}})

    async def forget(self, rooms: list[str]) -> None:
        for member in self.members:
            await member.order({"Forget": {"rooms": rooms}})

    async def chunks(self) -> int:
        """Pieces of transcripts sent so far."""
        total = 0
        for member in self.members:
            seen = len(member.lines)
            await member.order("Count")
            [(_, line)] = await member.wait_for(lambda line: "chunks" in line, ANSWER_WITHIN, seen)
            total += line["chunks"]
        return total

    async def stop(self) -> None:
        for member in self.members:
            await member.kill()
