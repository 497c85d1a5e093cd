"""One worker with so many calls at once: memory and CPU idle, quiet, talking and afterwards; how soon it is in a room;
how soon the record comes when a room ends."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
from livekit import api

from .forms import OURS, Bench, Form
from .people import People
from .plan import Plan
from .program import Program
from .usage import Usage, machine_busy, memory_available_mb, usage

OBSERVED_WITHIN, JOINED_WITHIN, POSTED_WITHIN = 120.0, 60.0, 60.0
CALL_FOR = 0.5
NOT_BORNE = (RuntimeError, TimeoutError, aiohttp.ClientError, api.TwirpError)
"""What goes wrong when a machine, a server or a worker has too much to do."""
MORE_MEMORY = 1.3
"""A turn begins only if this many times the memory that it is expected to need is free."""


@dataclass
class Span:
    """A worker over some seconds."""

    rss_mb: float
    pss_mb: float
    cpu_percent: float
    """Of one core."""
    processes: int
    threads: int
    machine_percent: float
    """How busy the machine was, all cores together: near 100 the CPU figures say less."""
    chunks: float = 0.0
    """Pieces of transcript in each call and second."""


@dataclass
class Turn:
    form: str
    calls: int
    registered_s: float = 0.0
    idle: Span | None = None
    quiet: Span | None = None
    talking: Span | None = None
    after: Span | None = None
    joined_ms: list[float] = field(default_factory=list)
    posted_ms: list[float] = field(default_factory=list)
    reported: int = 0
    """How many of the calls were reported when they were ended all at once."""
    probes_reported: int = 0
    skipped: str | None = None
    """Why there are no figures, or not all."""

    def per_call(self, span: str, figure: str) -> float | None:
        with_calls = getattr(self, span)
        if with_calls is None or self.idle is None:
            return None
        return (getattr(with_calls, figure) - getattr(self.idle, figure)) / self.calls


async def turn(bench: Bench, people: People, form: Form, calls: int, plan: Plan, expected_mb: float) -> Turn:
    """`expected_mb`: what the calls will need, as far as smaller turns show."""
    result = Turn(form.key, calls)
    if expected_mb * MORE_MEMORY > (free := memory_available_mb()):
        result.skipped = f"{calls} calls would need some {expected_mb:.0f} MB, and {free:.0f} MB are free"
        return result
    worker, result.registered_s = await bench.start(form, f"data-{calls}")
    rooms = [f"{bench.run}-{form.key}-{calls}-{i}" for i in range(calls)]
    try:
        await measure(bench, people, form, plan, worker, rooms, result)
    except NOT_BORNE as error:
        result.skipped = f"not borne: {error or 'it took too long'}"
        await people.talk(False)
    finally:
        await people.forget(rooms)
        for room in rooms:
            await bench.venue.delete(room)
        await worker.stop()
    return result


async def measure(
    bench: Bench, people: People, form: Form, plan: Plan, worker: Program, rooms: list[str], result: Turn
) -> None:
    await asyncio.sleep(plan.settle)
    result.idle = await span(worker, plan.idle)
    await people.open(rooms, bench.agent_name(form))
    await observed(bench, rooms)
    await asyncio.sleep(plan.settle)
    result.quiet = await span(worker, plan.quiet)
    await probe(bench, people, form, plan, len(rooms), result)
    await people.talk(True)
    # The agents begin within three seconds, and an utterance takes as long.
    await asyncio.sleep(plan.settle + 3)
    before, began = await people.chunks(), time.monotonic()
    result.talking = await span(worker, plan.talking)
    sent, took = await people.chunks() - before, time.monotonic() - began
    result.talking.chunks = sent / took / len(rooms)
    await people.talk(False)
    await asyncio.sleep(3.5)  # the last utterances end
    for room in rooms:
        await bench.venue.delete(room)
    await people.forget(rooms)
    posts = await bench.endpoint.wait(rooms, POSTED_WITHIN)
    result.reported = sum(bool(found) for found in posts.values())
    await asyncio.sleep(plan.after_most if len(rooms) == max(plan.sizes) else plan.after)
    result.after = await span(worker, plan.idle)


async def observed(bench: Bench, rooms: list[str]) -> None:
    """Waits until each room has caller, voice agent and observer."""
    async with asyncio.timeout(OBSERVED_WITHIN):
        for room in rooms:
            while await bench.venue.active(room) < 3:
                await asyncio.sleep(0.2)


async def span(worker: Program, seconds: float) -> Span:
    (busy, passed), before = machine_busy(), usage(worker.pid)
    await asyncio.sleep(seconds)
    now, (busy_now, passed_now) = usage(worker.pid), machine_busy()
    machine = 100 * (busy_now - busy) / max(passed_now - passed, 0.01)
    return spanned(before, now, machine)


def spanned(before: Usage, now: Usage, machine_percent: float) -> Span:
    return Span(now.rss_mb, now.pss_mb, now.cpu_percent(before), now.processes, now.threads, machine_percent)


async def probe(bench: Bench, people: People, form: Form, plan: Plan, calls: int, result: Turn) -> None:
    """Joins and ends, one after the other, beside the calls that are on."""
    agent_name = bench.agent_name(form)
    for i in range(plan.probes):
        # An empty room, to which the worker is dispatched by the request that makes it. The time ends when the server
        # lists the worker as connected.
        room = f"{bench.run}-{form.key}-{calls}-join-{i}"
        began = await bench.venue.create(room, agent_name)
        result.joined_ms.append(1000 * (await bench.venue.waits_for(room, 1, JOINED_WITHIN) - began))
        await bench.venue.delete(room)
        # A call that the worker observes. It could not know the callers of the empty room so soon: the server reports
        # participants without a track every three seconds only.
        room = f"{bench.run}-{form.key}-{calls}-end-{i}"
        await people.open([room], agent_name)
        await bench.venue.waits_for(room, 3, JOINED_WITHIN)
        await asyncio.sleep(CALL_FOR)
        began = await bench.venue.delete(room)
        posts = (await bench.endpoint.wait([room], POSTED_WITHIN))[room]
        await people.forget([room])
        if posts:
            result.probes_reported += 1
            result.posted_ms.append(1000 * (posts[0].at - began))


def expected_mb(turns: list[Turn], form: Form, calls: int) -> float:
    """From the largest smaller turn of this form."""
    known = [t for t in turns if t.form == form.key and t.quiet and t.idle]
    if not known:
        return 100.0 if form is OURS else 1000.0
    largest = max(known, key=lambda t: t.calls)
    return largest.idle.pss_mb + calls * max(largest.per_call("quiet", "pss_mb"), 0.0)
