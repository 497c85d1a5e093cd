"""A child process whose output is read line by line, and which is always ended."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable


class Child:
    """Collects every line of stdout and stderr in `lines`."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process, self.name = process, name
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._readers = [
            asyncio.ensure_future(self._read(stream)) for stream in (process.stdout, process.stderr)
        ]

    @classmethod
    async def start(cls, *command: str, name: str, env: dict[str, str], cwd: str) -> "Child":
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 22,
            # A process group of its own, so that the processes it starts end with it.
            start_new_session=True,
        )
        return cls(process, name)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while raw := await stream.readline():
            self.lines.append(raw.decode(errors="replace").rstrip("\n"))
            async with self._changed:
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def line(self, wanted: Callable[[str], bool], timeout: float) -> str:
        """The first line of the output that `wanted` accepts; fails if the process ends before."""

        def found() -> str | None:
            return next((line for line in self.lines if wanted(line)), None)

        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait_for(lambda: found() or not self.alive)
        if (line := found()) is None:
            tail = "\n".join(self.lines[-30:])
            ended = "" if self.alive else f" and ended with status {self._process.returncode}"
            raise AssertionError(
                f"{self.name} did not say what was awaited in {timeout} s{ended}:\n{tail}"
            )
        return line

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL to the process and to those it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self, patience: float) -> int:
        """Waits until the process ends by itself; returns its exit status."""
        async with asyncio.timeout(patience):
            return await self._process.wait()

    async def stop(self, patience: float = 5.0) -> int:
        """SIGTERM, then SIGKILL after `patience` seconds. Returns the exit status."""
        if self.alive:
            self.terminate()
        with contextlib.suppress(TimeoutError):
            await self.ended(patience)
        self.kill()
        status = await self._process.wait()
        await asyncio.wait(self._readers, timeout=2.0)
        return status


def plain_environment(**settings: str) -> dict[str, str]:
    """The least that a child needs, so that other settings of the machine do not reach it."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "RUST_BACKTRACE")
    return {key: os.environ[key] for key in kept if key in os.environ} | settings
