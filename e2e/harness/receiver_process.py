"""The receiver as a process, for tests without a call (`receiver` has the one beside a worker)."""

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

WITHIN = 1200.0
"""Seconds for anything that must happen; far more than it takes."""
RECORDS = sorted((Path(__file__).parent.parent.parent / "tests" / "journals").glob("*.expected.json"))
"""Records as the worker posts them."""


class ReceiverProcess:
    """Starts with the settings; ends with the block that it is for."""

    def __init__(self, folder: Path, settings: dict[str, str], binary: str = "E2E_PRODUCT_BIN") -> None:
        """`binary`: the variable that names the program."""
        self.log = folder / "log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "CALL_HISTORY_RECEIVE_ADDR": "127.0.0.1:0",
            "CALL_HISTORY_LOG_FORMAT": "json",
            **settings,
        }
        self.process = subprocess.Popen(
            [os.path.abspath(os.environ[binary]), "receive"],
            cwd=folder,
            env=self.environment,
            stdout=self.log.open("wb"),
        )

    def __enter__(self) -> "ReceiverProcess":
        try:
            self.url = f"http://{self._address()}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def _address(self) -> str:
        deadline = time.monotonic() + WITHIN
        while True:
            for line in self.log.read_text().splitlines(keepends=True):
                if '"receiver started"' in line and line.endswith("\n"):
                    return json.loads(line)["addr"]
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
    ) -> bytes:
        """The answer's body. Raises urllib.error.HTTPError for 4xx and 5xx."""
        if body is not None:
            headers = {"Content-Type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=WITHIN) as answer:
            return answer.read()
