"""A LiveKit agent worker that watches each call, hidden, and posts its record when the call has ended.

    LIVEKIT_URL=… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=… CALL_HISTORY_ENDPOINT=… python worker.py start

`AGENT_NAME`, `JOB_EXECUTOR` (`process` or `thread`), `HTTP_HOST` and `HTTP_PORT` have defaults.
"""

import logging
import math
import os

# An observer detects no speech: without this each process would load the models for it.
os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")

from livekit.agents import (
    AgentServer,
    AutoSubscribe,
    JobContext,
    JobExecutorType,
    WorkerPermissions,
    cli,
)
from livekit.agents.utils import http_context
from livekit.rtc._ffi_client import FfiClient

import delivery
from call import Call

logger = logging.getLogger("call-history")

MAX_CALLS = 200
# LiveKit offers no job to a worker that reports this load.
FULL = 0.7


def load(server: AgentServer) -> float:
    """The share of the calls that this worker may watch. The default is the machine's CPU load: an observer would
    get no jobs whenever something else on the machine is busy."""
    return FULL * len(server.active_jobs) / MAX_CALLS


executor = JobExecutorType[os.environ.get("JOB_EXECUTOR", "process").upper()]
server = AgentServer(
    job_executor_type=executor,
    # A warm process for each core, the library's default: a call need not wait for a start.
    num_idle_processes=os.cpu_count() or 1,
    # The forkserver imports these once, and all job processes share the memory.
    preload_modules=["call", "record", "delivery"],
    permissions=WorkerPermissions(can_publish=False, can_publish_data=False, hidden=True),
    load_fnc=load,
    # The server's limit is enough. With the worker's own one, an idle worker would refuse every call of a burst
    # beyond the number of its warm processes.
    load_threshold=math.inf,
    # A record may be retried for this long.
    session_end_timeout=delivery.GIVE_UP_AFTER + 30,
    host=os.environ.get("HTTP_HOST", ""),
    port=int(os.environ.get("HTTP_PORT", "8081")),
)


async def report(ctx: JobContext) -> None:
    """Runs after the call: the library keeps the job alive until it returns."""
    call: Call | None = ctx.proc.userdata.pop("call", None)
    record = await call.record() if call else None
    if record is None:
        logger.info("no caller was there, so there is no record", extra={"room": ctx.room.name})
    else:
        await delivery.post(http_context.http_session(), record)


@server.rtc_session(agent_name=os.environ.get("AGENT_NAME", "call-history"), on_session_end=report)
async def observe(ctx: JobContext) -> None:
    call = ctx.proc.userdata["call"] = Call(ctx.room, ctx.job.room.sid)
    await call.listen()
    # No sound is needed, and none is sent to a participant that subscribes to nothing.
    await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
    call.joined()
    await call.over.wait()
    ctx.shutdown("call ended")


if __name__ == "__main__":
    if executor == JobExecutorType.THREAD:
        # The SDK makes this at first use, without a lock: two threads that join their first rooms at once would make
        # two, and one of them would wait for events that go to the other.
        _ = FfiClient.instance
    cli.run_app(server)
