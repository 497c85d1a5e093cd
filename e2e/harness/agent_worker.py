"""The worker of the voice agents.

Run as `python -m harness.agent_worker --name NAME`. Prints `registered` on
stdout once the LiveKit server took it.
"""

import argparse
import asyncio

from livekit.agents import AgentServer, JobExecutorType

from .agent import job


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="", help="agent name; none takes unnamed dispatches")
    parser.add_argument("--idle", type=int, default=4, help="processes that wait for a job")
    options = parser.parse_args()

    server = AgentServer(
        # A process for each call, as in production: one call's agent can be killed alone.
        job_executor_type=JobExecutorType.PROCESS,
        num_idle_processes=options.idle,
        preload_modules=["harness.agent"],
        # Always zero: on a busy machine the worker would report that it is full, get no
        # job, and the call would have no agent.
        load_fnc=lambda: 0.0,
        host="127.0.0.1",
        port=0,
    )
    server.rtc_session(job, agent_name=options.name)
    server.on("worker_registered", lambda *_: print("registered", flush=True))
    asyncio.run(server.run())


if __name__ == "__main__":
    main()
