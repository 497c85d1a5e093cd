"""Posts a record, and tries again while the endpoint is away."""

import asyncio
import json
import logging
import os
import random
import time

import aiohttp
import jwt

logger = logging.getLogger("call-history")

GIVE_UP_AFTER = 270.0
TIMEOUT = aiohttp.ClientTimeout(total=30)
LONGEST_WAIT = 30.0


async def post(session: aiohttp.ClientSession, record: dict) -> bool:
    """True if the endpoint took it. Waits 1 s, 2 s, 4 s … up to 30 s between attempts, each with jitter."""
    body = json.dumps(record).encode()
    give_up, wait = time.monotonic() + GIVE_UP_AFTER, 1.0
    while True:
        try:
            async with session.post(
                os.environ["CALL_HISTORY_ENDPOINT"],
                data=body,
                headers=headers(record),
                timeout=TIMEOUT,
                allow_redirects=False,
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = type(error).__name__
        else:
            # 409: the endpoint has this record already.
            if status < 300 or status == 409:
                logger.info("delivered", extra={"call_id": record["call_id"]})
                return True
            problem = f"status {status}"
            if status < 500 and status not in (408, 425, 429):
                break
        if time.monotonic() + wait > give_up:
            break
        logger.warning("not delivered: %s; another attempt follows", problem)
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(wait * 2, LONGEST_WAIT)
    logger.error("the record is lost: %s", problem, extra={"call_id": record["call_id"]})
    return False


def headers(record: dict) -> dict[str, str]:
    found = {"Content-Type": "application/json", "Idempotency-Key": record["call_id"]}
    if secret := os.environ.get("JWT_SECRET"):
        now = int(time.time())
        claims = {
            "phone_number": record["phone_number"],
            "timestamp": record["end_time"],
            "iat": now,
            "exp": now + 300,
        }
        found["Authorization"] = "Bearer " + jwt.encode(claims, secret, algorithm="HS256")
    return found
