"""An endpoint for call-history in one file: it checks the signature, keeps each record once, and answers when the record
is on disk. JWT_SECRET=… uvicorn main:app
"""

import base64
import hashlib
import json
import os
import sqlite3
import threading

import jwt
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

JWT_SECRET = os.environ["JWT_SECRET"]  # the same as at the worker
MOST = 16_000_000
"""Bytes of a body at most; more than a record needs."""

app = FastAPI()
database = sqlite3.connect(os.environ.get("DATABASE", "calls.sqlite"), check_same_thread=False)
# A commit is on disk when it returns.
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE IF NOT EXISTS calls (call_id TEXT PRIMARY KEY, record BLOB NOT NULL)")
writing = threading.Lock()


@app.post("/call-history")
async def take(request: Request) -> dict:
    body = bytearray()
    async for part in request.stream():
        # Also what is too large is read to its end: a sender whose connection is closed earlier may see no answer.
        if len(body) <= MOST:
            body += part
    if len(body) > MOST:
        raise HTTPException(413, "the record is too large")
    body = bytes(body)
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(record, dict) or not isinstance(record.get("call_id"), str):
        raise HTTPException(422, "call_id must be a text")
    if not is_signed(request.headers.get("authorization", ""), body, record):
        raise HTTPException(401, "the token is missing, wrong, expired, or for another record")
    # The worker sends a record until it is accepted, so it may come more than once. What is kept first stays.
    if not await run_in_threadpool(keep, record["call_id"], body):
        raise HTTPException(409, "another record is kept under this id")
    return {"call_id": record["call_id"]}


def is_signed(header: str, body: bytes, record: dict) -> bool:
    scheme, _, token = header.partition(" ")
    try:
        # Checks the signature, and that the token is not expired. Only this algorithm: a token must not choose its own.
        claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return False
    return (
        scheme.lower() == "bearer"
        # Over the bytes as they were sent.
        and claims.get("sha256") == base64.b64encode(hashlib.sha256(body).digest()).decode()
        and claims.get("jti") == record["call_id"]
        and claims.get("phone_number") == record.get("phone_number")
        and claims.get("timestamp") == record.get("end_time")
    )


def keep(call_id: str, body: bytes) -> bool:
    """Returns when the record is on disk; false if other bytes are kept under this id.

    If the disk is full, this raises: the answer is 500, and the worker tries again.
    """
    with writing, database:
        insert = "INSERT INTO calls VALUES (?, ?) ON CONFLICT DO NOTHING"
        if database.execute(insert, (call_id, body)).rowcount == 1:
            return True
        (kept,) = database.execute("SELECT record FROM calls WHERE call_id = ?", (call_id,)).fetchone()
        return kept == body
