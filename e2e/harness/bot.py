"""A real Pipecat bot with fake models, as a process in an environment of its own; see ../pipecat/."""

import json
import os
from pathlib import Path

from .process import Child, plain_environment

PYTHON = Path(__file__).resolve().parent.parent / "pipecat" / ".venv" / "bin" / "python"


async def bot_in(call, **more) -> Child:
    """Starts a bot that joins the room of a call. `more`: further keys of the bot's script."""
    assert PYTHON.exists(), "make e2e/pipecat/.venv"
    script = call.script
    known = {"lines": script.lines, "replies": script.replies, "greeting": script.greeting}
    child = await Child.start(
        str(PYTHON),
        os.path.join("pipecat", "bot.py"),
        name="Pipecat bot",
        env=plain_environment(
            **call.server.settings(),
            BOT_ROOM=call.room,
            BOT_NAME="Pipecat Agent-1",
            BOT_SCRIPT=json.dumps(known | more),
            PYTHONUNBUFFERED="1",
        ),
        cwd=call.lab.home,
    )
    call.ends_with_it(child)
    return child
