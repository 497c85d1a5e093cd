"""Rooms about which nothing may be posted."""

import asyncio
import json

from harness.call import conversation


async def test_a_room_without_a_caller_is_not_reported(lab):
    async with lab.call("no-caller", conversation("nobody hears this")) as call:
        await call.create_room()
        await call.agent_ready()
        await call.observed()
        await asyncio.sleep(1.0)
        await call.delete_room()
        await call.nothing_is_posted(5.0)
        assert call.product.about(call.room), "the log does not name the room"


async def test_a_caller_who_opted_out_is_neither_reported_nor_stored(lab):
    script = conversation(
        "welcome to the private line", ("my secret is a purple elephant", "it is safe with me")
    )
    async with lab.call("opt-out", script) as call:
        await call.create_room(metadata=json.dumps({"opt_out_sensitive_data": True}))
        phone = call.phone("+15550123499")
        await phone.join()
        await call.agent_ready()
        await call.observed()
        await phone.status("active")
        quiet = await phone.hears_out()
        await phone.speaks(0)
        await phone.hears_out(after=quiet)
        assert "purple elephant" not in call.product.stored_text()
        await phone.hangs_up()
        # 2.5 s is the least an observer waits for last words.
        await call.nothing_is_posted(6.0)
        stored = call.product.stored_text()
        for secret in ("15550123499", "purple", "private line"):
            assert secret not in stored, f"{secret!r} is on disk"
