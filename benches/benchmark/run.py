"""The order of everything: what is measured takes turns, so that a change of the machine meets all three alike."""

import asyncio
import contextlib
import logging
import os
import platform
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

import aiohttp

from . import losses
from .endpoint import Endpoint
from .figures import Figures
from .forms import FORMS, PYTHON, Bench, Form
from .load import NOT_BORNE, Turn, expected_mb, turn
from .people import People
from .plan import Plan
from .usage import text
from .venue import Venue

Measurement = Callable[[Bench, People, Form, Plan], Awaitable[losses.Outcome]]

log = logging.getLogger("benchmark")


@contextlib.asynccontextmanager
async def stage(binaries: Path, calls: int, folder: Path) -> AsyncIterator[tuple[Bench, People]]:
    """Server, endpoint, people. They end with it."""
    async with contextlib.AsyncExitStack() as ends:
        venue = await Venue.open(binaries, folder)
        ends.push_async_callback(venue.close)
        endpoint = Endpoint()
        await endpoint.start()
        ends.push_async_callback(endpoint.stop)
        people = await People.gather(binaries, venue, calls, folder)
        ends.push_async_callback(people.stop)
        yield Bench(binaries, folder, venue, endpoint, f"bench-{os.getpid()}"), people


async def run(plan: Plan, binaries: Path, folder: Path) -> Figures:
    began = time.monotonic()
    async with stage(binaries, max(plan.sizes), folder) as (bench, people):
        figures = described(plan, bench)
        outcomes = [await outcome(losses.equal, bench, people, form, plan) for form in FORMS]
        figures.outcomes = [asdict(o) for o in outcomes]
        if unequal(figures):
            return figures
        starts: dict[str, list[float]] = {form.key: [] for form in FORMS}
        for i in range(plan.starts):
            for form in FORMS:
                worker, took = await bench.start(form, f"data-start-{i}")
                await worker.stop()
                starts[form.key].append(took)
        turns: list[Turn] = []
        for n, calls in enumerate(plan.sizes):
            # Another form begins each time.
            for form in FORMS[n % 3 :] + FORMS[: n % 3]:
                done = await turn(bench, people, form, calls, plan, expected_mb(turns, form, calls))
                log.info("%s, %d at once: %s", form.name, calls, done.skipped or "measured")
                turns.append(done)
                if done.registered_s:
                    starts[form.key].append(done.registered_s)
        for what in (losses.killed, losses.away):
            outcomes += [await outcome(what, bench, people, form, plan) for form in FORMS]
        figures.outcomes = [asdict(o) for o in outcomes]
        figures.starts_s = starts
        figures.turns = [asdict(t) for t in turns]
    figures.minutes = (time.monotonic() - began) / 60
    return figures


async def outcome(what: Measurement, bench: Bench, people: People, form: Form, plan: Plan) -> losses.Outcome:
    try:
        done = await what(bench, people, form, plan)
    except NOT_BORNE as error:
        done = losses.Outcome(form.key, what.__name__, plan.scripted, failed=str(error) or "it took too long")
    log.info("%s, %s: %s", form.name, done.what, done.failed or f"{done.right} of {done.calls} right")
    return done


def unequal(figures: Figures) -> list[str]:
    """Why the comparison does not count: a worker that reports a plain call wrongly, or not at all."""
    faults = []
    for outcome in figures.outcomes:
        if outcome["what"] == "equal" and (outcome["right"] < outcome["calls"] or outcome["twice"]):
            why = outcome["failed"] or "; ".join(outcome["wrong"]) or "a call was reported twice"
            faults.append(f"{outcome['form']}: {why}")
    return faults


def described(plan: Plan, bench: Bench) -> Figures:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in text(Path("/proc/cpuinfo")).splitlines()
            if "model name" in line
        ),
        "",
    )
    memory = text(Path("/proc/meminfo")).splitlines()[0].split()[1]
    binary = bench.binaries / "call-history"
    packages = Path(aiohttp.__file__).parents[1]
    return Figures(
        plan=plan.name,
        away_s=plan.away,
        after_s=plan.after_most,
        date=date.today().isoformat(),
        machine={
            "cores": str(os.cpu_count()),
            "cpu": cpu or platform.machine(),
            "memory": f"{int(memory) / 1024 / 1024:.0f} GB",
            "system": f"{platform.system()} {platform.release()}",
        },
        versions={
            "call-history": subprocess.run(
                [binary, "--version"], capture_output=True, text=True, check=True
            ).stdout.split()[-1],
            "commit": commit(),
            "Python": platform.python_version(),
            **{name: version(name) for name in ("livekit-agents", "livekit")},
        },
        server=bench.venue.name,
        binary_mb=binary.stat().st_size / 1e6,
        lines_of_python=sum(len(file.read_text().splitlines()) for file in PYTHON.glob("*.py")),
        environment_mb=sum(f.stat().st_size for f in packages.rglob("*") if f.is_file()) / 1e6,
    )


def commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(asked, capture_output=True, text=True, cwd=PYTHON)
    return found.stdout.strip() or "unknown"


async def bounded(plan: Plan, binaries: Path, folder: Path, within: float) -> Figures:
    async with asyncio.timeout(within):
        return await run(plan, binaries, folder)
