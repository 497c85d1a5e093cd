"""Delivery to the endpoint: records are signed, and sent again until the endpoint takes them."""

import asyncio
import base64
import hashlib
import json

import jwt
import pytest

from harness.call import Call, conversation
from harness.product import JWT_SECRET
from harness.record import check_form, check_request


async def short_call(call: Call, number: str) -> None:
    phone = call.phone(number, status="active")
    await phone.join()
    await phone.hears_out()
    await phone.hangs_up()


async def test_a_foreign_library_accepts_the_signature_and_only_over_this_body(lab):
    async with lab.call("signature", conversation("hello and good bye")) as call:
        await short_call(call, "+15550123412")
        record = await call.record()

        post = call.endpoint.of(call.room)[0]
        token = post.headers["authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"], leeway=2)
        assert claims["phone_number"] == "+15550123412"
        assert claims["timestamp"] == record["end_time"]
        assert claims["jti"] == record["call_id"]
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(token, "another secret of the same length........", algorithms=["HS256"])
        forged = post.body.replace(b"completed", b"dropped")
        assert forged != post.body
        digest = base64.b64encode(hashlib.sha256(forged).digest()).decode()
        assert claims["sha256"] != digest


async def test_an_endpoint_that_answers_500_twice_gets_the_same_record_three_times(lab):
    endpoint = await lab.new_endpoint()
    product = await lab.new_product(endpoint, suffix="-retry")
    endpoint.answers = [500, 500]
    script = conversation("hello my endpoint is unwell")
    async with lab.call("retried", script, product=product, endpoint=endpoint) as call:
        await short_call(call, "+15550123413")
        posts = await endpoint.wait(call.room, 3, timeout=30.0)
        assert [post.status for post in posts] == [500, 500, 200]
        assert len({post.body for post in posts}) == 1
        assert len({post.headers["idempotency-key"] for post in posts}) == 1
        for post in posts:
            check_request(post, check_form(post.body))
        await asyncio.sleep(3.0)
        assert len(endpoint.of(call.room)) == 3, "posted again after it was taken"
        assert await product.stop() == 0


async def test_an_endpoint_that_was_away_gets_the_record_when_it_is_back(lab):
    endpoint = await lab.new_endpoint()
    product = await lab.new_product(endpoint, suffix="-away")
    await endpoint.stop()
    script = conversation("hello my endpoint is away")
    async with lab.call("away", script, product=product, endpoint=endpoint) as call:
        await short_call(call, "+15550123414")
        # By then at least one attempt has failed.
        await asyncio.sleep(4.0)
        await endpoint.start()
        record = await call.record(timeout=60.0)
        assert record["phone_number"] == "+15550123414"
        assert json.loads(endpoint.posts[0].body)["room_name"] == call.room
