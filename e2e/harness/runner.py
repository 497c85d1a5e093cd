"""Runs asynchronous tests side by side, and returns each test's own result.

A call takes half a minute of speaking, waiting and hanging up on any machine.
So all scenarios run in one event loop in a thread of their own, a few at once,
the long ones first. Pytest then asks for the results one by one and reports
them as usual.
"""

import asyncio
import os
import threading
import time
from concurrent.futures import Future

from .lab import Lab

AT_ONCE = int(os.environ.get("E2E_AT_ONCE", "3"))
"""Scenarios at a time. More are faster, until the machine delays what is measured."""

PATIENCE = 150.0
"""Seconds after which a scenario is given up."""


class Runner:
    """Starts the scenarios when the first result is asked for."""

    def __init__(self, items: list) -> None:
        self._items = items
        self._results: dict[str, Future] = {item.nodeid: Future() for item in items}
        self.took: dict[str, float] = {}
        self.figures: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def result(self, item) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
            self._thread.start()
        self._results[item.nodeid].result()

    async def _main(self) -> None:
        lab = Lab()
        try:
            await lab.open()
        except BaseException as error:
            for future in self._results.values():
                future.set_exception(AssertionError(f"the lab did not open: {error}"))
            await lab.close()
            return

        def marked(item, name: str) -> bool:
            return item.get_closest_marker(name) is not None

        room_for = asyncio.Semaphore(AT_ONCE)
        together = [i for i in self._items if not marked(i, "last")]
        together.sort(key=lambda item: not marked(item, "long"))
        await asyncio.gather(*(self._one(item, lab, room_for) for item in together))
        for item in self._items:
            if marked(item, "last"):
                await self._one(item, lab, room_for)
        self.figures = lab.figures
        await lab.close()

    async def _one(self, item, lab: Lab, room_for: asyncio.Semaphore) -> None:
        future = self._results[item.nodeid]
        async with room_for:
            began = time.time()
            try:
                await asyncio.wait_for(item.obj(lab), PATIENCE)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            self.took[item.nodeid] = time.time() - began

    def join(self) -> None:
        if self._thread:
            self._thread.join()
