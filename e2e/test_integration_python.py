"""Agents that use `integrations/python/call_history.py`, the file their authors copy."""

import asyncio
import logging
import time

from livekit import rtc

from harness import expect
from harness.agent import call_history
from harness.call import conversation

ONLY_SPOKE = (None, None, "e2e/tone-tts", None, None)
"""The configuration from the usage of an agent that heard no caller."""


class NeverAnswers:
    """A room whose connection never comes back: sending waits without end."""

    @property
    def local_participant(self) -> "NeverAnswers":
        return self

    async def send_text(self, *_, **__) -> None:
        await asyncio.Event().wait()


async def test_an_agent_that_uses_the_python_module_is_reported_as_it_says(lab):
    script = conversation(
        "welcome what would you like",
        ("a table for two please", "under which name"),
        ("Poppins and that is all", "thank you and goodbye"),
        cues={
            "greeting": [
                {
                    "module": "config",
                    "args": {"stt": "deepgram", "llm": "gpt-4o", "business_type": "restaurant"},
                },
                {"module": "config", "args": {"tts": "cartesia", "language": "german"}},
                {"module": "stage", "args": "greeting"},
            ],
            "a table for two please": [
                {"module": "stage", "args": "information_gathering"},
                {
                    "module": "outcomes",
                    "args": {"completion_rate": 0.5, "fields_collected": ["party_size"]},
                },
            ],
            "Poppins and that is all": [
                {"module": "stage", "args": "confirmation"},
                {
                    "module": "outcomes",
                    "args": {
                        "completion_rate": 1,
                        "fields_collected": ["party_size", "name"],
                        "successful": False,
                    },
                },
                {"module": "outcomes", "args": {"notes": "près de la fenêtre"}},
                {
                    "module": "end",
                    "args": {"status": "failed", "termination_reason": "fully_booked"},
                },
            ],
        },
    )
    async with lab.call("py-module", script) as call:
        phone = call.phone("+15550123901")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        quiet = await phone.hears_out()
        for line in range(2):
            await phone.speaks(line)
            quiet = await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        truth = call.truth
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123901",
                start_time=expect.answered(truth),
                status="failed",
                termination_reason="fully_booked",
                agent_config=expect.config(
                    "deepgram", "gpt-4o", "cartesia", "restaurant", "german"
                ),
                metrics=expect.metrics(truth, total_user_utterances=2, total_agent_utterances=3),
                outcomes=expect.outcomes(
                    completion_rate=1.0,
                    fields_collected=["party_size", "name"],
                    final_stage="confirmation",
                    successful=False,
                    notes="près de la fenêtre",
                ),
                stage_timeline=expect.stages(
                    truth, "greeting", "information_gathering", "confirmation"
                ),
            ),
        )


async def test_what_the_python_module_refuses_is_not_sent(lab):
    wrong = [
        ("stage", {"name": ""}, "ValueError"),
        ("stage", {"name": 7}, "TypeError"),
        ("stage", {}, "TypeError"),
        ("outcomes", {"completion_rate": 1.01}, "ValueError"),
        ("outcomes", {"completion_rate": -0.1}, "ValueError"),
        ("outcomes", {"completion_rate": float("nan")}, "ValueError"),
        ("outcomes", {"completion_rate": True}, "TypeError"),
        ("outcomes", {"completion_rate": "1"}, "TypeError"),
        ("outcomes", {"fields_collected": "name"}, "TypeError"),
        ("outcomes", {"fields_collected": ["name", None]}, "TypeError"),
        ("outcomes", {"final_stage": 7, "notes": "not sent either"}, "TypeError"),
        ("outcomes", {"successful": "yes"}, "TypeError"),
        ("config", {"llm": {}}, "TypeError"),
        ("config", {"llm_config_key": "x"}, "TypeError"),
        ("end", {"status": "splendid"}, "ValueError"),
        ("end", {"termination_reason": 7}, "TypeError"),
    ]
    script = conversation(
        "this agent says it all wrong",
        cues={
            "greeting": [
                *({"module": function, "args": args} for function, args, _ in wrong),
                # These have no value to send.
                {"module": "outcomes", "args": {"notes": None}},
                {"module": "config"},
                # By hand and last: when the observer has read it, it has read all that came before.
                {"text": {"type": "stage", "stage": "last"}},
            ]
        },
    )
    async with lab.call("py-refused", script) as call:
        phone = call.phone("+15550123902")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        await phone.hears_out()
        await phone.hangs_up()

        record = await call.record()
        errors = [refused["error"] for refused in call.truth.all("agent", "refused")]
        assert errors == [error for _, _, error in wrong]
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123902",
                start_time=expect.answered(call.truth),
                agent_config=expect.config(*ONLY_SPOKE),
                metrics=expect.metrics(call.truth, total_agent_utterances=1),
                outcomes=expect.outcomes(final_stage="last"),
                stage_timeline=expect.stages(call.truth, "last"),
            ),
        )
        logged = "\n".join(call.product.about(call.room))
        assert "was not taken" not in logged, "something was sent that the observer refused"


async def test_the_python_module_neither_raises_nor_hangs_without_a_connection(lab):
    async def publish_everything(room: rtc.Room | None) -> float:
        began = time.time()
        await call_history.stage("secret", room=room)
        await call_history.outcomes(notes="secret", room=room)
        await call_history.config(llm="secret", room=room)
        await call_history.end(termination_reason="secret", room=room)
        return time.time() - began

    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda line: logged.append(line.getMessage())
    logging.getLogger("call_history").addHandler(handler)
    try:
        async with lab.call("py-gone") as call:
            room = rtc.Room()
            assert await publish_everything(None) < 1.0, "there is no job"
            assert await publish_everything(room) < 1.0, "the room was never connected"
            token = call.token("early", kind="agent", attributes={}, name="")
            await room.connect(call.server.url, token)
            assert await publish_everything(room) < 1.0, "the room is connected"
            assert len(logged) == 8, logged
            await room.disconnect()
            within = 4 * call_history.TIMEOUT + 1.0
            assert await publish_everything(room) < within, "the room is disconnected"
            began = time.time()
            await call_history.stage("secret", room=NeverAnswers())
            assert time.time() - began < call_history.TIMEOUT + 1.0
    finally:
        logging.getLogger("call_history").removeHandler(handler)
    assert len(logged) == 13, logged
    assert not any("secret" in line for line in logged), logged


async def test_an_agent_that_publishes_after_it_left_is_reported_all_the_same(lab):
    script = conversation("I am leaving now", cues={"greeting": [{"module": "stage", "args": "a"}]})
    async with lab.call("py-left", script) as call:
        phone = call.phone("+15550123903")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        await phone.hears_out()
        call.agent("leave")
        too_late = {"module": "outcomes", "args": {"notes": "too late"}}
        call.agent("publish", action=too_late)
        published = await call.truth.wait("agent", "published", action=too_late)
        assert published["done"] - published.t < call_history.TIMEOUT + 1.0
        await asyncio.sleep(0.5)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123903",
                start_time=expect.answered(call.truth),
                agent_config=expect.config(*ONLY_SPOKE),
                metrics=expect.metrics(call.truth, total_agent_utterances=1),
                outcomes=expect.outcomes(final_stage="a"),
                stage_timeline=expect.stages(call.truth, "a"),
            ),
        )
