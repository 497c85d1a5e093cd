"""How calls end: the endings that an observer can see, with their status and reason."""

import asyncio
import os
import re
import signal

import pytest
from livekit import rtc

from harness import expect
from harness.call import conversation


async def test_an_outbound_call_that_nobody_answers_failed_with_no_answer(lab):
    script = conversation("this greeting is never said", ("never spoken", "never answered"))
    async with lab.call("no-answer", script) as call:
        await call.create_room()
        await call.agent_ready()
        await call.observed()
        phone = call.phone("+15550123402", inbound=False, status="dialing")
        await phone.join(microphone=False)
        await phone.status("ringing")
        await call.nothing_is_posted(3.0)
        await phone.leaves(rtc.DisconnectReason.USER_UNAVAILABLE)

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123402",
                call_type="outbound",
                status="failed",
                termination_reason="no_answer",
                metrics=expect.metrics(call.truth, total_agent_utterances=0),
            ),
        )


async def test_an_inbound_caller_who_gives_up_while_it_rings_abandoned_the_call(lab):
    async with lab.call("abandoned", conversation("this greeting is never said either")) as call:
        phone = call.phone("+15550123417")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123417",
                status="failed",
                termination_reason="abandoned",
                metrics=expect.metrics(call.truth, total_agent_utterances=0),
            ),
        )


async def test_an_agent_that_deletes_the_room_completes_the_call(lab):
    script = conversation(
        "hello this is a short call", ("that is fine with me", "then I hang up now")
    )
    async with lab.call("deleted", script) as call:
        phone = call.phone("+15550123406")
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
        took = f"{1000 * (posted - deleted):.0f} ms"
        lab.figures["from the agent's order to delete the room to the post"] = took
        assert posted - deleted < 1.0, f"posted {took} after the end"
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123406",
                start_time=expect.answered(call.truth),
                end_time=expect.around(deleted, posted),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
            ),
        )


async def test_a_caller_removed_by_the_api_completes_the_call(lab):
    script = conversation("hello and goodbye", ("never spoken", "never answered"))
    async with lab.call("removed", script) as call:
        page = call.page("unwelcome")
        await page.join()
        await page.hears_out()
        call.truth.add("caller", "leaves", reason="removed by the API")
        await call.remove("unwelcome")

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="unwelcome",
                agent_config=expect.config(None, None, "e2e/tone-tts", None, None),
                metrics=expect.metrics(call.truth, total_agent_utterances=1),
            ),
        )


@pytest.mark.long
async def test_a_caller_that_vanishes_was_dropped_at_about_the_moment_it_vanished(lab):
    script = conversation(
        "good evening who is there", ("it is me again", "how nice to hear from you")
    )
    async with lab.call("vanished", script) as call:
        # The server gives up a vanished client after about 21 s; this saves the 20 s for which the
        # room would stay open after that.
        call.departure_timeout = 5
        process = await call.phone_process("+15550123407", status="ringing")
        await call.truth.wait("caller", "microphone")
        await call.agent_ready()
        await call.observed()
        call.truth.order("caller", "status", status="active")
        said = await call.truth.wait("agent", "item", role="assistant")
        call.truth.order("caller", "speaks", line=0)
        await call.truth.wait("agent", "item", role="assistant", after=said.t)
        await asyncio.sleep(1.0)
        process.kill()
        killed = call.truth.add("caller", "killed").t

        record = await call.record(timeout=90.0)
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123407",
                start_time=expect.answered(call.truth),
                end_time=expect.vanished(killed),
                status="dropped",
                termination_reason="connection_lost",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=1,
                    total_agent_utterances=2,
                    # From the last word to the estimated end.
                    silence_count=expect.Near(0, 1),
                ),
            ),
        )


@pytest.mark.long
async def test_a_call_whose_agent_died_was_dropped_with_agent_lost(lab):
    script = conversation("hello I am not well", ("what is the matter", "I feel a little dizzy"))
    async with lab.call("agent-dies", script) as call:
        phone = call.phone("+15550123410")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        await asyncio.sleep(0.5)
        os.kill(call.truth.one("agent", "joined")["pid"], signal.SIGKILL)
        vanished = expect.vanished(call.truth.add("agent", "killed").t)
        # The server notifies all participants when it gives up the agent.
        await call.truth.wait("caller", "lost", timeout=40.0)
        await asyncio.sleep(3.0)
        await phone.hangs_up()

        record = await call.record()
        note = record["outcomes"].pop("notes")
        alone = re.fullmatch(r"The caller was alone for the last (\S+) s: no agent was there\.", note)
        ended = expect.left(call.truth)
        assert expect.Near(ended.low - vanished.high, ended.high - vanished.low) == float(alone[1])
        record["outcomes"]["notes"] = None
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123410",
                start_time=expect.answered(call.truth),
                status="dropped",
                termination_reason="agent_lost",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth,
                    total_user_utterances=1,
                    total_agent_utterances=2,
                    silence_count=1,
                ),
            ),
        )


@pytest.mark.long
async def test_a_caller_whose_client_reconnects_fully_is_still_in_one_call(lab):
    script = conversation(
        "hello can you hear me well",
        ("yes I can hear you", "that is good to know"),
        ("are you still there", "yes I am still here"),
        close_on_disconnect=False,
    )
    async with lab.call("reconnect", script) as call:
        page = call.page("commuter")
        await page.join()
        quiet = await page.hears_out()
        await page.speaks(0)
        quiet = await page.hears_out(after=quiet)
        await asyncio.sleep(0.5)
        await page.reconnects_fully()
        await call.truth.wait("caller", "reconnected")
        await page.speaks(1, pause=1.5)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="commuter",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, total_agent_utterances=3
                ),
            ),
        )
        await asyncio.sleep(1.0)
        assert len(call.endpoint.of(call.room)) == 1


async def test_a_caller_whom_no_agent_serves_failed_with_no_agent(lab):
    async with lab.call("no-agent") as call:
        call.voice_agent = f"nobody-{call.room}"
        phone = call.phone("+15550123418", status="active")
        await phone.join()
        await call.observed()
        await asyncio.sleep(1.0)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123418",
                status="failed",
                termination_reason="no_agent",
                metrics=expect.metrics(call.truth, total_agent_utterances=0),
            ),
        )


async def test_the_end_an_agent_publishes_is_the_end_that_is_reported(lab):
    script = conversation("hello I am transferring you now")
    async with lab.call("says-end", script) as call:
        phone = call.phone("+15550123419", status="active")
        await phone.join()
        await phone.hears_out()
        await call.agent_publishes(
            text={"type": "end", "status": "completed", "termination_reason": "transferred"}
        )
        await asyncio.sleep(0.5)
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123419",
                termination_reason="transferred",
                agent_config=expect.config(None, None, "e2e/tone-tts", None, None),
                metrics=expect.metrics(call.truth, total_agent_utterances=1),
            ),
        )
