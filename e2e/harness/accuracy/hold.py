"""Holds a call as it was planned, and keeps the results.

    ROW-NN.truth.json     plan, facts, and the record that was posted
    ROW-NN.journal.jsonl  what the product saw
    ROW-NN.failed.txt     instead of both: why the call failed
"""

import asyncio
import contextlib
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from ..bot import bot_in
from ..call import Call
from ..caller import Caller
from ..lab import Lab
from .plan import NOISE, Plan, draw
from .rows import ROWS, Kind, kind_of

_PATIENCE = 150.0
"""Seconds after which a conversation is given up."""

_RETURNS = 45.0
"""Seconds to wait for the record, which includes the grace time for a caller to come back."""


class KeepingLab(Lab):
    """A lab whose product adds details and keeps the journals of ended calls."""

    async def new_product(self, endpoint, suffix: str = "", **settings: str):
        settings |= {"CALL_HISTORY_DETAILS": "true", "CALL_HISTORY_KEEP_JOURNALS": "true"}
        return await super().new_product(endpoint, suffix, **settings)


async def hold_all(rows: list[str], calls: int, seed: int, at_once: int, to: Path) -> None:
    """Holds `calls` calls of each row, `at_once` at a time, and prints a line for each."""
    to.mkdir(parents=True, exist_ok=True)
    plans = {(row, n): draw(seed, row, n) for n in range(calls) for row in rows}
    lab = KeepingLab()
    free = asyncio.Semaphore(at_once)

    async def one(row: str, number: int) -> None:
        plan = plans[row, number]
        error = await _held(lab, row, number, plan, to, free)
        outcome = f"FAILED: {error.splitlines()[0]}" if error else "held"
        at = time.strftime("%H:%M:%S")
        print(f"{at}  {row}-{number:02}  {plan.seconds():4.1f} s planned  {outcome}", flush=True)

    try:
        await lab.open()
        if any(kind_of(row).runs == "node" for row in rows):
            await lab.node_agents()
        # The rows take turns, so that other load on the machine affects all of them alike.
        await asyncio.gather(*(one(row, n) for row, n in plans))
    finally:
        await lab.close()


async def _held(
    lab: Lab, row: str, number: int, plan: Plan, to: Path, free: asyncio.Semaphore
) -> str | None:
    """Holds one call and keeps it; returns the error if it failed."""
    name = f"{row}-{number:02}"
    failed = to / f"{name}.failed.txt"
    truth, journal = to / f"{name}.truth.json", to / f"{name}.journal.jsonl"
    for old in (failed, truth, journal):
        old.unlink(missing_ok=True)
    try:
        kept = await _hold(lab, row, number, plan, journal, free)
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        why = f"{type(error).__name__}: {error}\n{notes}"
        failed.write_text(why)
        journal.unlink(missing_ok=True)
        return why
    truth.write_text(json.dumps(kept, indent=1, default=str))
    return None


async def _hold(
    lab: Lab, row: str, number: int, plan: Plan, journal: Path, free: asyncio.Semaphore
) -> dict:
    kind, (_, caller) = kind_of(row), ROWS[row]
    script = plan.script(speech_to_speech=kind.speech_to_speech, transcribes=kind.transcribes)
    async with contextlib.AsyncExitStack() as stack:
        async with free:
            call = await stack.enter_async_context(lab.call(row, script, agent=kind.runs))
            async with asyncio.timeout(_PATIENCE):
                await _converse(call, kind, caller, number, plan)
        # The record comes after the grace time; other calls may take place meanwhile.
        posted = json.loads((await call.endpoint.wait(call.room, timeout=_RETURNS))[0].body)
        await _kept(Path(call.product.data) / "journals" / f"{posted['call_id']}.jsonl", journal)
        facts = sorted(call.truth.facts, key=lambda fact: fact.t)
        return {
            "row": row,
            "number": number,
            "plan": asdict(plan),
            "posted": posted,
            "facts": [{"t": f.t, "who": f.who, "what": f.what, **f.facts} for f in facts],
        }


async def _kept(journal: Path, to: Path) -> None:
    """Copies a journal; waits for it, because the product may keep it only after the post."""
    until = time.time() + 5.0
    while not journal.exists() and time.time() < until:
        await asyncio.sleep(0.1)
    assert journal.exists(), "the journal of the call was not kept"
    shutil.copy(journal, to)


async def _converse(call: Call, kind: Kind, caller: str, number: int, plan: Plan) -> None:
    if kind.runs == "bot":
        await _with_a_bot(call, kind, caller, number, plan)
    elif caller == "browser":
        await _in_a_browser(call, plan)
    elif caller == "phone":
        phone = call.phone(f"+155501{10000 + number}")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        await _talk(phone, kind, plan)
        await phone.hangs_up()
    else:
        page = call.page(f"web-{number}")
        await page.join()
        await _talk(page, kind, plan)
        await page.leaves()


async def _with_a_bot(call: Call, kind: Kind, caller: str, number: int, plan: Plan) -> None:
    """A bot is not dispatched, and takes seconds to start: it is in the room before the caller."""
    await call.create_room()
    await bot_in(call, greet_after=call.script.greet_after, socket=call.script.socket)
    await call.agent_ready(60.0)
    await call.observed()
    if caller == "phone":
        # The bot does not wait for a status: it greets whoever joins.
        client = call.phone(f"+155501{10000 + number}", status="active")
    else:
        client = call.page(f"web-{number}")
    ears = asyncio.ensure_future(_hears_a_bot(call, client))
    try:
        await client.join()
        await _talk(client, kind, plan)
        await (client.hangs_up() if caller == "phone" else client.leaves())
    finally:
        ears.cancel()


async def _hears_a_bot(call: Call, client: Caller) -> None:
    """A bot has no state that its caller could see: the caller knows when the bot's sound was played."""
    states = {"playback_started": "speaking", "playback_finished": "listening"}
    taken = 0
    while True:
        facts = call.truth.facts[taken:]
        taken += len(facts)
        for fact in facts:
            if fact.who == "agent" and (state := states.get(fact.what)):
                client.noted(state, fact.t)
        await asyncio.sleep(0.02)


async def _talk(caller: Caller, kind: Kind, plan: Plan) -> None:
    """A caller that waits for what it hears."""
    quiet, spoke = await caller.hears_out(), 0.0
    for number, turn in enumerate(plan.turns):
        if turn.cuts_in:
            await caller.hears("speaking", after=spoke)
        spoke = await caller.speaks(number, pause=turn.pause)
        following = plan.turns[number + 1 : number + 2]
        if not following and plan.hangs_up_at_once:
            return
        if following and following[0].cuts_in:
            continue
        if turn.noise_after is None:
            quiet = await caller.hears_out(after=max(quiet, spoke))
            continue
        await caller.hears("speaking", after=spoke)
        await asyncio.sleep(turn.noise_after)
        quiet = await caller.makes_noise(NOISE)
        if kind.resumes:
            quiet = await caller.hears_out(after=quiet)
    await asyncio.sleep(plan.waits)


async def _in_a_browser(call: Call, plan: Plan) -> None:
    """A caller whose microphone plays a file: its times are fixed, whatever the agent does."""
    page = call.browser("surfer", *plan.microphone())
    await page.join()
    await page.hears_out()
    await page.speaks()
    last = await call.truth.wait("caller", "spoke", text=plan.turns[-1].line, timeout=60)
    if plan.hangs_up_at_once:
        await page.leaves()
        return
    await page.hears_out(after=last.t)
    await asyncio.sleep(plan.waits)
    await page.leaves()
