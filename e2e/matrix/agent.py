"""The Python agent of the matrix: one file for every pinned version of `livekit-agents`.

Run as `python -m matrix.agent start` in the environment of a version, as authors run theirs; its
dispatch name is in `MATRIX_AGENT`. It reports nothing: the caller hears what it does.
"""

import asyncio
import inspect
import json
import os

from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli

from .older import EnergyVad, ScriptedLlm, ScriptedStt, ToneTts


def known(function, **options) -> dict:
    """Those of the options that this version's function takes."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


async def job(context: JobContext) -> None:
    script = json.loads(context.job.metadata)
    await context.connect()
    turns = known(
        AgentSession.__init__,
        # Newest first; `turn_detection` is what it was called before.
        turn_handling={"turn_detection": "vad", "interruption": {"mode": "vad"}},
    ) or {"turn_detection": "vad"}
    session = AgentSession(
        vad=EnergyVad(),
        stt=ScriptedStt(script["lines"]),
        llm=ScriptedLlm(script["replies"]),
        tts=ToneTts(),
        **turns,
    )
    # Nothing is recorded in LiveKit's cloud.
    options = known(AgentSession.start, record=False)
    await session.start(Agent(instructions=""), room=context.room, **options)
    await context.wait_for_participant()
    await asyncio.sleep(script["greet_after"])
    session.say(script["greeting"])


def main() -> None:
    cli.run_app(
        WorkerOptions(
            entrypoint_fnc=job,
            agent_name=os.environ["MATRIX_AGENT"],
            num_idle_processes=1,
            # Always zero: on a busy machine the worker would report that it is full.
            load_fnc=lambda: 0.0,
            host="127.0.0.1",
            port=0,
        )
    )


if __name__ == "__main__":
    main()
