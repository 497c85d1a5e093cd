"""Publishes to call-history what only the voice agent knows about its call.

Copy this file beside your agent; it needs nothing but LiveKit's own packages.

    import call_history

    await call_history.config(stt="deepgram", llm="gpt-4o", business_type="restaurant")
    await call_history.stage("greeting")
    await call_history.outcomes(fields_collected=["name", "time"], successful=True)
    await call_history.end(status="completed", termination_reason="transferred")

Each function sends one text stream on the topic `call-history` to the room of the running job, or
to `room=`. Values that are None are not sent. For each key, the value that was sent last counts.

These functions never disturb a call: a message that cannot be sent within `TIMEOUT` is dropped, and
a line without its values is logged by the logger `call_history`. Only a wrong argument raises a
TypeError or ValueError, and then nothing is sent.

The room must still be connected. In a job's shutdown callbacks it no longer is.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from livekit import rtc

TOPIC = "call-history"
TIMEOUT = 2.0
"""Seconds to wait for a message to be sent."""

_log = logging.getLogger("call_history")


async def stage(name: str, *, room: rtc.Room | None = None) -> None:
    """The call enters a stage. Repeating the current stage has no effect."""
    _need(isinstance(name, str), "name must be a str")
    if not name:
        raise ValueError("name must not be empty")
    await _publish("stage", {"stage": name}, room)


async def outcomes(
    completion_rate: float | None = None,
    fields_collected: Sequence[str] | None = None,
    final_stage: str | None = None,
    successful: bool | None = None,
    notes: str | None = None,
    *,
    room: rtc.Room | None = None,
) -> None:
    """The outcomes of the call. `completion_rate` is 0 to 1. `fields_collected` is the whole list,
    not only the new fields. `final_stage` is only needed if it is not the last stage."""
    if completion_rate is not None:
        number = isinstance(completion_rate, (int, float)) and not isinstance(completion_rate, bool)
        _need(number, "completion_rate must be a number")
        if not 0 <= completion_rate <= 1:
            raise ValueError("completion_rate must be 0 to 1")
    if fields_collected is not None:
        several = isinstance(fields_collected, Sequence) and not isinstance(fields_collected, str)
        _need(
            several and all(isinstance(field, str) for field in fields_collected),
            "fields_collected must be a list of str",
        )
        fields_collected = list(fields_collected)
    _need(successful is None or isinstance(successful, bool), "successful must be a bool")
    texts = _texts(final_stage=final_stage, notes=notes)
    values = {"completion_rate": completion_rate, "fields_collected": fields_collected}
    await _publish("outcomes", values | {"successful": successful} | texts, room)


async def config(
    stt: str | None = None,
    llm: str | None = None,
    tts: str | None = None,
    business_type: str | None = None,
    language: str | None = None,
    *,
    room: rtc.Room | None = None,
) -> None:
    """How the agent is configured."""
    keys = _texts(stt_config_key=stt, llm_config_key=llm, tts_config_key=tts)
    keys |= _texts(business_type=business_type, language=language)
    await _publish("agent_config", keys, room)


async def end(
    status: Literal["completed", "failed", "dropped"] | None = None,
    termination_reason: str | None = None,
    *,
    room: rtc.Room | None = None,
) -> None:
    """How the call ends; this overrides what was observed. Without a status it is "completed"."""
    values = _texts(status=status, termination_reason=termination_reason)
    if status not in (None, "completed", "failed", "dropped"):
        raise ValueError('status must be "completed", "failed" or "dropped"')
    await _publish("end", values, room)


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise TypeError(message)


def _texts(**values: str | None) -> dict[str, str | None]:
    for name, value in values.items():
        _need(value is None or isinstance(value, str), f"{name} must be a str")
    return values


async def _publish(kind: str, values: dict[str, Any], room: rtc.Room | None) -> None:
    values = {key: value for key, value in values.items() if value is not None}
    if not values and kind != "end":
        return
    try:
        if room is None:
            from livekit.agents import get_job_context

            room = get_job_context().room
        text = json.dumps({"type": kind, **values}, ensure_ascii=False)
        await asyncio.wait_for(room.local_participant.send_text(text, topic=TOPIC), TIMEOUT)
    except Exception as error:
        # Without the error's text, which may quote the message.
        _log.warning("%s was not published: %s", kind, type(error).__name__)
