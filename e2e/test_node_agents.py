"""Voice agents in Node: they send their session feed to their caller alone.

An observer has their state, transcripts and speaker events. It gets the whole history when the
caller leaves, if it asks at once.
"""

import asyncio

from harness import expect
from harness.call import conversation

ANSWER = (
    "the house rules are long so let me begin with the first of them which says that "
    "nobody may bring a dog"
)
LONGER_ANSWER = (
    "all right this is a rather long announcement again that goes on for quite a while "
    "so that there is time for a cough"
)


async def test_a_phone_call_of_five_turns_with_a_node_agent_is_reported_in_every_field(lab):
    script = conversation(
        "welcome to the node restaurant what can I do",
        ("hello I would like a table", "sure for how many people and when"),
        ("for six people on Sunday", "and at what time please"),
        ("at eight o'clock in the evening if you can", "may I have your name"),
        ("my name is Bert Sausage", "thank you it is booked for six at eight on Sunday"),
        ("yes thanks", "goodbye"),
        cues={
            "ready": [
                {
                    "attributes": {
                        "call.agent_config": {
                            "stt_config_key": "deepgram",
                            "llm_config_key": "openai-gpt4",
                            "tts_config_key": "elevenlabs",
                            "business_type": "restaurant",
                            "language": "english",
                        }
                    }
                }
            ],
            "greeting": [{"text": {"type": "stage", "stage": "greeting"}}],
            "hello I would like a table": [{"packet": {"type": "stage", "stage": "details"}}],
            "my name is Bert Sausage": [
                {
                    "text": {
                        "type": "outcomes",
                        "fields_collected": ["party_size", "date", "time", "name"],
                    }
                },
                {"attributes": {"call.stage": "confirmation"}},
            ],
            "yes thanks": [
                {
                    "text": {
                        "type": "outcomes",
                        "completion_rate": 0.95,
                        "successful": True,
                        "notes": "at the window",
                    }
                }
            ],
        },
    )
    async with lab.call("node-five-turns", script, agent="node") as call:
        phone = call.phone("+15550123460")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        quiet = await phone.hears_out()
        for line in range(5):
            await phone.speaks(line)
            quiet = await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        truth = call.truth
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123460",
                start_time=expect.answered(truth),
                agent_config=expect.config(
                    "deepgram", "openai-gpt4", "elevenlabs", "restaurant", "english"
                ),
                metrics=expect.node_metrics(
                    truth,
                    total_user_utterances=5,
                    total_agent_utterances=6,
                    longest_user_utterance=9,
                    longest_agent_utterance=11,
                ),
                outcomes=expect.outcomes(
                    completion_rate=0.95,
                    fields_collected=["party_size", "date", "time", "name"],
                    final_stage="confirmation",
                    successful=True,
                    notes="at the window",
                ),
                stage_timeline=expect.stages(truth, "greeting", "details", "confirmation"),
            ),
        )


async def test_a_web_caller_of_a_node_agent_is_reported_with_stages_from_attributes(lab):
    script = conversation(
        "hi there this is the parcel desk",
        ("my parcel did not come", "oh dear let me look that up"),
        ("thanks a lot", "you are welcome bye"),
        cues={
            "greeting": [{"attributes": {"call.stage": "greeting"}}],
            "my parcel did not come": [{"attributes": {"call.stage": "lookup"}}],
        },
    )
    async with lab.call("node-web", script, agent="node") as call:
        page = call.page("node-customer")
        await page.join()
        quiet = await page.hears_out()
        for line in range(2):
            await page.speaks(line)
            quiet = await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        truth = call.truth
        expect.compare(
            record,
            call.expected(
                phone_number="node-customer",
                metrics=expect.node_metrics(
                    truth, total_user_utterances=2, total_agent_utterances=3
                ),
                outcomes=expect.outcomes(final_stage="lookup"),
                stage_timeline=expect.stages(truth, "greeting", "lookup"),
            ),
        )


async def test_an_interruption_of_a_node_agent_is_counted(lab):
    script = conversation(
        "hello caller",
        ("tell me about the house rules", ANSWER),
        ("wait a moment please", "yes I am waiting for you now"),
        ("okay thank you", "bye bye"),
    )
    async with lab.call("node-interrupt", script, agent="node") as call:
        phone = call.phone("+15550123461", status="active")
        await phone.join()
        await phone.hears_out()
        asked = await phone.speaks(0)
        await phone.hears("speaking", after=asked)
        cut_in = await phone.speaks(1, pause=2.5)
        quiet = await phone.hears_out(after=cut_in)
        await phone.speaks(2)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        truth = call.truth
        assert _interrupted(truth) == [False, True, False, False]
        heard = expect.words(expect.agent_said(truth))
        assert heard < len(ANSWER.split())
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123461",
                metrics=expect.node_metrics(
                    truth,
                    total_user_utterances=3,
                    total_agent_utterances=4,
                    # At the cut the agent's text and its stream may differ by a word.
                    longest_agent_utterance=expect.Near(heard - 1, heard + 1),
                    interruption_count=1,
                ),
            ),
        )


async def test_a_false_interruption_of_a_node_agent_is_not_counted(lab):
    script = conversation(
        "hello again caller",
        ("what is new", LONGER_ANSWER),
        ("thank you very much", "bye then"),
    )
    async with lab.call("node-cough", script, agent="node") as call:
        page = call.page("node-cougher")
        await page.join()
        await page.hears_out()
        asked = await page.speaks(0)
        await page.hears("speaking", after=asked)
        await asyncio.sleep(2.0)
        coughed = await page.makes_noise(0.8)
        resumed = await page.hears("speaking", after=coughed, timeout=10)
        quiet = await page.hears("listening", after=resumed)
        await page.speaks(1)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        truth = call.truth
        assert not any(_interrupted(truth))
        assert truth.all("agent", "false_interruption", resumed=True)
        expect.compare(
            record,
            call.expected(
                phone_number="node-cougher",
                metrics=expect.node_metrics(
                    truth,
                    total_user_utterances=2,
                    total_agent_utterances=3,
                    longest_agent_utterance=len(LONGER_ANSWER.split()),
                ),
            ),
        )


async def test_the_last_words_before_a_hang_up_on_a_node_agent_are_counted(lab):
    script = conversation(
        "you have reached the node lab what is it",
        ("please write down an order", "go on I am listening"),
        ("two boxes of red pens and one big green stapler that is all bye", "never heard"),
    )
    async with lab.call("node-last-words", script, agent="node") as call:
        phone = call.phone("+15550123462")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        await phone.speaks(1)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123462",
                start_time=expect.answered(call.truth),
                metrics=expect.node_metrics(
                    call.truth,
                    total_user_utterances=2,
                    total_agent_utterances=2,
                    longest_user_utterance=14,
                    # While the last words are being processed, the agent answers requests for only
                    # about 15 ms after the leave.
                    **expect.node_responses(call.truth, expect.UNASKED),
                ),
            ),
        )


async def test_a_node_agent_that_deletes_the_room_completes_the_call(lab):
    script = conversation(
        "hello this will be short", ("that is all right with me", "then I hang up now")
    )
    async with lab.call("node-deletes", script, agent="node") as call:
        phone = call.phone("+15550123463")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        call.agent("delete_room")

        record = await call.record()
        deleted = call.truth.one("agent", "deletes_room").t
        posted = call.truth.one("endpoint", "posted").t
        assert posted - deleted < 1.0, f"posted {posted - deleted:.3f} s after the end"
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123463",
                start_time=expect.answered(call.truth),
                end_time=expect.around(deleted, posted),
                metrics=expect.node_metrics(
                    call.truth,
                    total_user_utterances=1,
                    total_agent_utterances=2,
                    # The agent is gone and cannot be asked for its history.
                    **expect.node_responses(call.truth, expect.UNASKED),
                ),
            ),
        )


async def test_what_a_node_agent_publishes_with_the_module_is_reported(lab):
    script = conversation(
        "hello how do you like our module",
        ("I like it very much", "I am glad to hear that"),
        cues={
            "ready": [
                {
                    "module": "config",
                    "args": {
                        "stt": "whisper",
                        "llm": "mistral",
                        "tts": "piper",
                        "businessType": "survey",
                        "language": "german",
                    },
                }
            ],
            "greeting": [{"module": "stage", "args": "greeting"}],
            "I like it very much": [
                # Without `room` the module uses the room of the running job.
                {"module": "stage", "args": "rating", "room": True},
                {
                    "module": "outcomes",
                    "args": {
                        "completionRate": 0.5,
                        "fieldsCollected": ["rating"],
                        "successful": True,
                        "notes": "likes it",
                    },
                },
            ],
            "I am glad to hear that": [
                {"module": "end", "args": {"status": "completed", "terminationReason": "surveyed"}}
            ],
        },
    )
    async with lab.call("node-module", script, agent="node") as call:
        phone = call.phone("+15550123464", status="active")
        await phone.join()
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        await call.truth.wait("agent", "published", action=script.cues["I am glad to hear that"][0])
        await phone.hangs_up()

        record = await call.record()
        truth = call.truth
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123464",
                termination_reason="surveyed",
                agent_config=expect.config("whisper", "mistral", "piper", "survey", "german"),
                metrics=expect.node_metrics(
                    truth, total_user_utterances=1, total_agent_utterances=2
                ),
                outcomes=expect.outcomes(
                    completion_rate=0.5,
                    fields_collected=["rating"],
                    final_stage="rating",
                    successful=True,
                    notes="likes it",
                ),
                stage_timeline=expect.stages(truth, "greeting", "rating"),
            ),
        )


def _interrupted(truth) -> list[bool]:
    return [item["interrupted"] for item in truth.all("agent", "item", role="assistant")]
