"""Unusual calls: cut short, taken over by another agent, with many callers, or with few signals."""

import asyncio
import os
import signal
import time

from livekit.agents.tokenize import basic

from harness import expect
from harness.call import conversation

STORY = (
    "this is a very long story that goes on and on for quite a while so that there is "
    "plenty of time for something to happen right in the middle of it"
)


async def test_a_hang_up_while_the_agent_speaks_is_no_interruption(lab):
    script = conversation("hello I talk a lot", ("tell me a story", STORY))
    async with lab.call("bored", script) as call:
        phone = call.phone("+15550123430", status="active")
        await phone.join()
        await phone.hears_out()
        asked = await phone.speaks(0)
        await phone.hears("speaking", after=asked)
        await asyncio.sleep(3.0)
        await phone.hangs_up()

        record = await call.record()
        heard = expect.words(expect.agent_said(call.truth))
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123430",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=1,
                    total_agent_utterances=2,
                    # At the cut the agent's text and its stream may differ by a word.
                    longest_agent_utterance=expect.Near(heard - 1, heard + 1),
                ),
            ),
        )
        assert heard < len(STORY.split())


async def test_two_things_said_in_a_row_are_two_utterances(lab):
    script = conversation("hello", ("two things", "here comes the first of two"), ("thanks", "bye"))
    second = "and this here is the second one"
    lab.said.add(second)
    async with lab.call("in-a-row", script) as call:
        phone = call.phone("+15550123431", status="active")
        await phone.join()
        await phone.hears_out()
        asked = await phone.speaks(0)
        await phone.hears("speaking", after=asked)
        call.agent("say", text=second)
        said = await call.truth.wait("agent", "item", role="assistant", text=second)
        await phone.speaks(1)
        await phone.hears_out(after=said.t)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123431",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, total_agent_utterances=4
                ),
            ),
        )


async def test_a_caller_who_cuts_the_greeting_and_an_answer_short_interrupted_twice(lab):
    script = conversation(
        "welcome to the company with the longest greeting of them all and please listen "
        "carefully because our options have changed again since your last call",
        ("I know all that", STORY),
        ("please stop it now", "fine"),
        ("thanks", "bye"),
    )
    async with lab.call("impatient", script) as call:
        phone = call.phone("+15550123432", status="active")
        await phone.join()
        await phone.hears("speaking")
        # Agents do not listen in the first 3 s of their first words.
        asked = await phone.speaks(0, pause=3.5)
        await phone.hears("speaking", after=asked)
        asked = await phone.speaks(1, pause=2.0)
        quiet = await phone.hears_out(after=asked)
        await phone.speaks(2)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        assert [i["interrupted"] for i in call.truth.all("agent", "item", role="assistant")] == [
            True,
            True,
            False,
            False,
        ]
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123432",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=3,
                    total_agent_utterances=4,
                    interruption_count=2,
                ),
            ),
        )


async def test_an_agent_that_takes_over_carries_the_same_call_on(lab):
    await taken_over(lab, "takeover", "+15550123433", dies=False)


async def test_an_agent_that_takes_over_from_a_dead_one_saves_the_call(lab):
    await taken_over(lab, "rescue", "+15550123434", dies=True)


async def taken_over(lab, name: str, number: str, *, dies: bool) -> None:
    script = conversation(
        "hello I am the first agent",
        ("may I speak to somebody else", "of course one moment please"),
        ("hello who are you", "I am the second agent"),
        close_on_disconnect=False,
    )
    second_greeting = "good day I take over here"
    lab.said.add(second_greeting)
    async with lab.call(name, script) as call:
        phone = call.phone(number, status="active")
        await phone.join()
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        gone = time.time()
        if dies:
            os.kill(call.truth.one("agent", "joined")["pid"], signal.SIGKILL)
        else:
            call.agent("leave")
            await call.truth.wait("caller", "lost")
        await call.dispatch_agent(second_greeting)
        quiet = await phone.hears_out(after=gone)
        await phone.speaks(1)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number=number,
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, total_agent_utterances=4
                ),
            ),
        )


async def test_a_call_of_three_callers_is_the_phones_and_lasts_until_all_are_gone(lab):
    script = conversation(
        "hello all three of you",
        ("I am the one you listen to", "welcome to you then"),
        close_on_disconnect=False,
    )
    async with lab.call("three", script) as call:
        phone = call.phone("+15550123435", status="active")
        guest = call.page("second-guest", who="second")
        other = call.page("third-guest", who="third")
        await phone.join()
        quiet = await phone.hears_out()
        await guest.join()
        await other.join()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()
        await asyncio.sleep(1.0)
        await guest.leaves()
        await asyncio.sleep(1.0)
        await other.leaves()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123435",
                end_time=expect.left(call.truth, "third"),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
            ),
        )


async def test_what_sounds_while_it_rings_for_ten_seconds_is_no_part_of_the_call(lab):
    script = conversation("hello thank you for waiting", ("yes hello", "how are you"))
    async with lab.call("ringing", script) as call:
        phone = call.phone("+15550123436")
        await phone.join()
        await call.agent_ready()
        await asyncio.sleep(1.0)
        await phone.makes_noise(1.0)
        await asyncio.sleep(8.0)
        answered = time.time()
        await phone.status("active")
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        truth = call.truth.part(answered, time.time())
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123436",
                start_time=expect.answered(truth),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(truth, total_user_utterances=1, total_agent_utterances=2),
            ),
        )


async def test_without_the_sessions_own_feed_counts_are_still_exact(lab):
    script = conversation(
        "hello there I do not tell of myself",
        ("tell me a story", STORY),
        ("wait a moment please", "all right then I stop here"),
        ("okay thank you", "bye bye"),
        feed=False,
    )
    async with lab.call("feedless", script) as call:
        page = call.page("feedless-caller")
        await page.join()
        await page.hears_out()
        asked = await page.speaks(0)
        await page.hears("speaking", after=asked)
        cut_in = await page.speaks(1, pause=2.5)
        quiet = await page.hears_out(after=cut_in)
        await page.speaks(2, pause=1.5)
        await page.hears_out(after=quiet)
        await asyncio.sleep(7.0)
        await page.leaves()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="feedless-caller",
                # The names of the models are only in the session's feed.
                agent_config=expect.config(),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=3,
                    total_agent_utterances=4,
                    interruption_count=1,
                    silence_count=1,
                    average_user_response_time=expect.user_response_unfed(call.truth),
                    average_agent_response_time=expect.agent_response_unfed(call.truth),
                ),
            ),
        )


async def test_a_key_pressed_breaks_a_silence_and_typed_words_are_an_utterance(lab):
    typed = "I would rather type my words"
    script = conversation("please press a key", ("now I speak", "I heard you"))
    script.replies[typed] = "and I can read"
    lab.said.add(typed)
    async with lab.call("typist", script) as call:
        page = call.page("typing-caller")
        await page.join()
        quiet = await page.hears_out()
        await asyncio.sleep(3.5)
        await page.room.local_participant.publish_dtmf(code=5, digit="5")
        await page.speaks(0, pause=3.5)
        quiet = await page.hears_out(after=quiet)
        await asyncio.sleep(0.5)
        await page.room.local_participant.send_text(typed, topic="lk.chat")
        sent = call.truth.add("caller", "typed").t
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        spoken = expect.user_response(call.truth).low + expect.STATE
        read = sent - expect.agent_said(call.truth)[1].end
        expect.compare(
            record,
            call.expected(
                phone_number="typing-caller",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=2,
                    longest_user_utterance=6,
                    total_agent_utterances=3,
                    # Whether a typed text counts as an answer is not defined, so both are accepted.
                    average_user_response_time=expect.Near((spoken + read) / 2 - 0.1, spoken + 0.1),
                    silence_count=0,
                ),
            ),
        )


async def test_words_of_all_scripts_are_counted_as_livekit_counts_them(lab):
    def count(text: str) -> int:
        return len(basic.split_words(text, split_character=True))

    script = conversation(
        "hello -- there !", ("我 要 两张票 please", "好的 — 两张 tickets for you, sir")
    )
    async with lab.call("polyglot", script) as call:
        page = call.page("polyglot-caller")
        await page.join()
        quiet = await page.hears_out()
        await page.speaks(0)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        asked, answered = script.lines[0], script.replies[script.lines[0]]
        expect.compare(
            record,
            call.expected(
                phone_number="polyglot-caller",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    longest_user_utterance=count(asked),
                    longest_agent_utterance=count(answered),
                ),
            ),
        )


async def test_a_caller_who_is_back_within_the_grace_time_is_still_in_one_call(lab):
    script = conversation(
        "hello come and go",
        ("I am here for now", "very good"),
        ("I am back again", "even better"),
        close_on_disconnect=False,
    )
    async with lab.call("boomerang", script) as call:
        page = call.page("boomerang-caller")
        await page.join()
        quiet = await page.hears_out()
        await page.speaks(0)
        await page.hears_out(after=quiet)
        await page.leaves()
        # Longer than a silence, shorter than the grace time of 10 s.
        await asyncio.sleep(7.5)
        again = call.page("boomerang-caller")
        await again.join()
        asked = await again.speaks(1, pause=1.5)
        await again.hears_out(after=asked)
        await again.leaves()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="boomerang-caller",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=2,
                    total_agent_utterances=3,
                    silence_count=1,
                ),
            ),
        )
