"""The product starts late or stops during a call; calls follow each other in one room."""

import asyncio
import time

from harness import expect
from harness.call import conversation


async def test_an_observer_called_in_late_reports_what_it_can_and_says_so(lab):
    script = conversation(
        "good day you reached the late shift",
        ("is anybody watching this call", "not yet I am afraid"),
        ("and what about now", "now there is somebody"),
        cues={"greeting": [{"attributes": {"call.stage": "greeting"}}]},
    )
    async with lab.call("late", script) as call:
        call.observed_from_the_start = False
        phone = call.phone("+15550123421", status="active")
        await phone.join()
        quiet = await phone.hears_out()
        await phone.speaks(0)
        quiet = await phone.hears_out(after=quiet)
        called = time.time()
        await call.dispatch_observer()
        await call.observed()
        came = call.truth.one("observer", "in_the_room").t
        await phone.speaks(1)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        assert record["outcomes"]["notes"], "nothing says that the beginning was missed"
        record["outcomes"]["notes"] = None
        # The record may lack the pauses before the observer came, but must not have wrong ones.
        pause = record["metrics"]["average_user_response_time"]
        known = {} if pause else {"average_user_response_time": 0.0}
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123421",
                # The server still knows when the caller joined, and the agent what was said.
                start_time=expect.joined(call.truth),
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=2, total_agent_utterances=3, **known
                ),
                outcomes=expect.outcomes(final_stage="greeting"),
                stage_timeline=[
                    {"stage": "greeting", "timestamp": expect.Moment(called, came + 1.0)}
                ],
            ),
        )


async def test_two_calls_one_after_another_in_one_room_are_two_records(lab):
    script = conversation(
        "hello first caller",
        ("hello I am the first", "nice to meet you first"),
        ("hello I am the second one", "nice to meet you too second one"),
        close_on_disconnect=False,
    )
    async with lab.call("twice", script) as call:
        lab.rooms[call.room] = 2
        call.departure_timeout = 30
        first = call.phone("+15550123422", status="active")
        await first.join()
        quiet = await first.hears_out()
        await first.speaks(0)
        await first.hears_out(after=quiet)
        await first.hangs_up()
        record = await call.record()
        between = time.time()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123422",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
            ),
        )

        second = call.phone("+15550123423", status="active", who="second")
        await second.join()
        call.agent("serve", identity=second.room.local_participant.identity)
        await asyncio.sleep(1.0)
        asked = await second.speaks(1)
        await second.hears_out(after=asked)
        await second.hangs_up()
        record_of_second = await call.record(number=1)
        assert record_of_second["call_id"] != record["call_id"]
        truth = call.truth.part(between, time.time(), caller="second")
        start, end = expect.joined(truth), expect.left(truth)
        expect.compare(
            record_of_second,
            call.expected(
                phone_number="+15550123423",
                start_time=start,
                end_time=end,
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(truth, total_user_utterances=1, total_agent_utterances=1),
            ),
        )


async def test_after_sigterm_the_product_observes_its_call_to_the_end(lab):
    endpoint = await lab.new_endpoint()
    product = await lab.new_product(endpoint, suffix="-drain")
    script = conversation("hello there is work to do", ("then let us do it", "we just did"))
    async with lab.call("drain", script, product=product, endpoint=endpoint) as call:
        phone = call.phone("+15550123424", status="active")
        await phone.join()
        await call.observed()
        quiet = await phone.hears_out()
        product.child.terminate()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        await asyncio.sleep(0.5)
        assert product.child.alive, "it ended in the middle of a call"
        await phone.hangs_up()

        record = await call.record()
        expect.compare(
            record,
            call.expected(
                phone_number="+15550123424",
                agent_config=expect.config(*expect.FAKES),
                metrics=expect.metrics(
                    call.truth, total_user_utterances=1, total_agent_utterances=2
                ),
            ),
        )
        # The product exits when the room closes, 20 s after the caller left: if the observer left
        # sooner, that would keep the room open longer.
        assert await product.child.ended(35.0) == 0


async def test_a_room_that_was_deleted_is_not_brought_back_by_the_observer(lab):
    """A client that takes the end of the room for a lost connection joins again, and the server
    then creates a new room of the same name and dispatches agents to it. This depends on
    milliseconds, so the scenario deletes several rooms. Only the observer is left in them."""

    async def brought_back(number: int) -> str | None:
        async with lab.call(f"revived-{number}") as call:
            call.voice_agent = f"nobody-{call.room}"
            page = call.page(f"visitor-{number}")
            await page.join()
            await call.observed()
            await page.leaves()
            await asyncio.sleep(0.3)
            await call.delete_room()
            await asyncio.sleep(1.0)
            there = await call.room_exists()
            record = await call.record()
            assert record["status"] == "failed"
            assert record["termination_reason"] == "no_agent"
            return call.room if there else None

    back = [room for number in range(10) if (room := await brought_back(number))]
    assert not back, f"{len(back)} of 10 rooms exist again: {', '.join(back)}"
