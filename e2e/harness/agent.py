"""The voice agent: a real `AgentSession` with fake models, as a job of a real worker.

Its script is in the job's metadata, see `Script` in `call.py`. It reports what
it does over the line, and receives orders over the line.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, room_io

from . import mischief
from .fakes import EnergyVad, ScriptedLlm, ScriptedStt, ToneTts
from .realtime import ScriptedRealtime
from .wire import Line

# The module that authors copy beside their agents.
sys.path.append(str(Path(__file__).resolve().parents[2] / "integrations/python"))
import call_history  # noqa: E402

STAGE_TOPIC = "call-history"


async def publish(room: rtc.Room, line: Line, action: dict) -> None:
    """Publishes something for an observer, in the way that `action` names, and reports when."""
    me = room.local_participant
    began = time.time()
    if (message := action.get("text")) is not None:
        text = message if isinstance(message, str) else json.dumps(message)
        await me.send_text(text, topic=action.get("topic", STAGE_TOPIC))
    elif (message := action.get("packet")) is not None:
        await me.publish_data(json.dumps(message), topic=action.get("topic", STAGE_TOPIC))
    elif (function := action.get("module")) is not None:
        try:
            args = action.get("args", {})
            args = {"name": args} if isinstance(args, str) else args
            await getattr(call_history, function)(**args)
        except (TypeError, ValueError) as error:
            line.report("refused", action=action, error=type(error).__name__)
            return
    elif (kind := action.get("mischief")) is not None:
        content = {"not_utf8": mischief.NOT_UTF8, "huge": b'{"type":"' + b"x" * 100_000}[kind]
        await me.publish_data(content[:14_000], topic=action["topic"])
        for text in (True, False):
            await mischief.raw_stream(room, action["topic"], content, text=text)
    elif (attributes := action.get("attributes")) is not None:
        await me.set_attributes(
            {k: v if isinstance(v, str) else json.dumps(v) for k, v in attributes.items()}
        )
    elif (legacy := action.get("legacy_transcription")) is not None:
        segment = rtc.TranscriptionSegment(
            id="SG_legacy", text=legacy["text"], start_time=0, end_time=0, language="", final=True
        )
        await me.publish_transcription(
            rtc.Transcription(legacy["identity"], legacy["track"], [segment])
        )
    else:
        raise ValueError(f"unknown action {action}")
    line.report("published", began, action=action, done=time.time())


def report_session(session: AgentSession, line: Line, spoke) -> None:
    """Reports the session's events to the scenario."""

    @session.on("agent_state_changed")
    def _(event) -> None:
        line.report("state", event.created_at, old=event.old_state, new=event.new_state)

    @session.on("user_state_changed")
    def _(event) -> None:
        line.report("user_state", event.created_at, old=event.old_state, new=event.new_state)

    @session.on("agent_false_interruption")
    def _(event) -> None:
        line.report("false_interruption", event.created_at, resumed=event.resumed)

    @session.on("conversation_item_added")
    def _(event) -> None:
        item = event.item
        if item.type != "message" or not (text := (item.text_content or "").strip()):
            return
        line.report(
            "item",
            event.created_at,
            role=item.role,
            text=text,
            interrupted=item.interrupted,
            **{
                key: value
                for key, value in dict(item.metrics).items()
                if isinstance(value, int | float)
            },
        )
        spoke(text)

    @session.on("close")
    def _(event) -> None:
        line.report("session_closed", reason=event.reason.value)


def report_playback(session: AgentSession, line: Line) -> None:
    """Reports when the agent's sound is really played into the room."""
    output = session.output.audio

    @output.on("playback_started")
    def _(event) -> None:
        line.report("playback_started", event.created_at)

    @output.on("playback_finished")
    def _(event) -> None:
        line.report(
            "playback_finished", position=event.playback_position, interrupted=event.interrupted
        )


async def caller_on_the_phone(context: JobContext) -> None:
    """Returns when a caller can be spoken to: a phone call must be answered first."""
    caller = await context.wait_for_participant()
    if caller.kind != rtc.ParticipantKind.PARTICIPANT_KIND_SIP:
        return
    answered = asyncio.Event()

    def look(*_) -> None:
        if caller.attributes.get("sip.callStatus") == "active":
            answered.set()

    context.room.on("participant_attributes_changed", look)
    look()
    await answered.wait()


def session_of(script: dict) -> AgentSession:
    """The session with the models that the script names."""
    if script["speech_to_speech"]:
        model = ScriptedRealtime(
            script["lines"], script["replies"], transcribes=script["transcribes"]
        )
        # Without a voice detector: the model alone decides about turns.
        return AgentSession(vad=None, llm=model, turn_handling={"turn_detection": "realtime_llm"})
    return AgentSession(
        vad=EnergyVad(),
        stt=ScriptedStt(script["lines"]),
        llm=ScriptedLlm(script["replies"]),
        tts=ToneTts(),
        turn_handling={"turn_detection": "vad", "interruption": {"mode": "vad"}},
    )


def say(session: AgentSession, text: str) -> None:
    """Has the agent say a text. A model that speaks itself has no voice to read it: it is asked to."""
    if isinstance(session.llm, ScriptedRealtime):
        session.generate_reply(instructions=text)
    else:
        session.say(text)


async def job(context: JobContext) -> None:
    script = json.loads(context.job.metadata)
    line = await Line.connect(script["socket"], "agent")
    await context.connect()
    line.report("joined", identity=context.room.local_participant.identity, pid=os.getpid())

    session = session_of(script)
    cues: dict[str, list[dict]] = script["cues"]
    tasks: set[asyncio.Task] = set()

    def background(work) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def play(actions: list[dict]) -> None:
        for action in actions:
            await publish(context.room, line, action)

    report_session(session, line, lambda text: background(play(cues.get(text, []))))
    await session.start(
        Agent(instructions=""),
        room=context.room,
        room_options=room_io.RoomOptions(close_on_disconnect=script["close_on_disconnect"]),
        record=script["recorded"],
        session_host=script["feed"],
    )
    report_playback(session, line)
    await play(cues.get("ready", []))
    line.report("ready")

    async def greet() -> None:
        # Raises when the room closes before a caller joins.
        with contextlib.suppress(RuntimeError):
            await caller_on_the_phone(context)
            await welcome()

    async def welcome() -> None:
        if script["greeting"]:
            await asyncio.sleep(script["greet_after"])
            line.report("say", text=script["greeting"])
            say(session, script["greeting"])
            await play(cues.get("greeting", []))

    async def obey() -> None:
        with contextlib.suppress(ConnectionError):
            async for order in line.orders():
                match order["do"]:
                    case "say":
                        say(session, order["text"])
                    case "serve":
                        session.room_io.set_participant(order["identity"])
                    case "publish":
                        background(publish(context.room, line, order["action"]))
                    case "delete_room":
                        line.report("deletes_room")
                        await context.delete_room()
                    case "leave":
                        line.report("leaves")
                        await session.aclose()
                        await context.room.disconnect()
        # The scenario is over.
        context.shutdown()

    background(greet())
    background(obey())
