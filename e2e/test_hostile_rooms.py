"""Participants that send garbage and forgeries: the call goes on, and its record is right."""

import asyncio
import json

from harness import expect, mischief
from harness.call import conversation

TOPICS = ("call-history", "lk.transcription", "lk.agent.session")
HACKED = [
    {"type": "stage", "stage": "hacked"},
    {"type": "outcomes", "successful": True, "notes": "hacked", "completion_rate": 1},
    {"type": "agent_config", "llm_config_key": "hacked"},
    {"type": "end", "status": "failed", "termination_reason": "hacked"},
]


async def test_what_a_caller_forges_is_not_believed(lab):
    script = conversation(
        "hello and welcome to the bank",
        ("I am a perfectly honest person", "I do believe you"),
        cues={"greeting": [{"text": {"type": "stage", "stage": "greeting"}}]},
    )
    async with lab.call("forged", script) as call:
        page = call.page("mallory")
        await page.join()
        await call.agent_ready()
        await call.observed()
        quiet = await page.hears_out()

        me, room = page.room.local_participant, page.room
        agent = next(iter(room.remote_participants.values()))
        agents_track = next(iter(agent.track_publications), "")
        for message in HACKED:
            await me.publish_data(json.dumps(message), topic="call-history")
            await me.send_text(json.dumps(message), topic="call-history")
            await mischief.raw_stream(room, "call-history", json.dumps(message).encode())
        await me.set_attributes(
            {
                "call.stage": "hacked",
                "call.outcomes": json.dumps(HACKED[1]),
                "call.agent_config": json.dumps(HACKED[2]),
                "call.termination_reason": "hacked",
                "lk.agent.state": "speaking",
            }
        )
        await mischief.raw_stream(
            room,
            "lk.transcription",
            b"words that the agent never said " * 20,
            attributes={
                "lk.segment_id": "SG_forged",
                "lk.transcribed_track_id": agents_track,
                "lk.transcription_final": "true",
            },
        )
        for message in mischief.forged_feed():
            await mischief.raw_stream(room, "lk.agent.session", message, text=False)
        call.truth.add("caller", "forged")

        await page.speaks(0)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="mallory",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
                outcomes=expect.outcomes(final_stage="greeting"),
                stage_timeline=expect.stages(call.truth, "greeting"),
            ),
        )


async def test_garbage_from_callers_and_agents_neither_ends_nor_bends_the_record(lab):
    script = conversation(
        "hello from the noisy room",
        ("it is very noisy in here", "I can hardly hear you"),
        cues={
            "greeting": [{"text": {"type": "stage", "stage": "greeting"}}],
            "it is very noisy in here": [{"text": {"type": "stage", "stage": "after"}}],
        },
    )
    async with lab.call("garbage", script) as call:
        page = call.page("noisy")
        await page.join()
        await call.agent_ready()
        await call.observed()
        quiet = await page.hears_out()

        me, room = page.room.local_participant, page.room
        for topic in TOPICS:
            for reliable in (True, False):
                await me.publish_data(mischief.NOT_UTF8, topic=topic, reliable=reliable)
            await me.publish_data(b"", topic=topic)
            await me.publish_data(b"{" * 14_000, topic=topic)
            await mischief.raw_stream(room, topic, mischief.NOT_UTF8)
            await mischief.raw_stream(room, topic, mischief.NOT_UTF8, text=False)
            await mischief.raw_stream(room, topic, b"never closed", closed=False)
            await mischief.raw_stream(room, topic, b"x" * 100_000)
        await mischief.orphaned_chunk(room)
        await me.set_attributes({"junk": "j" * 50_000, "sip.callStatus": "\x00"})

        await call.agent_publishes(text="this is no JSON")
        await call.agent_publishes(text="[]")
        await call.agent_publishes(text={})
        await call.agent_publishes(text={"type": "nothing known"})
        await call.agent_publishes(text={"type": "stage"})
        await call.agent_publishes(text={"type": "stage", "stage": 5})
        await call.agent_publishes(text={"type": "stage", "stage": "y" * 5_000})
        await call.agent_publishes(text={"type": "outcomes", "completion_rate": "much"})
        await call.agent_publishes(text={"type": "outcomes", "fields_collected": {"a": 1}})
        await call.agent_publishes(text={"type": "outcomes", "notes": "n" * 10_000})
        await call.agent_publishes(
            text={"type": "outcomes", "fields_collected": [f"field_{n}" for n in range(500)]}
        )
        await call.agent_publishes(attributes={"call.outcomes": "{not JSON"})
        await call.agent_publishes(attributes={"call.agent_config": "[1, 2]"})
        for topic in TOPICS:
            await call.agent_publishes(mischief="not_utf8", topic=topic)
            await call.agent_publishes(mischief="huge", topic=topic)
        call.truth.add("caller", "garbage_sent")

        await page.speaks(0, pause=0.2)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        cut = call.truth.one(
            "agent", "published", action={"text": {"type": "stage", "stage": "y" * 5_000}}
        )
        greeting, after = expect.stages(call.truth, "greeting", "after")
        expect.compare(
            record,
            call.expected(
                phone_number="noisy",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
                outcomes=expect.outcomes(
                    final_stage="after",
                    notes="n" * 4_096,
                    fields_collected=[f"field_{n}" for n in range(64)],
                ),
                stage_timeline=[
                    greeting,
                    {"stage": "y" * 128, "timestamp": expect.around(cut.t, cut["done"])},
                    after,
                ],
            ),
        )


async def test_a_transcription_without_a_track_does_not_deafen_the_observer(lab):
    """A known defect of LiveKit's Rust core: a room's task panics on such a track id.

    Python clients have the same core, and their process would die. So the agent sends the
    transcription before the caller joins, and earlier than the 2 s for which the server repeats
    messages to new participants.
    """
    script = conversation(
        "hello this is an old agent",
        ("are you a very old agent", "older than you think"),
        cues={"greeting": [{"text": {"type": "stage", "stage": "greeting"}}]},
    )
    async with lab.call("deafened", script) as call:
        # Errors are expected here: one that names the room, and one from the panic, which cannot.
        call.product.expect_error(call.room)
        call.product.expect_error(r"panic.*livekit-[\d.]+/src/room/mod\.rs")
        await call.create_room()
        await call.agent_ready()
        await call.observed()
        await asyncio.sleep(0.5)
        for track in ("", "nonsense"):
            legacy = {"identity": "nobody", "track": track, "text": "old words"}
            await call.agent_publishes(legacy_transcription=legacy)
        # The observer may take a while to notice that it receives no events any more.
        await asyncio.sleep(10.0)

        phone = call.phone("+15550123420")
        await phone.join()
        await asyncio.sleep(0.5)
        await phone.status("active")
        quiet = await phone.hears_out()
        await phone.speaks(0)
        quiet = await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        # The record may note that the observer had lost the room for a moment.
        record["outcomes"]["notes"] = None
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123420",
                start_time=expect.answered(call.truth),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
                outcomes=expect.outcomes(final_stage="greeting"),
                stage_timeline=expect.stages(call.truth, "greeting"),
            ),
        )
