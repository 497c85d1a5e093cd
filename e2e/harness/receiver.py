"""`call-history receive` beside the others: the endpoint of a product, and the collector of agents."""

import asyncio
import io
import json
import os

import aiohttp
import av
import numpy

from .process import Child, plain_environment
from .product import JWT_SECRET, LogLine
from .server import Server


class Receiver:
    def __init__(self, child: Child, data: str, base: str) -> None:
        self.child, self.data, self.base = child, data, base

    @classmethod
    async def start(cls, server: Server | None, directory: str) -> "Receiver":
        """Starts the binary. With a server it takes uploads of that server's agents."""
        binary = os.environ.get("E2E_PRODUCT_BIN")
        assert binary, "set E2E_PRODUCT_BIN to the built binary, see e2e/README.md"
        data = os.path.join(directory, "receiver")
        os.makedirs(data)
        keys = {}
        if server:
            keys = {"LIVEKIT_API_KEY": server.key, "LIVEKIT_API_SECRET": server.secret}
        environment = keys | plain_environment(
            CALL_HISTORY_RECEIVE_ADDR="127.0.0.1:0",
            CALL_HISTORY_RECEIVE_DATA_DIR=data,
            CALL_HISTORY_LOG_FORMAT="json",
            CALL_HISTORY_LOG_LEVEL="debug",
            JWT_SECRET=JWT_SECRET,
        )
        child = await Child.start(
            os.path.abspath(binary), "receive", name="receiver", env=environment, cwd=directory
        )
        started = await child.line(lambda line: '"receiver started"' in line, 20.0)
        return cls(child, data, f"http://{LogLine.parse(started).fields['addr']}")

    @property
    def url(self) -> str:
        """Where a product posts its records."""
        return f"{self.base}/call-history"

    async def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as client:
            async with client.get(self.base + path, headers=headers) as answer:
                return answer.status, await answer.read()

    async def json(self, path: str):
        status, body = await self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    async def until(self, path: str, right, timeout: float = 60.0):
        """The answer, once it is as it should be."""
        answer = None
        try:
            async with asyncio.timeout(timeout):
                while not right(answer := await self.json(path)):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{path}: {json.dumps(answer)[:3000]}") from None
        return answer

    async def record(self, room: str) -> dict:
        calls = await self.until(f"/api/calls?room_name={room}", lambda answer: answer["calls"])
        return await self.json(f"/api/calls/{calls['calls'][0]['call_id']}")

    async def stop(self) -> None:
        await self.child.stop(10.0)


class Sound:
    """A recording, decoded: who is loud when."""

    def __init__(self, ogg: bytes) -> None:
        with av.open(io.BytesIO(ogg)) as container:
            frames = list(container.decode(audio=0))
        self.rate = frames[0].sample_rate
        parts = [av.AudioResampler("fltp", "stereo", self.rate).resample(f)[0] for f in frames]
        self.samples = numpy.concatenate([part.to_ndarray() for part in parts], axis=1)

    def loudest(self, side: str, first: float, last: float, window: float = 0.1) -> float:
        """The loudest moment of the caller's or the agent's channel between two positions."""
        channel = self.samples[0 if side == "user" else 1]
        part = channel[max(0, int(first * self.rate)) : max(0, int(last * self.rate))]
        width = int(window * self.rate)
        windows = [part[at : at + width] for at in range(0, len(part) - width + 1, width)]
        return max((float(numpy.sqrt(numpy.mean(w**2))) for w in windows), default=0.0)
