"""The receiver does what its description says, whatever it is asked: schemathesis fuzzes /openapi.json."""

import json
import os
import subprocess
import sys
from pathlib import Path

from harness.receiver_process import RECORDS, WITHIN, ReceiverProcess

EXAMPLES = os.environ.get("E2E_FUZZ_EXAMPLES", "15")
"""Cases of each operation, besides those that cover the edges of each parameter."""


def test_the_receiver_does_what_its_description_says(tmp_path):
    with ReceiverProcess(tmp_path, {"CALL_HISTORY_RECEIVE_RATE": "0"}) as receiver:
        scopes = ["read", "admin", "ingest", "numbers"]
        wanted = json.dumps({"name": "fuzz", "scopes": scopes}).encode()
        bearer = f"Bearer {json.loads(receiver.ask('/api/tokens', wanted))['token']}"
        for path in RECORDS[:5]:
            receiver.ask("/call-history", path.read_bytes(), {"Authorization": bearer})
        run = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                *("run", f"{receiver.url}/openapi.json"),
                *("-H", f"Authorization: {bearer}"),
                # A stream without an end.
                *("--exclude-path", "/api/live"),
                # Its own answers are HTTP's, not ours: a method that a path does not have.
                *("--max-examples", EXAMPLES, "--seed", "1"),
                *("--phases", "coverage,fuzzing", "--request-timeout", "30"),
            ],
            cwd=Path(__file__).parent,
            env=receiver.environment | {"NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
        assert "Authentication failed" not in run.stdout, run.stdout[-5_000:]
        assert receiver.process.poll() is None
        assert b'"level":"ERROR"' not in receiver.log.read_bytes()
