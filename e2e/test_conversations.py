"""Ordinary calls: what was said, when, and what the agent published."""

import asyncio

from harness import expect
from harness.call import Script, conversation


async def test_an_inbound_phone_call_of_five_turns_is_reported_in_every_field(lab):
    script = conversation(
        "welcome to the lab restaurant how can I help",
        ("hello I want a table", "sure how many people and when"),
        ("for four people tomorrow", "and at what time please"),
        ("at half past seven in the evening", "may I have your name"),
        ("my name is Mary Poppins", "thank you it is booked for four at half past seven"),
        ("yes thank you", "goodbye"),
        cues={
            "greeting": [
                {
                    "text": {
                        "type": "agent_config",
                        "stt_config_key": "deepgram",
                        "llm_config_key": "openai-gpt4",
                        "tts_config_key": "elevenlabs",
                        "business_type": "restaurant",
                        "language": "english",
                    }
                },
                {"text": {"type": "stage", "stage": "greeting"}},
            ],
            "hello I want a table": [{"text": {"type": "stage", "stage": "information_gathering"}}],
            "my name is Mary Poppins": [
                {
                    "text": {
                        "type": "outcomes",
                        "fields_collected": ["party_size", "date", "time", "name"],
                    }
                },
                {"text": {"type": "stage", "stage": "confirmation"}},
            ],
            "yes thank you": [
                {
                    "text": {
                        "type": "outcomes",
                        "completion_rate": 0.95,
                        "successful": True,
                        "notes": "window seat",
                    }
                }
            ],
        },
    )
    async with lab.call("five-turns", script) as call:
        phone = call.phone("+15550123401")
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
                phone_number="+15550123401",
                call_type="inbound",
                start_time=expect.answered(truth),
                agent_config=expect.config(
                    "deepgram", "openai-gpt4", "elevenlabs", "restaurant", "english"
                ),
                metrics=expect.metrics(
                    truth,
                    total_user_utterances=5,
                    total_agent_utterances=6,
                    longest_user_utterance=7,
                    longest_agent_utterance=11,
                ),
                outcomes=expect.outcomes(
                    completion_rate=0.95,
                    fields_collected=["party_size", "date", "time", "name"],
                    final_stage="confirmation",
                    successful=True,
                    notes="window seat",
                ),
                stage_timeline=expect.stages(
                    truth, "greeting", "information_gathering", "confirmation"
                ),
            ),
        )


async def test_a_web_caller_is_reported_with_stages_and_config_from_attributes(lab):
    script = conversation(
        "hi there what can I do for you",
        ("my parcel did not arrive", "I am sorry let me look that up"),
        ("thanks a lot", "you are welcome bye"),
        cues={
            "ready": [
                {
                    "attributes": {
                        "call.agent_config": {
                            "stt_config_key": "whisper",
                            "llm_config_key": "mistral",
                            "tts_config_key": "piper",
                            "business_type": "logistics",
                            "language": "german",
                        }
                    }
                }
            ],
            "greeting": [{"attributes": {"call.stage": "greeting"}}],
            "my parcel did not arrive": [{"attributes": {"call.stage": "lookup"}}],
            "thanks a lot": [
                {
                    "attributes": {
                        "call.outcomes": {
                            "completion_rate": 1,
                            "fields_collected": ["parcel"],
                            "successful": False,
                        }
                    }
                }
            ],
        },
    )
    async with lab.call("web", script) as call:
        page = call.page("customer-7")
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
                phone_number="customer-7",
                agent_config=expect.config("whisper", "mistral", "piper", "logistics", "german"),
                metrics=expect.metrics(truth, total_user_utterances=2, total_agent_utterances=3),
                outcomes=expect.outcomes(
                    completion_rate=1.0,
                    fields_collected=["parcel"],
                    final_stage="lookup",
                    successful=False,
                ),
                stage_timeline=expect.stages(truth, "greeting", "lookup"),
            ),
        )


async def test_one_interruption_is_counted_and_a_false_one_is_not(lab):
    long_answer = (
        "the house rules are long so let me begin with the first of them which says that "
        "nobody may bring a dog"
    )
    longer_answer = (
        "all right this is a rather long announcement again that goes on for quite a while "
        "so that there is time for a cough"
    )
    script = conversation(
        "hello there",
        ("tell me about the house rules", long_answer),
        ("wait a moment please", longer_answer),
        ("okay thank you", "bye bye"),
        # Only one value is published: the rest is filled from the session's usage.
        cues={"ready": [{"attributes": {"call.agent_config": {"llm_config_key": "my-llm"}}}]},
    )
    async with lab.call("interrupt", script) as call:
        page = call.page("interrupter")
        await page.join()
        quiet = await page.hears_out()
        asked = await page.speaks(0)
        await page.hears("speaking", after=asked)
        cut_in = await page.speaks(1, pause=2.5)
        await page.hears("speaking", after=cut_in)
        await asyncio.sleep(2.0)
        coughed = await page.makes_noise(0.8)
        resumed = await page.hears("speaking", after=coughed, timeout=10)
        quiet = await page.hears("listening", after=resumed)
        await page.speaks(2)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        truth = call.truth
        assert [i["interrupted"] for i in truth.all("agent", "item", role="assistant")] == [
            False,
            True,
            False,
            False,
        ]
        assert truth.all("agent", "false_interruption", resumed=True)
        expect.compare(
            record,
            call.expected(
                phone_number="interrupter",
                agent_config=expect.config(
                    "e2e/script-stt", "my-llm", "e2e/tone-tts", "unknown", "english"
                ),
                metrics=expect.metrics(
                    truth,
                    total_user_utterances=3,
                    total_agent_utterances=4,
                    longest_agent_utterance=len(longer_answer.split()),
                    interruption_count=1,
                ),
            ),
        )


async def test_a_silence_of_eight_seconds_is_one_silence(lab):
    script = conversation(
        "good morning how may I help you today",
        ("sorry I was looking for my glasses", "no problem"),
    )
    async with lab.call("silence", script) as call:
        phone = call.phone("+15550123405", status="active")
        await phone.join()
        quiet = await phone.hears_out()
        await phone.speaks(0, pause=8.0)
        await phone.hears_out(after=quiet)
        await asyncio.sleep(1.0)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123405",
                # The phone was active when it joined, so the call began with the join.
                start_time=expect.joined(call.truth),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(call.truth, silence_count=1),
            ),
        )


async def test_the_last_words_before_a_hang_up_are_counted(lab):
    script = conversation(
        "you have reached the lab what is it",
        ("please note down an order", "go ahead I am listening"),
        ("two boxes of blue pens and one big red stapler that is all bye", "never heard"),
    )
    async with lab.call("last-words", script) as call:
        phone = call.phone("+15550123409")
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
                phone_number="+15550123409",
                start_time=expect.answered(call.truth),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, longest_user_utterance=14
                ),
            ),
        )


async def test_two_calls_at_once_are_not_mixed_up(lab):
    def script(name: str) -> Script:
        return conversation(
            f"{name} speaking how are you",
            (f"I would like to talk to {name}", f"yes this is {name}"),
            cues={"greeting": [{"text": {"type": "stage", "stage": f"{name}_greets"}}]},
        )

    async def hold(name: str, number: str) -> None:
        async with lab.call(f"pair-{name}", script(name)) as call:
            phone = call.phone(number)
            await phone.join()
            await call.agent_ready()
            await call.observed()
            await phone.status("active")
            quiet = await phone.hears_out()
            await phone.speaks(0)
            await phone.hears_out(after=quiet)
            await phone.hangs_up()
            record = await call.record()
            expect.compare(
                record,
                call.expected(
                    phone_number=number,
                    start_time=expect.answered(call.truth),
                    agent_config=expect.config(*expect.FAKES),
                    metrics=expect.metrics(
                        call.truth, total_user_utterances=1, total_agent_utterances=2
                    ),
                    outcomes=expect.outcomes(final_stage=f"{name}_greets"),
                    stage_timeline=expect.stages(call.truth, f"{name}_greets"),
                ),
            )

    await asyncio.gather(hold("anna", "+15550123415"), hold("berta", "+15550123416"))
