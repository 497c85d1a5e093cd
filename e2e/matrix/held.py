"""Holds the call of the matrix with one version, and compares its record with what happened.

A greeting; the caller says ten words and cuts the answer of 28 words off after 1.6 s; an answer of
13 words; a silence of 6.3 s; four words, a goodbye, and the caller leaves.
"""

import asyncio
import contextlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from livekit import api

from harness import expect, sound
from harness.accuracy.hold import KeepingLab
from harness.call import Call, conversation
from harness.process import Child
from harness.server import Server

from .hearing import Heard, Hearing
from .versions import PIPECAT, Version

GREETING = "hello and welcome to the lab"
ASKS, CUTS_IN, THANKS = (
    "I would like to book a table for four people",
    "wait a moment please",
    "thank you very much",
)
LONG, SHORT, GOODBYE = (
    "this is a rather long announcement from the agent that goes on for quite a while so that "
    "somebody can cut in and then it still goes on",
    "alright then let us find another day for your table and four people",
    "goodbye then",
)

_CUT_AFTER = 1.6
_SILENCE = 6.3
_PAUSE = 1.5
"""Seconds between the end of an answer and the caller's next line."""
_PATIENCE = 120.0
_RETURNS = 60.0
"""Seconds to wait for the record, which includes the grace time for a caller to come back."""

TO_THE_EARS = 0.075
"""Seconds that the agent's sound takes to a caller's ears (docs/accuracy.md), which the times of a
record do not contain."""

OFF = {"feed": 0.25, "items": 0.25}
"""How far a mean response time may be from what the caller heard, by the evidence of the caller's
speech. Other evidence is allowed `expect.UNFED`."""

BOT_OFF = 0.5
"""The same if the agent's speech is known from RTVI."""


class OffScript(Exception):
    """The call did not take place as planned, so its record says nothing about the product."""


@dataclass
class Result:
    version: Version
    evidence: dict = field(default_factory=dict)
    """By side, as the record's details have it; empty if there is no record."""
    wrong: list[str] = field(default_factory=list)
    """What differs from the truth."""
    off: dict[str, float] = field(default_factory=dict)
    """By side: the error of the mean response time, in seconds."""
    again: str = ""
    """Why the call was held a second time."""
    journal: Path | None = None

    def seen(self, what: str) -> str:
        """The evidence of both sides, caller first; `what` is `speech` or `words`."""
        return " / ".join(self.evidence[side][what] for side in ("user", "agent") if self.evidence)

    def __str__(self) -> str:
        times = ", ".join(f"{side} {off:+.2f} s" for side, off in self.off.items())
        line = f"{self.version.title:31}{self.seen('speech'):20}{times:31}"
        line += "; ".join(self.wrong) or "exact"
        if self.wrong and self.journal:
            line += f" (journal: {self.journal})"
        if self.again:
            line += f" (held again: {self.again})"
        return line


class MatrixLab(KeepingLab):
    """Server, endpoint and product. Each call starts its own agent."""

    async def open(self) -> None:
        self.server = await Server.find(self.directory)
        self.endpoint = await self.new_endpoint()
        self.product = await self.new_product(self.endpoint)


async def hold(lab: MatrixLab, version: Version, keep: Path) -> Result:
    """Holds one call, and a second one if the first did not follow its script. Keeps the journal,
    or what is known about a call without a result, in the folder `keep`."""
    again = ""
    while True:
        result = Result(version, again=again)
        try:
            await _held(lab, keep, result)
            return result
        except Exception as error:
            _explain(error, keep / f"{version.key}.failed.txt")
            why = (str(error).splitlines() or [type(error).__name__])[0]
            if isinstance(error, OffScript) and not again:
                again = why
                continue
            result.wrong.append(f"no result: {why}")
            return result


def _explain(error: Exception, to: Path) -> None:
    to.write_text("\n".join([repr(error), *getattr(error, "__notes__", [])]))


async def _held(lab: MatrixLab, keep: Path, result: Result) -> None:
    version = result.version
    for old in (f"{version.key}.failed.txt", f"{version.key}.jsonl"):
        (keep / old).unlink(missing_ok=True)
    script = conversation(GREETING, (ASKS, LONG), (CUTS_IN, SHORT), (THANKS, GOODBYE))
    script.greet_after = 1.0
    # Each agent is started here, as the bots of other scenarios are.
    async with lab.call(f"matrix-{version.key}", script, agent="bot") as call:
        heard = await _converse(call, version)
        counts, means = _truth(call, heard)
        record = await call.record(_RETURNS)
        result.journal = await _kept(call, record, keep / f"{version.key}.jsonl")
        result.evidence = record["details"]["evidence"]
        _compare(result, record, counts, means)
        result.wrong += _differences(record, call)


async def _converse(call: Call, version: Version) -> list[Heard]:
    """The call, of which nothing is measured if anybody waits in vain."""
    agent = None
    try:
        async with asyncio.timeout(_PATIENCE):
            agent = await _enter(call, version)
            return await _talk(call)
    except (AssertionError, TimeoutError) as error:
        why = str(error) or "it took too long"
        off = OffScript(why.splitlines()[0])
        off.add_note("\n".join([why, *(agent.lines[-60:] if agent else [])]))
        raise off from None


async def _enter(call: Call, version: Version) -> Child:
    """Agent and product enter a room before the caller: an agent that starts slowly would begin
    the call with a silence."""
    if version.framework == PIPECAT:
        # It is not dispatched, and joins a room that is there.
        await call.create_room()
        agent = await version.start(call)
    else:
        # A worker must be registered before the room dispatches it.
        call.voice_agent = call.room
        agent = await version.start(call)
        await call.create_room()
    await _both_are_there(call)
    return agent


async def _talk(call: Call) -> list[Heard]:
    """The caller waits for what it hears, and for nothing else."""
    caller = call.page("web-user")
    ears = Hearing(caller.room)
    await caller.join()
    await ears.ends(0)
    await caller.speaks(0, pause=_PAUSE)
    await ears.begins(1)
    await caller.speaks(1, pause=_CUT_AFTER)
    quiet = (await ears.ends(2)).end
    await caller.speaks(2, pause=quiet + _SILENCE - time.time())
    await ears.ends(3)
    await asyncio.sleep(_PAUSE)
    await caller.leaves()
    return ears.all


async def _both_are_there(call: Call, timeout: float = 60.0) -> None:
    """Waits until agent and product are in the room."""
    until = time.time() + timeout
    while time.time() < until:
        with contextlib.suppress(api.TwirpError):
            if {p.permission.hidden for p in await call.participants()} == {True, False}:
                return
        await asyncio.sleep(0.2)
    raise AssertionError(f"agent and product were not in the room after {timeout} s")


def _truth(call: Call, heard: list[Heard]) -> tuple[dict[str, int], dict[str, float]]:
    """The six numbers that are counted, and the mean response time of each side.

    Raises `OffScript` if anybody said something else than planned.
    """
    _followed(call, heard)
    starts = [f.t for f in call.truth.all("caller", "speaks")]
    ends = [f.t for f in call.truth.all("caller", "spoke")]
    greeting, cut, short, goodbye = heard
    # The caller's second line cut the agent off, so it is no response.
    asked = [starts[0] - greeting.end, starts[2] - short.end]
    answered = [cut.start - ends[0], short.start - ends[1], goodbye.start - ends[2]]
    counts = {
        "total_user_utterances": 3,
        "total_agent_utterances": 4,
        "longest_user_utterance": len(ASKS.split()),
        "longest_agent_utterance": len(SHORT.split()),
        "silence_count": _silences(call, [*zip(starts, ends), *((h.start, h.end) for h in heard)]),
        "interruption_count": 1,
    }
    means = {
        "user": sum(asked) / len(asked) + TO_THE_EARS,
        "agent": sum(answered) / len(answered) - TO_THE_EARS,
    }
    return counts, means


def _followed(call: Call, heard: list[Heard]) -> None:
    if len(heard) != 4:
        raise OffScript(f"{len(heard)} utterances of the agent were heard instead of 4")
    for utterance, text in zip(heard, (GREETING, None, SHORT, GOODBYE), strict=True):
        due = sound.seconds_for(text) if text else utterance.seconds
        if abs(utterance.seconds - due) > 0.4:
            raise OffScript(f"{utterance.seconds:.1f} s of the agent's {due:.1f} s were heard")
    cuts_in = call.truth.one("caller", "speaks", text=CUTS_IN).t
    if not cuts_in < heard[1].end < call.truth.one("caller", "spoke", text=CUTS_IN).t + 1.0:
        raise OffScript("the caller did not cut the agent off")


def _silences(call: Call, spans: list[tuple[float, float]], threshold: float = 5.0) -> int:
    """How many pauses of at least `threshold` seconds the call has."""
    left = call.truth.one("caller", "leaves").t
    quiet_since, count = call.truth.one("caller", "joined").t, 0
    for start, end in [*sorted(spans), (left, left)]:
        gap = start - quiet_since
        if abs(gap - threshold) < 0.5:
            raise OffScript(f"a pause of {gap:.2f} s: is it a silence or not?")
        count += gap > threshold
        quiet_since = max(quiet_since, end)
    return count


def _compare(
    result: Result, record: dict, counts: dict[str, int], means: dict[str, float]
) -> None:
    metrics = record["metrics"]
    for name, due in counts.items():
        if metrics[name] != due:
            result.wrong.append(f"{name} {metrics[name]} instead of {due}")
    allowed = OFF.get(result.evidence["user"]["speech"], expect.UNFED)
    if result.evidence["agent"]["speech"] == "rtvi":
        allowed = BOT_OFF
    for side, due in means.items():
        name = f"average_{side}_response_time"
        result.off[side] = metrics[name] - due
        if abs(result.off[side]) > allowed:
            result.wrong.append(f"{name} {metrics[name]:.2f} instead of {due:.2f} ± {allowed}")


def _differences(record: dict, call: Call) -> list[str]:
    """What else of the record is not true."""
    due = {
        "phone_number": "web-user",
        "start_time": expect.joined(call.truth),
        "end_time": expect.left(call.truth),
        "status": "completed",
        "termination_reason": None,
    }
    return [f"{key} {record[key]} instead of {due[key]}" for key in due if due[key] != record[key]]


async def _kept(call: Call, record: dict, to: Path) -> Path | None:
    """Copies the call's journal; the product may keep it only after the post."""
    journal = Path(call.product.data) / "journals" / f"{record['call_id']}.jsonl"
    until = time.time() + 5.0
    while not journal.exists() and time.time() < until:
        await asyncio.sleep(0.1)
    if not journal.exists():
        return None
    shutil.copy(journal, to)
    return to
