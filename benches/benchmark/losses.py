"""Scripted calls, each record of which is compared with the truth: that all workers do equal work, and what is lost
when one is killed or when the endpoint is away."""

import asyncio
import time
from dataclasses import dataclass, field

from .forms import Bench, Form
from .people import People
from .plan import Plan
from .truth import differences

TALKS_WITHIN, HELD_WITHIN = 90.0, 90.0
POSTED_WITHIN = 60.0
AFTER_KILL = 30.0
"""Seconds from the end of a killed worker's calls until their records count as lost."""
AFTER_AWAY = 120.0
APART = 2.0
"""Seconds between the beginnings of calls, so that a kill meets each at another moment. They take twenty."""
DOWN_FOR = 1.0


@dataclass
class Outcome:
    form: str
    what: str
    """`equal`, `killed` or `away`."""
    calls: int
    posted: int = 0
    right: int = 0
    twice: int = 0
    runs: int = 1
    last_after_s: float | None = None
    """From the endpoint's return to the last record."""
    wrong: list[str] = field(default_factory=list)
    failed: str | None = None
    """Why the calls could not be held: nothing else is known then."""


async def equal(bench: Bench, people: People, form: Form, plan: Plan) -> Outcome:
    """Calls that end in three ways. Nothing goes wrong, and every record must be right. A machine that is busy for a
    moment can delay what a record shows, so that there is a second run."""
    result = await plain(bench, people, form, plan, "equal")
    if result.right < result.calls:
        result = await plain(bench, people, form, plan, "again")
        result.runs = 2
    return result


async def plain(bench: Bench, people: People, form: Form, plan: Plan, name: str) -> Outcome:
    worker, _ = await bench.start(form, f"data-{name}")
    calls = scripted(bench, form, name, plan.scripted, ("hung_up", "deleted", "rejected"))
    try:
        await people.hold(calls, bench.agent_name(form))
        truths = await people.held(calls, "held", TALKS_WITHIN + HELD_WITHIN)
        return await outcome(bench, form, "equal", calls, truths, POSTED_WITHIN)
    finally:
        await clear(bench, people, calls)
        await worker.stop()


async def killed(bench: Bench, people: People, form: Form, plan: Plan) -> Outcome:
    """SIGKILL in the middle of the calls, in each at another moment; started again a second later; the calls go on and
    end."""
    worker, _ = await bench.start(form, "data-killed")
    calls = scripted(bench, form, "killed", plan.scripted, ("hung_up", "deleted"))
    try:
        for call in calls:
            await people.hold([call], bench.agent_name(form))
            await asyncio.sleep(APART)
        await people.held(calls, "talking", TALKS_WITHIN)
        await worker.kill()
        await asyncio.sleep(DOWN_FOR)
        worker, _ = await bench.start(form, "data-killed")
        truths = await people.held(calls, "held", HELD_WITHIN)
        return await outcome(bench, form, "killed", calls, truths, AFTER_KILL, notes=True)
    finally:
        await clear(bench, people, calls)
        await worker.stop()


async def away(bench: Bench, people: People, form: Form, plan: Plan) -> Outcome:
    """The endpoint refuses connections when the calls end, and for a while after."""
    worker, _ = await bench.start(form, "data-away")
    calls = scripted(bench, form, "away", plan.scripted, ("hung_up", "deleted"))
    try:
        await people.hold(calls, bench.agent_name(form))
        await people.held(calls, "talking", TALKS_WITHIN)
        await bench.endpoint.stop()
        try:
            truths = await people.held(calls, "held", HELD_WITHIN)
            await asyncio.sleep(plan.away)
        finally:
            await bench.endpoint.start()
        back = time.monotonic()
        result = await outcome(bench, form, "away", calls, truths, AFTER_AWAY)
        times = [
            post.at for posts in bench.endpoint.of({room for room, _ in calls}).values() for post in posts
        ]
        result.last_after_s = max(times) - back if times else None
        return result
    finally:
        await clear(bench, people, calls)
        await worker.stop()


def scripted(
    bench: Bench, form: Form, what: str, number: int, stories: tuple[str, ...]
) -> list[tuple[str, str]]:
    return [(f"{bench.run}-{form.key}-{what}-{i}", stories[i % len(stories)]) for i in range(number)]


async def outcome(
    bench: Bench,
    form: Form,
    what: str,
    calls: list[tuple[str, str]],
    truths: dict[str, dict],
    within: float,
    notes: bool = False,
) -> Outcome:
    result = Outcome(form.key, what, len(calls))
    posts = await bench.endpoint.wait([room for room, _ in calls], within)
    for room, story in calls:
        if not (found := posts[room]):
            result.wrong.append(f"{story}: no record")
            continue
        result.posted += 1
        result.twice += len(found) > 1
        wrong = differences(found[-1].record, truths[room]["truth"], notes)
        wrong += [found[-1].fault] if found[-1].fault else []
        result.right += not wrong
        result.wrong += [f"{story}: {fault}" for fault in wrong]
    return result


async def clear(bench: Bench, people: People, calls: list[tuple[str, str]]) -> None:
    await people.forget([room for room, _ in calls])
    for room, _ in calls:
        await bench.venue.delete(room)
