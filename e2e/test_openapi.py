"""The receiver does what its description says, whatever it is asked: schemathesis fuzzes /openapi.json."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
WITHIN = 1200.0
EXAMPLES = os.environ.get("E2E_FUZZ_EXAMPLES", "15")
"""Cases of each operation, besides those that cover the edges of each parameter."""
RECORDS = sorted((HERE.parent / "tests" / "journals").glob("*.expected.json"))


def post(url: str, body: bytes, token: str | None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=WITHIN) as answer:
        return answer.read()


def test_the_receiver_does_what_its_description_says(tmp_path):
    log = tmp_path / "log"
    binary = os.path.abspath(os.environ["E2E_PRODUCT_BIN"])
    environment = {
        "PATH": os.environ["PATH"],
        "CALL_HISTORY_RECEIVE_ADDR": "127.0.0.1:0",
        "CALL_HISTORY_LOG_FORMAT": "json",
        "CALL_HISTORY_RECEIVE_RATE": "0",
    }
    receiver = subprocess.Popen(
        [binary, "receive"], cwd=tmp_path, env=environment, stdout=log.open("wb")
    )
    try:
        address = started(receiver, log)
        scopes = ["read", "admin", "ingest", "numbers"]
        wanted = json.dumps({"name": "fuzz", "scopes": scopes}).encode()
        token = json.loads(post(f"http://{address}/api/tokens", wanted, None))["token"]
        for path in RECORDS[:5]:
            post(f"http://{address}/call-history", path.read_bytes(), token)
        run = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                *("run", f"http://{address}/openapi.json"),
                *("-H", f"Authorization: Bearer {token}"),
                # A stream without an end.
                *("--exclude-path", "/api/live"),
                # Its own answers are HTTP's, not ours: a method that a path does not have.
                *("--max-examples", EXAMPLES, "--seed", "1"),
                *("--phases", "coverage,fuzzing", "--request-timeout", "30"),
            ],
            cwd=HERE,
            env=environment | {"NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
        assert "Authentication failed" not in run.stdout, run.stdout[-5_000:]
        assert receiver.poll() is None
        assert b'"level":"ERROR"' not in log.read_bytes()
    finally:
        receiver.terminate()
        receiver.wait()


def started(receiver: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + WITHIN
    while True:
        for line in log.read_text().splitlines():
            if '"receiver started"' in line:
                return json.loads(line)["addr"]
        assert receiver.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
