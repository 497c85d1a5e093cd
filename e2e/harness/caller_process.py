"""A caller in a process of its own, so that it can be killed.

Run as `python -m harness.caller_process URL SOCKET` with the token in the
environment variable `CALLER_TOKEN` and the lines as JSON in `CALLER_LINES`.
Takes orders over the line: `speaks`, `status`, `hangs_up`.
"""

import asyncio
import json
import os
import sys

from .caller import Caller
from .wire import Line


async def main(url: str, socket: str) -> None:
    line = await Line.connect(socket, "caller")
    lines = json.loads(os.environ["CALLER_LINES"])

    def report(what: str, at: float | None = None, **facts) -> None:
        line.report(what, at, **facts)

    caller = Caller(url, os.environ["CALLER_TOKEN"], lines, report)
    await caller.join()
    async for order in line.orders():
        match order["do"]:
            case "speaks":
                await caller.speaks(order["line"])
            case "status":
                await caller.status(order["status"])
            case "hangs_up":
                await caller.hangs_up()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
