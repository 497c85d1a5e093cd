"""The product under test: the binary at `E2E_PRODUCT_BIN`, and what it logs."""

import json
import os
import re
from dataclasses import dataclass

from .process import Child, plain_environment
from .server import Server

JWT_SECRET = "a secret only this test and its endpoint know"


@dataclass(frozen=True)
class LogLine:
    raw: str
    level: str
    message: str
    fields: dict

    @classmethod
    def parse(cls, raw: str) -> "LogLine":
        """Parses a JSON line, with its fields flat or under `fields`. Any other line has no level."""
        try:
            line = json.loads(raw)
            fields = {**line, **line.get("fields", {})}
        except (ValueError, AttributeError, TypeError):
            return cls(raw, "", raw, {})
        return cls(raw, str(fields.get("level", "")), str(fields.get("message", "")), fields)


class Product:
    def __init__(self, child: Child, data: str, agent_name: str) -> None:
        self.child, self.data, self.agent_name = child, data, agent_name
        self._expected: list[str] = []

    @classmethod
    async def start(
        cls, server: Server, endpoint: str, directory: str, agent_name: str, **settings: str
    ) -> "Product":
        """Starts the binary and waits until the server has registered it."""
        binary = os.environ.get("E2E_PRODUCT_BIN")
        assert binary, "set E2E_PRODUCT_BIN to the built binary, see e2e/README.md"
        data = os.path.join(directory, "data")
        environment = plain_environment(
            **server.settings(),
            CALL_HISTORY_ENDPOINT=endpoint,
            CALL_HISTORY_AGENT_NAME=agent_name,
            CALL_HISTORY_DATA_DIR=data,
            CALL_HISTORY_HTTP_ADDR="127.0.0.1:0",
            # Scenarios share a server: a product looks for calls only where a scenario says so.
            CALL_HISTORY_DISCOVERY="dispatch",
            CALL_HISTORY_LOG_FORMAT="json",
            JWT_SECRET=JWT_SECRET,
        )
        child = await Child.start(
            os.path.abspath(binary), name="call-history", env=environment | settings, cwd=directory
        )
        product = cls(child, data, agent_name)
        product._again = (server, endpoint, directory, agent_name, settings)
        await product.logs(lambda line: line.message == "registered worker", timeout=20.0)
        return product

    async def dies(self) -> None:
        """Kills the process."""
        self.child.kill()
        await self.child.ended(5.0)

    async def another(self) -> "Product":
        """Starts a product with the same settings and data."""
        server, endpoint, directory, agent_name, settings = self._again
        return await Product.start(server, endpoint, directory, agent_name, **settings)

    async def logs(self, wanted, timeout: float) -> LogLine:
        """Waits for a log line."""
        return LogLine.parse(await self.child.line(lambda raw: wanted(LogLine.parse(raw)), timeout))

    @property
    def lines(self) -> list[LogLine]:
        return [LogLine.parse(raw) for raw in self.child.lines]

    def about(self, room: str) -> list[str]:
        """The log lines that name a room."""
        return [raw for raw in self.child.lines if room in raw]

    def expect_error(self, pattern: str) -> None:
        """Declares that the scenario expects ERROR lines which match `pattern`."""
        self._expected.append(pattern)

    def unexpected_errors(self) -> list[str]:
        return [
            line.raw
            for line in self.lines
            if line.level == "ERROR" and not any(re.search(p, line.raw) for p in self._expected)
        ]

    def stored_text(self) -> str:
        """Everything the product keeps on disk, names and contents."""
        found = []
        for folder, _, files in os.walk(self.data):
            for name in files:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    found.append(f"{path}\n{file.read().decode(errors='replace')}")
        return "\n".join(found)

    async def stop(self) -> int:
        return await self.child.stop(patience=15.0)
