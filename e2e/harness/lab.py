"""Everything the scenarios share: server, workers of voice agents, endpoint and product."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from .call import Call, Script
from .endpoint import Endpoint
from .process import Child, plain_environment
from .product import Product
from .receiver import Receiver
from .server import Server


class Lab:
    server: Server
    endpoint: Endpoint
    product: Product

    def __init__(self) -> None:
        self.home = str(Path(__file__).resolve().parent.parent)
        # Short: the path of a Unix socket may have 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="e2e-")
        self.numbers: set[str] = set()
        """Every phone number used, for the scenarios about logs."""
        self.said: set[str] = set()
        """Every sentence of every script, for the same scenarios."""
        self.rooms: dict[str, int] = {}
        """Every room, with the number of its calls."""
        self.figures: dict[str, str] = {}
        """What scenarios measured besides; printed at the end of the run."""
        self.products: list[Product] = []
        self._agents: list[Child] = []
        self._node_worker: asyncio.Future[Child] | None = None
        self._endpoints: list[Endpoint] = []
        self._servers: list[Server] = []
        self._receivers: list[Receiver] = []

    async def open(self) -> None:
        self.server = await Server.find(self.directory)
        self.endpoint = await self.new_endpoint()
        worker = asyncio.ensure_future(self.voice_agent(self.server.voice_agent))
        try:
            self.product = await self.new_product(self.endpoint)
        finally:
            # Even if the product does not start: otherwise `close` would not stop the worker.
            await worker

    async def new_endpoint(self) -> Endpoint:
        endpoint = Endpoint()
        await endpoint.start()
        self._endpoints.append(endpoint)
        return endpoint

    async def new_server(self, *options: str) -> Server:
        """A development server for one scenario, whatever server the others use."""
        server = await Server.start(self.directory, *options)
        self._servers.append(server)
        return server

    async def new_product(
        self, endpoint: Endpoint, suffix: str = "", *, server: Server | None = None, **settings: str
    ) -> Product:
        """Starts the product; a second one on a server needs a suffix to its agent name."""
        directory = tempfile.mkdtemp(prefix="product-", dir=self.directory)
        server = server or self.server
        name = server.observer + suffix
        product = await Product.start(server, endpoint.url, directory, name, **settings)
        self.products.append(product)
        return product

    async def new_receiver(self, server: Server, *, keys=True) -> Receiver:
        """Starts `call-history receive`; with the server's keys it takes uploads of agents."""
        directory = tempfile.mkdtemp(prefix="receiver-", dir=self.directory)
        receiver = await Receiver.start(server if keys else None, directory)
        self._receivers.append(receiver)
        return receiver

    async def voice_agent(
        self, name: str, *, server: Server | None = None, idle=4, **settings: str
    ) -> Child:
        """Starts a worker of Python voice agents, and waits until it is registered."""
        command = [sys.executable, "-m", "harness.agent_worker", "--name", name]
        return await self._worker(*command, "--idle", str(idle), server=server, **settings)

    async def node_agents(self) -> None:
        """Waits for the worker of Node voice agents; the first call starts it."""
        if self._node_worker is None:
            work = self.node_agent(self.server.node_agent)
            self._node_worker = asyncio.ensure_future(work)
        await asyncio.shield(self._node_worker)

    async def node_agent(
        self, name: str, *, server: Server | None = None, **settings: str
    ) -> Child:
        """Starts a worker of Node voice agents, and waits until it is registered."""
        installed = os.path.isdir(os.path.join(self.home, "node", "node_modules"))
        assert installed, "run `npm ci` in e2e/node, see e2e/README.md"
        command = ["node", os.path.join("node", "worker.js"), name]
        return await self._worker(*command, server=server, **settings)

    async def _worker(
        self, *command: str, server: Server | None = None, **settings: str
    ) -> Child:
        child = await Child.start(
            *command,
            name="voice agent",
            env=plain_environment(**(server or self.server).settings(), PYTHONUNBUFFERED="1")
            | settings,
            cwd=self.home,
        )
        self._agents.append(child)
        await child.line(lambda line: line == "registered", 60.0)
        return child

    def call(self, name: str, script: Script | None = None, **more) -> Call:
        return Call(self, name, script or Script(), **more)

    async def close(self) -> None:
        for number, product in enumerate(self.products):
            await product.stop()
            self._keep_log(f"product-{number}", product.child)
        for number, agent in enumerate(self._agents):
            await agent.stop(1.0)
            self._keep_log(f"agent-{number}", agent)
        for number, receiver in enumerate(self._receivers):
            await receiver.stop()
            self._keep_log(f"receiver-{number}", receiver.child)
        for endpoint in self._endpoints:
            await endpoint.stop()
        servers = [self.server] if hasattr(self, "server") else []
        for number, server in enumerate(servers + self._servers):
            await server.stop()
            if server.child:
                self._keep_log(f"server-{number}", server.child)
        if os.environ.get("E2E_KEEP"):
            print(f"kept: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _keep_log(self, name: str, child: Child) -> None:
        with open(os.path.join(self.directory, f"{name}.log"), "w") as log:
            log.write("\n".join(child.lines))
