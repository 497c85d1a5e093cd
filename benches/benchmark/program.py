"""A child process that reports by lines of JSON. It has a process group of its own, which is killed with it."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENDS_WITHIN = 30.0


class Program:
    def __init__(self, child: asyncio.subprocess.Process, log: Path) -> None:
        self.child, self.log, self.pid = child, log, child.pid
        self.started = 0.0
        self.lines: list[tuple[float, Any]] = []
        """Each line with the time at which it was read, by `time.monotonic`."""
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, command: list[str], log: Path, env: dict[str, str], cwd: Path | None = None
    ) -> "Program":
        """What it says goes to `log`, too; its stderr only there."""
        began = time.monotonic()
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=cwd,
                limit=1 << 20,
                start_new_session=True,
            )
        program = cls(child, log)
        program.started = began
        return program

    async def _read(self) -> None:
        with self.log.open("ab") as log:
            async for line in self.child.stdout:
                now = time.monotonic()
                log.write(line)
                log.flush()
                try:
                    parsed = json.loads(line)
                except ValueError:
                    parsed = line.decode(errors="replace")
                async with self._changed:
                    self.lines.append((now, parsed))
                    self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(
        self, what: Callable[[Any], bool], within: float, since: int = 0, count: int = 1
    ) -> list:
        """The first `count` lines since the line `since` for which `what` holds: `(time, line)`."""

        def found() -> list:
            return [(t, line) for t, line in self.lines[since:] if isinstance(line, dict) and what(line)]

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: len(found()) >= count or self._reader.done())
        except TimeoutError:
            pass
        if len(lines := found()) < count:
            raise RuntimeError(
                f"{len(lines)} of {count} lines that were waited for in {within:.0f} s; see {self.log}"
            )
        return lines[:count]

    async def order(self, order: Any) -> None:
        self.child.stdin.write(json.dumps(order).encode() + b"\n")
        await self.child.stdin.drain()

    async def stop(self) -> None:
        """SIGTERM, and its end; then whatever is left of its group is killed."""
        if self.child.returncode is None:
            self.child.terminate()
            try:
                await asyncio.wait_for(self.child.wait(), ENDS_WITHIN)
            except TimeoutError:
                pass
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL for the process and all its children, as a container's end or a power cut."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await self.child.wait()
        await self._reader
