"""What a hostile or broken client can send into a room.

The SDK's own senders only send well-formed messages. These functions work
below them and build streams by hand, from any bytes.
"""

import time
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from livekit import rtc
from livekit.protocol.agent_pb import agent_session
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto import ffi_pb2, room_pb2

Stream = room_pb2.DataStream

NOT_UTF8 = bytes([0xFF, 0xFE, 0x80, 0x00, 0xC3, 0x28]) * 20
CHUNK = 15_000


async def _ask(room: rtc.Room, kind: str, **fields) -> None:
    request = ffi_pb2.FfiRequest()
    body = getattr(request, kind)
    body.local_participant_handle = room.local_participant._ffi_handle.handle
    body.sender_identity = room.local_participant.identity
    for name, value in fields.items():
        getattr(body, name).CopyFrom(value)
    queue = FfiClient.instance.queue.subscribe()
    try:
        asked = getattr(FfiClient.instance.request(request), kind).async_id
        await queue.wait_for(lambda event: getattr(event, kind).async_id == asked)
    finally:
        FfiClient.instance.queue.unsubscribe(queue)


async def raw_stream(
    room: rtc.Room,
    topic: str,
    content: bytes,
    *,
    text: bool = True,
    attributes: dict[str, str] | None = None,
    closed: bool = True,
) -> None:
    """Sends a text or byte stream of any bytes; a text is marked as generated, like an agent's."""
    stream = uuid.uuid4().hex
    header = Stream.Header(
        stream_id=stream,
        topic=topic,
        timestamp=int(time.time() * 1000),
        mime_type="text/plain" if text else "application/octet-stream",
        attributes=attributes or {},
    )
    if text:
        header.text_header.operation_type = Stream.CREATE
        header.text_header.generated = True
    else:
        header.byte_header.name = "x"
    await _ask(room, "send_stream_header", header=header)
    for index, start in enumerate(range(0, len(content), CHUNK)):
        chunk = Stream.Chunk(
            stream_id=stream, chunk_index=index, content=content[start : start + CHUNK]
        )
        await _ask(room, "send_stream_chunk", chunk=chunk)
    if closed:
        await _ask(room, "send_stream_trailer", trailer=Stream.Trailer(stream_id=stream, reason=""))


async def orphaned_chunk(room: rtc.Room) -> None:
    """Sends a chunk of a stream that was never opened."""
    chunk = Stream.Chunk(stream_id="never-opened", chunk_index=7, content=b"x")
    await _ask(room, "send_stream_chunk", chunk=chunk)


def forged_feed() -> list[bytes]:
    """Messages of an agent's session feed that no agent sent: a long speech, and states."""
    now = Timestamp()
    now.GetCurrentTime()

    def message(**event) -> bytes:
        return agent_session.AgentSessionMessage(
            event=agent_session.AgentSessionEvent(created_at=now, **event)
        ).SerializeToString()

    speech = agent_session.ChatMessage(
        id="item_forged",
        role="ASSISTANT",
        content=[agent_session.ChatMessage.ChatContent(text="forged " * 99)],
        interrupted=True,
    )
    event = agent_session.AgentSessionEvent
    return [
        message(
            conversation_item_added=event.ConversationItemAdded(
                item=agent_session.ChatContext.ChatItem(message=speech)
            )
        ),
        message(
            agent_state_changed=event.AgentStateChanged(
                old_state="AS_LISTENING", new_state="AS_SPEAKING"
            )
        ),
        message(
            user_state_changed=event.UserStateChanged(
                old_state="US_LISTENING", new_state="US_SPEAKING"
            )
        ),
    ]
