"""One scenario's call: its room, its script, its actors, its truth and its record."""

import asyncio
import contextlib
import json
import os
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta

from livekit import api

from . import expect
from .browser import Browser
from .caller import Caller
from .process import Child, plain_environment
from .record import check_form, check_request
from .truth import Truth


@dataclass
class Script:
    """What the voice agent of a call knows; it travels as dispatch metadata."""

    lines: list[str] = field(default_factory=list)
    """What the caller can say, by number."""
    replies: dict[str, str] = field(default_factory=dict)
    """The agent's answer to each line."""
    greeting: str | None = None
    """Said when a caller is there; a phone call must be active first."""
    greet_after: float = 0.3
    """Seconds from when the caller is there to the greeting."""
    cues: dict[str, list[dict]] = field(default_factory=dict)
    """What the agent publishes: keys `ready`, `greeting`, or a text that was said."""
    close_on_disconnect: bool = True
    """The session's own option: end when the caller leaves."""
    feed: bool = True
    """Whether the session publishes its feed on `lk.agent.session`; Node always does."""
    speech_to_speech: bool = False
    """One model hears and speaks; a Python agent only."""
    transcribes: bool = True
    """Whether that model also transcribes its caller."""
    recorded: bool = False
    """Whether the agent records its session, and uploads it where its environment says."""
    socket: str = ""


def conversation(greeting: str | None, *turns: tuple[str, str], **more) -> Script:
    """A greeting, then lines of the caller with the agent's answers."""
    return Script(lines=[line for line, _ in turns], replies=dict(turns), greeting=greeting, **more)


class Call:
    """Use as `async with lab.call("name", script) as call:`; `agent` is "python" or "node", which are
    dispatched, or "bot", which the scenario starts itself (`bot_in` in `bot.py`)."""

    def __init__(
        self,
        lab,
        name: str,
        script: Script,
        *,
        agent="python",
        product=None,
        endpoint=None,
        server=None,
    ) -> None:
        self.lab, self.server = lab, server or lab.server
        self.product, self.endpoint = product or lab.product, endpoint or lab.endpoint
        mark = uuid.uuid4().hex[:6]
        self.room = f"{name}-{mark}"
        self.script = script
        self.script.socket = os.path.join(lab.directory, f"{mark}.sock")
        self.truth = Truth()
        self.by_node = agent == "node"
        self.voice_agent = {
            "python": self.server.voice_agent,
            "node": self.server.node_agent,
            "bot": None,
        }[agent]
        self.departure_timeout = 0
        """Seconds; 0 leaves it to the server."""
        self.observed_from_the_start = True
        self._callers: list[Caller | Browser] = []
        self._children: list[Child] = []
        self.body: dict | None = None
        lab.rooms[self.room] = 1
        for text in [*script.lines, *script.replies.values(), script.greeting or ""]:
            lab.said.add(text)

    async def __aenter__(self) -> "Call":
        if self.by_node and self.server is self.lab.server:
            await self.lab.node_agents()
        await self.truth.listen(self.script.socket)
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        if error is not None:
            error.add_note(self.failure_notes())
        for caller in self._callers:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(caller.leaves(), 10)
        for child in self._children:
            await child.stop(1.0)
        with contextlib.suppress(Exception):
            await self.delete_room()
        await self.truth.close()

    # ---- Room and dispatch

    def agents(self) -> list[api.RoomAgentDispatch]:
        """The two dispatches of every call: the voice agent with its script, and the product."""
        script = json.dumps(asdict(self.script))
        agents = []
        if self.voice_agent is not None:
            agents.append(api.RoomAgentDispatch(agent_name=self.voice_agent, metadata=script))
        if self.observed_from_the_start:
            agents.append(api.RoomAgentDispatch(agent_name=self.product.agent_name))
        return agents

    async def dispatch_agent(self, greeting: str | None = None) -> None:
        """Dispatches one more voice agent, with the same script except for the greeting."""
        script = replace(self.script, greeting=greeting)
        async with self.server.api() as livekit:
            await livekit.agent_dispatch.create_dispatch(
                api.CreateAgentDispatchRequest(
                    agent_name=self.voice_agent,
                    room=self.room,
                    metadata=json.dumps(asdict(script)),
                )
            )

    async def dispatch_observer(self) -> None:
        """Dispatches the product to the room by the API."""
        async with self.server.api() as livekit:
            await livekit.agent_dispatch.create_dispatch(
                api.CreateAgentDispatchRequest(agent_name=self.product.agent_name, room=self.room)
            )

    def token(self, identity: str, *, kind: str, attributes: dict[str, str], name: str) -> str:
        """A caller's token; the first one that is used dispatches the agents to the room."""
        return (
            api.AccessToken(self.server.key, self.server.secret)
            .with_identity(identity)
            .with_name(name)
            .with_kind(kind)
            .with_attributes(attributes)
            .with_ttl(timedelta(hours=1))
            .with_grants(
                api.VideoGrants(room_join=True, room=self.room, can_update_own_metadata=True)
            )
            .with_room_config(
                api.RoomConfiguration(
                    agents=self.agents(), departure_timeout=self.departure_timeout
                )
            )
            .to_jwt()
        )

    async def create_room(self, metadata: str = "") -> None:
        """Creates the room first, as for outbound calls; the agents join at once."""
        async with self.server.api() as livekit:
            await livekit.room.create_room(
                api.CreateRoomRequest(
                    name=self.room,
                    metadata=metadata,
                    agents=self.agents(),
                    departure_timeout=self.departure_timeout,
                )
            )

    async def delete_room(self) -> None:
        async with self.server.api() as livekit:
            await livekit.room.delete_room(api.DeleteRoomRequest(room=self.room))

    async def room_exists(self) -> bool:
        async with self.server.api() as livekit:
            listed = await livekit.room.list_rooms(api.ListRoomsRequest(names=[self.room]))
        return bool(listed.rooms)

    async def remove(self, identity: str) -> None:
        """Removes a participant, as an operator can."""
        async with self.server.api() as livekit:
            await livekit.room.remove_participant(
                api.RoomParticipantIdentity(room=self.room, identity=identity)
            )

    async def participants(self) -> list[api.ParticipantInfo]:
        """All participants that the server's API lists, including the hidden ones."""
        async with self.server.api() as livekit:
            listed = await livekit.room.list_participants(
                api.ListParticipantsRequest(room=self.room)
            )
        return list(listed.participants)

    async def observed(self, timeout: float = 10.0) -> None:
        """Waits until the product is in the room."""
        until = time.time() + timeout
        while time.time() < until:
            with contextlib.suppress(api.TwirpError):
                if any(p.permission.hidden for p in await self.participants()):
                    self.truth.add("observer", "in_the_room")
                    return
            await asyncio.sleep(0.2)
        raise AssertionError(f"no observer in the room after {timeout} s")

    # ---- Callers

    def _caller(self, token: str, who: str) -> Caller:
        def report(what: str, at: float | None = None, **facts) -> None:
            self.truth.add(who, what, at, **facts)

        caller = Caller(self.server.url, token, self.script.lines, report)
        self._callers.append(caller)
        return caller

    def phone_token(self, number: str, *, inbound: bool, status: str) -> str:
        self.lab.numbers.add(number)
        attributes = {
            "sip.callID": f"SCL_{uuid.uuid4().hex[:12]}",
            "sip.callIDFull": uuid.uuid4().hex,
            "sip.trunkID": "ST_e2e",
            "sip.phoneNumber": number,
            "sip.trunkPhoneNumber": "+15550109999",
            "sip.hostname": "sip.example.org",
            "sip.callStatus": status,
        }
        if inbound:
            attributes["sip.ruleID"] = "SDR_e2e"
        return self.token(
            f"sip_{number}", kind="sip", attributes=attributes, name=f"Phone {number[-4:]}"
        )

    def phone(
        self, number: str, *, inbound: bool = True, status: str = "ringing", who: str = "caller"
    ) -> Caller:
        """A telephone, as the SIP bridge brings it into the room."""
        if inbound and status == "active":
            self.truth.add(who, "comes_answered")
        return self._caller(self.phone_token(number, inbound=inbound, status=status), who)

    def page(self, identity: str, *, who: str = "caller") -> Caller:
        """A caller on a web page or in an app."""
        token = self.token(identity, kind="standard", attributes={}, name="")
        return self._caller(token, who)

    def browser(self, identity: str, *script: tuple[float, int | None]) -> Browser:
        """A caller in Chromium. It says lines of the script, each after a pause in seconds; `None`
        instead of a line is a noise."""

        def report(what: str, at: float | None = None, **facts) -> None:
            self.truth.add("caller", what, at, **facts)

        token = self.token(identity, kind="standard", attributes={}, name="")
        browser = Browser(self.server.url, token, self.script.lines, list(script), report)
        self._callers.append(browser)
        return browser

    async def phone_process(self, number: str, *, status: str) -> Child:
        """A telephone in a process that can be killed. It receives orders over the line."""
        child = await Child.start(
            sys.executable,
            "-m",
            "harness.caller_process",
            self.server.url,
            self.script.socket,
            name="caller",
            env=plain_environment(
                CALLER_TOKEN=self.phone_token(number, inbound=True, status=status),
                CALLER_LINES=json.dumps(self.script.lines),
            ),
            cwd=self.lab.home,
        )
        self.ends_with_it(child)
        return child

    def ends_with_it(self, child: Child) -> None:
        """Has the call stop a process when it is over."""
        self._children.append(child)

    # ---- The agent

    async def agent_ready(self, timeout: float = 20.0) -> None:
        await self.truth.wait("agent", "ready", timeout=timeout)

    def agent(self, do: str, **how) -> None:
        """An order to the voice agent."""
        self.truth.order("agent", do, **how)

    async def agent_publishes(self, **action) -> None:
        """Orders the agent to publish something, and waits until it did."""
        asked = time.time()
        self.agent("publish", action=action)
        await self.truth.wait("agent", "published", after=asked - 0.001, action=action)

    # ---- The record

    async def record(self, timeout: float = 45.0, number: int = 0) -> dict:
        """The posted record, after its form and signature were checked; `number` is that of the
        call in the room."""
        post = (await self.endpoint.wait(self.room, number + 1, timeout=timeout))[number]
        self.truth.add("endpoint", "posted", post.t)
        self.body = json.loads(post.body)
        record = check_form(post.body)
        check_request(post, record)
        return record

    async def nothing_is_posted(self, seconds: float) -> None:
        """Waits, and fails as soon as something about this room is posted."""
        until = time.time() + seconds
        while time.time() < until:
            posts = self.endpoint.of(self.room)
            assert not posts, f"posted: {posts[0].body.decode()}"
            await asyncio.sleep(0.1)

    def failure_notes(self) -> str:
        """Everything that is known about a call that failed."""
        logs = "\n".join(self.product.about(self.room)[-60:])
        record = json.dumps(self.body, indent=1) if self.body else "(none)"
        return (
            f"--- what happened in {self.room}\n{self.truth.story()}\n"
            f"--- what was posted\n{record}\n--- what the product logged about it\n{logs}"
        )

    def expected(self, **fields) -> dict:
        """The expected record: defaults from the truth, replaced by `fields`."""
        start = fields.get("start_time") or expect.joined(self.truth)
        end = fields.get("end_time") or expect.left(self.truth)
        due = {
            "call_id": self.body["call_id"],
            "phone_number": "unknown",
            "room_name": self.room,
            "call_type": "inbound",
            "start_time": start,
            "end_time": end,
            "duration_seconds": expect.Near(
                max(0.0, end.low - start.high), max(0.0, end.high - start.low)
            ),
            "status": "completed",
            "termination_reason": None,
            "agent_config": expect.config(),
            "metrics": None,
            "outcomes": expect.outcomes(),
            "stage_timeline": [],
        } | fields
        return due
