"""A real Pipecat bot: it joins as an ordinary participant with the grant `agent`, and speaks RTVI."""

import asyncio
import json

from harness import expect
from harness.bot import bot_in
from harness.call import conversation
from harness.process import Child

LONG = (
    "this is a rather long announcement from the bot that goes on for quite a while so that "
    "somebody can cut in and then it still goes on"
)


class Bot:
    """The bot of one call; the caller follows what it says by its reports."""

    def __init__(self, child: Child, truth) -> None:
        self.child, self.truth, self.taken = child, truth, 0

    async def says(self, what: str, timeout: float = 20.0) -> None:
        """Waits for the next report of that kind."""

        until = asyncio.get_running_loop().time() + timeout
        while asyncio.get_running_loop().time() < until:
            for position, line in enumerate(self.child.lines):
                if position >= self.taken and line == json.dumps({"what": what}):
                    self.taken = position + 1
                    self.truth.add("bot", what)
                    return
            assert self.child.alive, "\n".join(self.child.lines[-30:])
            await asyncio.sleep(0.02)
        raise AssertionError(f"the bot did not report {what}: " + "\n".join(self.child.lines[-30:]))


def responses(truth) -> dict:
    """The means of both response times. The bot reports a natural end a second early: it counts the
    sound that waits in its queue as spoken."""
    started = [f.t for f in truth.all("bot", "started")]
    stopped = [f.t for f in truth.all("bot", "stopped")]
    speaks = [f.t for f in truth.all("caller", "speaks")]
    spoke = [f.t for f in truth.all("caller", "spoke")]
    agent = sum(b - e for e, b in zip(spoke, started[1:], strict=True)) / len(spoke)
    # The second line cut the bot off, so it is no response.
    user = (speaks[0] - stopped[0] + speaks[2] - stopped[2]) / 2 - 1.0
    return {
        "average_user_response_time": expect.Near(user - 0.5, user + 0.5),
        "average_agent_response_time": expect.Near(agent - 0.4, agent + 0.4),
    }


async def test_a_web_call_with_a_pipecat_bot(lab):
    await a_call_with_a_pipecat_bot(lab, phone=False)


async def test_a_phone_call_with_a_pipecat_bot(lab):
    await a_call_with_a_pipecat_bot(lab, phone=True)


async def a_call_with_a_pipecat_bot(lab, *, phone: bool) -> None:
    script = conversation(
        "hello and welcome to the lab",
        ("I would like to book a table for four people", LONG),
        ("wait a moment please", "alright then let us find another day for your table"),
        ("thank you very much", "goodbye then"),
    )
    name = "pipecat-phone" if phone else "pipecat"
    async with lab.call(name, script, agent="bot") as call:
        if phone:
            caller, identity = call.phone("+15550123491", status="active"), "+15550123491"
        else:
            caller, identity = call.page("web-user"), "web-user"
        await caller.join()
        await call.observed()
        bot = Bot(await bot_in(call), call.truth)
        await bot.says("ready", 60.0)
        await bot.says("started")
        await bot.says("stopped")
        await asyncio.sleep(1.5)
        await caller.speaks(0)
        await bot.says("started")
        await asyncio.sleep(1.6)
        await caller.speaks(1, pause=0.0)
        await bot.says("stopped")
        await bot.says("started")
        await bot.says("stopped")
        await asyncio.sleep(7.3)
        await caller.speaks(2)
        await bot.says("started")
        await bot.says("stopped")
        await asyncio.sleep(1.5)
        await (caller.hangs_up() if phone else caller.leaves())

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number=identity,
                metrics={
                    "total_user_utterances": 3,
                    "total_agent_utterances": 4,
                    "longest_user_utterance": 10,
                    "longest_agent_utterance": 10,
                    # The pause of seven seconds; the bot's start may take five.
                    "silence_count": expect.Near(1, 2),
                    "interruption_count": 1,
                    **responses(call.truth),
                },
            ),
        )
