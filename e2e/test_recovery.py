"""A product that is killed during a call, and the next one on its data."""

from harness import expect
from harness.call import conversation


async def test_what_was_said_while_no_product_ran_comes_from_the_agents_history(lab):
    endpoint = await lab.new_endpoint()
    product = await lab.new_product(endpoint, suffix="-killed")
    script = conversation(
        "welcome what can I do",
        ("before it was killed", "I heard that"),
        ("and while it was away", "I heard that as well"),
        ("and when it was back", "that makes three"),
    )
    async with lab.call("killed", script, product=product, endpoint=endpoint) as call:
        phone = call.phone("+15550123451", status="active")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        quiet = await phone.hears_out()
        await phone.speaks(0)
        quiet = await phone.hears_out(after=quiet)
        await product.dies()
        await phone.speaks(1)
        quiet = await phone.hears_out(after=quiet)
        second = await product.another()
        lab.products.append(second)
        call.product = second
        await second.logs(lambda line: line.message == "joined again", timeout=20.0)
        await phone.speaks(2)
        await phone.hears_out(after=quiet)
        await phone.hangs_up()

        record = await call.record()
        assert record["status"] == "completed"
        metrics = record["metrics"]
        assert metrics["total_user_utterances"] == 3
        assert metrics["total_agent_utterances"] == 4
        assert metrics["longest_user_utterance"] == 5
        assert metrics["average_agent_response_time"] == expect.agent_response(call.truth)
        notes = record["outcomes"]["notes"]
        assert "The worker was restarted during the call." in notes
        assert "disconnected from the room for" in notes
