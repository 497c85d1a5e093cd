"""The product beside real voice agents: it finds their calls and does not disturb them.

No token names the product here: it finds the calls by itself. Each scenario has its own server,
because a product that looks for calls would also find those of other scenarios.
"""

import asyncio
import time

from harness.call import Call, conversation

LOOKS = {"CALL_HISTORY_DISCOVERY": "dispatch,reconcile"}

STEPS = [
    ("caller", "joined"),
    ("agent", "joined"),
    ("agent", "ready"),
    ("agent", "playback_started"),
    ("agent", "playback_finished"),
    ("caller", "speaks"),
    ("caller", "spoke"),
    ("agent", "playback_started"),
    ("agent", "playback_finished"),
    ("caller", "left"),
    ("agent", "session_closed"),
    ("room", "gone"),
]
"""The steps of a call with one turn, in their order."""


async def gone(call: Call) -> None:
    async with asyncio.timeout(30.0):
        while await call.room_exists():
            await asyncio.sleep(0.05)
    call.truth.add("room", "gone")


async def one_turn(call: Call, *, observed: bool) -> list[str]:
    """Holds a call; returns the identities that the caller saw in the room."""
    call.observed_from_the_start = False  # the token does not name the product
    call.departure_timeout = 3
    phone = call.phone("+15550123461", status="active")
    await phone.join()
    await call.agent_ready()
    if observed:
        await call.observed()
    quiet = await phone.hears_out()
    await phone.speaks(0)
    await phone.hears_out(after=quiet)
    seen = list(phone.room.remote_participants)
    await phone.hangs_up()
    await gone(call)
    return seen


def moments(call: Call) -> list[float]:
    """The time of each step, in seconds from the first."""
    found: list[float] = []
    for number, step in enumerate(STEPS):
        facts = call.truth.all(*step)
        nth = STEPS[:number].count(step)
        assert len(facts) > nth, f"no {step}:\n{call.truth.story()}"
        found.append(facts[nth].t)
    assert found == sorted(found), f"another order of steps:\n{call.truth.story()}"
    return [t - found[0] for t in found]


def script():
    return conversation("welcome to the house", ("one table please", "it is yours my dear"))


async def test_a_call_goes_the_same_way_with_and_without_the_product(lab):
    endpoint = await lab.new_endpoint()
    server = await lab.new_server("--webhook-url", endpoint.hooks)
    await lab.voice_agent("", server=server, idle=2)

    def events(call: Call) -> list[tuple[str, str]]:
        """The webhooks that the server sent about a call: event and identity."""
        of = [e for e in endpoint.events if e.get("room", {}).get("name") == call.room]
        return [(e["event"], e.get("participant", {}).get("identity", "")) for e in of]

    def visible(sent: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The events without the product's own; the agent's identity without the id of its job."""
        mine = [t for t in sent if not t[1].startswith("call-history-")]
        return [(event, who.split("-AJ_")[0]) for event, who in mine]

    async with lab.call("alone", script(), server=server, endpoint=endpoint) as alone:
        seen_alone = await one_turn(alone, observed=False)
    product = await lab.new_product(endpoint, server=server, **LOOKS)
    with_it = lab.call("beside", script(), server=server, endpoint=endpoint, product=product)
    async with with_it as beside:
        seen_beside = await one_turn(beside, observed=True)
        record = await beside.record()
    assert record["metrics"]["total_agent_utterances"] == 2
    assert record["metrics"]["total_user_utterances"] == 1

    assert len(seen_alone) == len(seen_beside) == 1, "somebody else was seen"
    before, after = moments(alone), moments(beside)
    lab.figures["a call alone and beside the product, seconds"] = " ".join(
        f"{who}.{what} {a:.2f}/{b:.2f}"
        for (who, what), a, b in zip(STEPS, before, after, strict=True)
    )
    for n in range(1, len(STEPS)):
        a, b = before[n] - before[n - 1], after[n] - after[n - 1]
        assert abs(a - b) < 0.6, f"{STEPS[n]} came {a:.2f} s after the step before, then {b:.2f} s"

    # Webhooks announce that a hidden participant joins and leaves, and nothing else about it.
    sent = events(beside)
    # Some webhooks come together, in any order.
    assert sorted(visible(sent)) == sorted(visible(events(alone)))
    ours = [event for event, who in sent if who.startswith("call-history-")]
    assert ours == ["participant_joined", "participant_left"]


async def test_agents_of_both_kinds_of_dispatch_get_every_job(lab):
    endpoint = await lab.new_endpoint()
    server = await lab.new_server()
    await lab.voice_agent("", server=server, idle=2)
    await lab.voice_agent("receptionist", server=server, idle=2)
    # All layers: the product's unnamed registration for participants beside an unnamed voice agent
    # for rooms.
    product = await lab.new_product(
        endpoint, server=server, CALL_HISTORY_DISCOVERY="dispatch,reconcile,webhook,participant"
    )

    async def hold(name: str) -> None:
        call = lab.call("style", script(), server=server, endpoint=endpoint, product=product)
        call.voice_agent = name
        async with call:
            await one_turn(call, observed=True)
            record = await call.record()
            assert record["status"] == "completed"
            assert record["metrics"]["total_agent_utterances"] == 2

    for _ in range(3):
        await asyncio.gather(hold(""), hold("receptionist"))


async def test_the_first_words_wait_for_the_caller_and_not_for_the_product(lab):
    endpoint = await lab.new_endpoint()
    server = await lab.new_server()
    await lab.voice_agent("", server=server, idle=1)
    product = await lab.new_product(endpoint, server=server, **LOOKS)
    call = lab.call("first", script(), server=server, endpoint=endpoint, product=product)
    async with call:
        call.observed_from_the_start = False
        phone = call.phone("+15550123462", status="active")
        await phone.join(listening=False)
        await call.agent_ready()
        await call.observed()
        await call.truth.wait("agent", "say")
        # The product has subscribed long since; the caller has not.
        await asyncio.sleep(2.0)
        assert not call.truth.all("agent", "playback_started")
        phone.listens()
        started = await call.truth.wait("agent", "playback_started")
        assert started.t > call.truth.one("caller", "listens").t
        await phone.hangs_up()
        await call.record()


async def test_a_product_that_comes_in_the_middle_of_a_call_reports_every_turn(lab):
    endpoint = await lab.new_endpoint()
    server = await lab.new_server()
    await lab.voice_agent("", server=server, idle=1)
    talk = conversation(
        "good morning this is the office",
        ("are you open today", "until six in the evening"),
        ("and tomorrow", "tomorrow we are closed"),
        ("then I come today", "we look forward to it"),
    )
    async with lab.call("middle", talk, server=server, endpoint=endpoint) as call:
        call.observed_from_the_start = False
        phone = call.phone("+15550123463", status="active")
        await phone.join()
        quiet = await phone.hears_out()
        for line in (0, 1):
            await phone.speaks(line)
            quiet = await phone.hears_out(after=quiet)
        settings = LOOKS | {"CALL_HISTORY_DETAILS": "true"}
        call.product = await lab.new_product(endpoint, server=server, **settings)
        came = time.time()
        await call.observed()
        await phone.speaks(2)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()
        record = await call.record()
        metrics = record["metrics"]
        assert metrics["total_user_utterances"] == 3
        assert metrics["total_agent_utterances"] == 4
        assert metrics["longest_agent_utterance"] == 6
        assert metrics["silence_count"] == 0
        seen = record["details"]["observation"]
        assert seen["discovered_by"] == "reconciler"
        assert seen["turns_from_history"] == 5
        late = came - call.truth.one("caller", "joined").t
        assert seen["late_seconds"] > late - 1.0
        assert "joined" in record["outcomes"]["notes"]
