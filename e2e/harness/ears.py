"""The agent as a caller sees it: its states, with their times."""

import asyncio
import time


class Ears:
    def __init__(self) -> None:
        self._agent_states: list[tuple[float, str]] = []
        self._changed = asyncio.Condition()

    def noted(self, state: str, at: float | None = None) -> None:
        """Records that this client saw the agent enter `state`."""
        self._agent_states.append((at or time.time(), state))
        asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def hears(self, state: str, *, after: float = 0.0, timeout: float = 30.0) -> float:
        """Waits until this client sees the agent enter `state` after `after`; returns when."""

        def search() -> float | None:
            return next((t for t, s in self._agent_states if s == state and t > after), None)

        async with self._changed:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait_for(lambda: search() is not None)
            except TimeoutError:
                raise AssertionError(
                    f"the agent was not {state} in {timeout} s: {self._agent_states[-4:]}"
                ) from None
        return search()

    async def hears_out(self, *, after: float = 0.0, timeout: float = 30.0) -> float:
        """Waits until the agent began to speak after `after` and fell silent; returns when."""
        began = await self.hears("speaking", after=after, timeout=timeout)
        return await self.hears("listening", after=began, timeout=timeout)
