"""The agents of the matrix: their pins, and how each is started.

Pins are in `python/VERSION.txt` and `node/VERSION/package.json`. The newest versions are those of
the other scenarios.
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import bot
from harness.bot import bot_in
from harness.call import Call
from harness.process import Child, plain_environment

_HERE = Path(__file__).resolve().parent
_E2E = _HERE.parent

PYTHON, NODE, PIPECAT = "LiveKit Agents, Python", "LiveKit Agents, Node", "Pipecat"

_NODE_FILES = ("line.js", "llm.js", "sound.js", "stt.js", "tts.js", "vad.js")
"""The models of `e2e/node`, which the agent of the matrix uses too."""


@dataclass(frozen=True)
class Version:
    framework: str
    key: str
    """What the command line calls it."""
    pins: Path
    """Where the exact version is."""
    home: Path
    """The interpreter of its environment, or the folder `node_modules`."""

    @property
    def number(self) -> str:
        """The exact version."""
        text = self.pins.read_text()
        if self.framework == NODE:
            return json.loads(text)["dependencies"]["@livekit/agents"]
        return re.search(r"^(?:livekit-agents|pipecat-ai)\S*==(\S+)", text, re.MULTILINE)[1]

    @property
    def title(self) -> str:
        return f"{self.framework} {self.number}"

    async def start(self, call: Call) -> Child:
        """Starts the agent of one call; a worker is registered when this returns."""
        assert self.home.exists(), "its environment is missing: run `make matrix`"
        if self.framework == PIPECAT:
            return await bot_in(call, greet_after=call.script.greet_after)
        if self.framework == PYTHON:
            command, cwd = [str(self.home), "-m", "matrix.agent", "start"], _E2E
        else:
            command, cwd = ["node", "worker.js", "start"], self._node_folder(call.lab.directory)
        settings = call.server.settings() | {"MATRIX_AGENT": call.voice_agent}
        child = await Child.start(
            *command,
            name=self.title,
            env=plain_environment(**settings, PYTHONUNBUFFERED="1"),
            cwd=str(cwd),
        )
        call.ends_with_it(child)
        await child.line(lambda line: "registered worker" in line, 90.0)
        return child

    def _node_folder(self, directory: str) -> Path:
        """A folder with the agent's files and this version's modules: a module finds others only
        from the folder that it is in."""
        folder = Path(directory) / f"node-{self.key}"
        if not folder.exists():
            folder.mkdir()
            for name in _NODE_FILES:
                shutil.copy(_E2E / "node" / name, folder)
            for name in ("agent.js", "worker.js"):
                shutil.copy(_HERE / "node" / name, folder)
            (folder / "package.json").write_text('{"type": "module"}')
            (folder / "node_modules").symlink_to(self.home)
        return folder


def _python(key: str) -> Version:
    interpreter = _HERE / f".venv-{key}" / "bin" / "python"
    return Version(PYTHON, f"python-{key}", _HERE / "python" / f"{key}.txt", interpreter)


def _node(key: str, folder: Path) -> Version:
    return Version(NODE, f"node-{key}", folder / "package.json", folder / "node_modules")


def _folders(path: Path) -> list[Path]:
    return [pins.parent for pins in path.glob("*/package.json")]


def _in_order(paths) -> list[Path]:
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


VERSIONS = [
    *(_python(file.stem) for file in _in_order((_HERE / "python").glob("*.txt"))),
    Version(PYTHON, "python-newest", _E2E / "requirements.txt", Path(sys.executable)),
    *(_node(folder.name, folder) for folder in _in_order(_folders(_HERE / "node"))),
    _node("newest", _E2E / "node"),
    Version(PIPECAT, "pipecat", _E2E / "pipecat" / "requirements.txt", bot.PYTHON),
]
