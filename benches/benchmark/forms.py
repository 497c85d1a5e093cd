"""The three workers: how each is started, and when it is ready."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .endpoint import JWT_SECRET, Endpoint
from .program import Program
from .venue import Venue

PYTHON = Path(__file__).parents[1] / "python"
REGISTERED_WITHIN = 60.0
# As image and systemd unit start it.
GLIBC_TUNABLES = "glibc.malloc.tcache_count=0"


@dataclass(frozen=True)
class Form:
    key: str
    name: str
    short: str


OURS = Form("ours", "call-history", "call-history")
PROCESSES = Form("processes", "Python, a process for each call", "Python, processes")
THREADS = Form("threads", "Python, a thread for each call", "Python, threads")
FORMS = (OURS, PROCESSES, THREADS)


@dataclass
class Bench:
    """Where workers are started."""

    binaries: Path
    folder: Path
    venue: Venue
    endpoint: Endpoint
    run: str
    """The beginning of all names of this run: the server may hold rooms of others."""

    def agent_name(self, form: Form) -> str:
        return f"{self.run}-{form.key}"

    async def start(self, form: Form, data: str) -> tuple[Program, float]:
        """A registered worker, and the seconds from its start to its registration. `data` names its data folder."""
        env = {
            **self.venue.env,
            "PATH": os.environ["PATH"],
            "CALL_HISTORY_ENDPOINT": self.endpoint.url,
            "JWT_SECRET": JWT_SECRET,
        }
        if form is OURS:
            command = [str(self.binaries / "call-history")]
            env |= {
                "CALL_HISTORY_AGENT_NAME": self.agent_name(form),
                "CALL_HISTORY_DATA_DIR": str(self.folder / data),
                "CALL_HISTORY_HTTP_ADDR": "127.0.0.1:0",
                "CALL_HISTORY_LOG_FORMAT": "json",
                "CALL_HISTORY_ROOMS": f"{self.run}-*",
                "GLIBC_TUNABLES": GLIBC_TUNABLES,
            }
        else:
            command = [sys.executable, str(PYTHON / "worker.py"), "start"]
            env |= {
                "AGENT_NAME": self.agent_name(form),
                "JOB_EXECUTOR": "process" if form is PROCESSES else "thread",
                "HTTP_HOST": "127.0.0.1",
                "HTTP_PORT": "0",
                "HOME": str(self.folder),
            }
        worker = await Program.start(command, self.folder / f"{form.key}.log", env, self.folder)
        try:
            [(at, _)] = await worker.wait_for(
                lambda line: line.get("message") == "registered worker", REGISTERED_WITHIN
            )
        except BaseException:
            await worker.kill()
            raise
        return worker, at - worker.started
