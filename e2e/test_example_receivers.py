"""The example receivers take real records, each once, and nothing that is not signed."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import jwt
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "receivers"
SECRET = "a secret that only this test and the example know"
RECORDS = sorted((ROOT / "tests" / "journals").glob("*.expected.json"))
WITHIN = 60.0
"""Seconds until an example must listen; far more than it takes."""


class Example:
    """An example as a process; killed and started again it has the same data."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.start()

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "JWT_SECRET": SECRET}
        if self.name == "express":
            environment |= {"DATA_DIR": str(self.folder / "data"), "PORT": "0"}
            command = ["node", "server.js"]
        else:
            environment |= {"DATABASE": str(self.folder / "calls.sqlite")}
            command = [sys.executable, "-m", "uvicorn", "main:app", "--port", "0"]
        log = self.folder / f"log-{time.monotonic_ns()}"
        self.child = subprocess.Popen(
            command,
            cwd=EXAMPLES / self.name,
            env=environment,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + WITHIN
        while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes())):
            assert self.child.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{int(found[1])}/call-history"

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def post(self, body: bytes, token: str | None) -> int:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url, body, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=WITHIN) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code


@pytest.fixture(params=["express", "fastapi"])
def example(request, tmp_path):
    example = Example(request.param, tmp_path)
    yield example
    example.kill()


def claims(body: bytes) -> dict:
    record = json.loads(body)
    now = int(time.time())
    return {
        "phone_number": record["phone_number"],
        "timestamp": record["end_time"],
        "iat": now,
        "exp": now + 300,
        "jti": record["call_id"],
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }


def signed(body: bytes, secret: str = SECRET, algorithm: str = "HS256", **other) -> str:
    return jwt.encode(claims(body) | other, secret, algorithm)


def records() -> list[bytes]:
    """One of each id: some journals are of the same call."""
    found = {}
    for path in RECORDS:
        text = path.read_text()
        for record in json.loads(text) if text.lstrip().startswith("[") else [json.loads(text)]:
            if record:
                found.setdefault(record["call_id"], json.dumps(record, indent=1).encode())
    return list(found.values())


def test_real_records_are_kept_once_also_after_a_kill(example):
    bodies = records()
    assert len(bodies) > 10
    for body in bodies:
        assert example.post(body, signed(body)) == 200
    example.kill()
    example.start()
    for body in bodies:
        assert example.post(body, signed(body)) == 200, "the same bytes again"
        other = body + b" "
        assert example.post(other, signed(other)) == 409
        assert example.post(body, signed(body)) == 200, "the first one stayed"


def test_what_is_not_signed_for_this_record_is_refused(example):
    body, another = records()[:2]
    for token in [
        None,
        "",
        "nonsense",
        signed(body, secret="another secret, which is just as long"),
        signed(body, exp=int(time.time()) - 3600),
        signed(body, algorithm="HS384"),
        jwt.encode(claims(body), None, "none"),
        signed(another),
        signed(body, phone_number="+15550000000"),
        signed(body, timestamp="2026-01-01T00:00:00.000Z"),
        signed(body, jti="another"),
        signed(body, sha256="x"),
    ]:
        assert example.post(body, token) == 401, token
    assert example.post(body + b" ", signed(body)) == 401
    assert example.post(body, signed(body)) == 200


def test_what_is_no_record_is_refused_and_the_next_one_is_taken(example):
    deep = b"[" * 100_000
    for body in [b"", b"{", b"[]", b"null", b"\xff", b'{"call_id": 7}', deep]:
        assert example.post(body, "x") in (400, 422), body[:20]
    assert example.post(b" " * 20_000_000, "x") == 413
    body = records()[0]
    assert example.post(body, signed(body)) == 200
