"""Callers in a browser: unmodified livekit-client in Chromium, as most web callers are."""

import asyncio

import pytest

from harness import expect
from harness.call import conversation

# The microphone plays a file, so its pauses are fixed. The agent needs about 0.8 s to begin its
# answer, and about 2 s to speak it. The rest of the pause is for slow machines. No part of the pause
# may come close to the 5 s of a silence.
FIRST, NEXT = 1.2, 6.0


async def test_a_caller_in_a_browser_talks_with_the_agent_and_is_reported(lab):
    script = conversation(
        "hello you are on the air",
        ("good morning from a browser", "good morning to you in the browser"),
        ("that is all I wanted", "then have a nice day"),
        cues={"greeting": [{"attributes": {"call.stage": "greeting"}}]},
    )
    async with lab.call("browser", script) as call:
        page = call.browser("surfer", (FIRST, 0), (NEXT, 1))
        await page.join()
        quiet = await page.hears_out()
        await page.speaks()
        quiet = await page.hears_out(after=quiet)
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        assert call.truth.one("caller", "joined")["connections"] == 1
        assert len(call.truth.all("caller", "hears_sound")) >= 3, "it did not hear the agent"
        expect.compare(
            record,
            call.expected(
                phone_number="surfer",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, total_agent_utterances=3
                ),
                outcomes=expect.outcomes(final_stage="greeting"),
                stage_timeline=expect.stages(call.truth, "greeting"),
            ),
        )


async def test_a_browser_with_two_peer_connections_talks_and_hears_too(lab):
    script = conversation(
        "hello to the old school", ("one for each direction", "that makes two indeed")
    )
    async with lab.call("browser-dual", script) as call:
        page = call.browser("traditional", (FIRST, 0))
        page.options = {"singlePeerConnection": False}
        await page.join()
        quiet = await page.hears_out()
        await page.speaks()
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        assert call.truth.one("caller", "joined")["connections"] == 2
        assert len(call.truth.all("caller", "hears_sound")) >= 2, "it did not hear the agent"
        expect.compare(
            record,
            call.expected(
                phone_number="traditional",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
            ),
        )


async def test_a_page_that_is_reloaded_in_the_call_is_still_in_one_call(lab):
    script = conversation(
        "hello and stay on the line",
        ("I say it again", "you said it well"),
        close_on_disconnect=False,
    )
    async with lab.call("browser-reload", script) as call:
        page = call.browser("reloader", (FIRST, 0))
        await page.join()
        quiet = await page.hears_out()
        await page.speaks()
        quiet = await page.hears_out(after=quiet)
        await asyncio.sleep(0.5)
        await page.reloads()
        await asyncio.sleep(0.5)
        await page.speaks()
        await page.hears_out(after=quiet)
        await page.leaves()

        record = await call.record()
        sids = {fact["sid"] for fact in call.truth.all("caller", "joined")}
        assert len(sids) == 2, "it never was away"
        expect.compare(
            record,
            call.expected(
                phone_number="reloader",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, total_agent_utterances=3
                ),
            ),
        )
        await asyncio.sleep(1.0)
        assert len(call.endpoint.of(call.room)) == 1


@pytest.mark.long
async def test_a_browser_that_dies_was_dropped_at_about_the_moment_it_died(lab):
    script = conversation("hello is your battery full", ("no it is nearly empty", "then be quick"))
    async with lab.call("browser-dies", script) as call:
        call.departure_timeout = 5
        page = call.browser("powerless", (FIRST, 0))
        await page.join()
        quiet = await page.hears_out()
        await page.speaks()
        await page.hears_out(after=quiet)
        await asyncio.sleep(1.0)
        page.kill()
        killed = call.truth.one("caller", "killed").t

        record = await call.record(timeout=90.0)
        expect.compare(
            record,
            call.expected(
                phone_number="powerless",
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
