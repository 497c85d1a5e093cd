"""The receiver as the collector of agents: their recordings, traces and reports stand beside the record.

Agents get `LIVEKIT_OBSERVABILITY_URL` and record their session; nothing else of them is changed.
"""

import asyncio
import datetime
import os

from harness.call import Call, conversation
from harness.receiver import Receiver, Sound

LINES = (
    ("hello I would like a table", "sure for how many people and when"),
    ("for six people on Sunday please", "and at what time please my dear"),
    ("at eight o'clock in the evening", "it is booked and good bye"),
)


def seconds(since: str, to: str) -> float:
    parse = datetime.datetime.fromisoformat
    return (parse(to) - parse(since)).total_seconds()


async def three_turns(call: Call, number: str) -> None:
    call.departure_timeout = 2
    phone = call.phone(number, status="active")
    await phone.join()
    await call.agent_ready()
    quiet = await phone.hears_out()
    for line in range(3):
        await phone.speaks(line)
        quiet = await phone.hears_out(after=quiet)
    await phone.hangs_up()


async def collecting(lab, agent: str):
    """A server, a receiver, a product that posts there, and a worker of agents that upload there."""
    server = await lab.new_server()
    receiver = await lab.new_receiver(server)
    details = {"CALL_HISTORY_DETAILS": "true", "CALL_HISTORY_TRANSCRIPT": "true"}
    product = await lab.new_product(receiver, suffix=f"-collects-{agent}", server=server, **details)
    uploads = {"LIVEKIT_OBSERVABILITY_URL": f"{receiver.base}/some/base/"}
    if agent == "node":
        await lab.node_agent(server.node_agent, server=server, **uploads)
    else:
        await lab.voice_agent("", server=server, idle=1, **uploads)
    return server, receiver, product


async def check_recording(receiver: Receiver, record: dict, uploads: dict) -> None:
    """Who speaks by the record is heard at that place of the recording, in its own channel."""
    described = uploads["recordings"][0]
    status, ogg = await receiver.get(described["href"])
    assert (status, len(ogg), ogg[:4]) == (200, described["bytes"], b"OggS")
    status, part = await receiver.get(described["href"], Range="bytes=100-199")
    assert (status, part) == (206, ogg[100:200])
    # One machine, one clock.
    assert described["clock_offset_moments"] >= 3, described
    assert abs(described["clock_offset_seconds"]) < 0.3, described

    sound = Sound(ogg)
    start, shift = record["start_time"], described["call_starts_at_seconds"]

    def place(span: dict) -> tuple[float, float]:
        return seconds(start, span["from"]) + shift, seconds(start, span["to"]) + shift

    speech = record["details"]["timeline"]["speech"]
    assert {span["by"] for span in speech} == {"user", "agent"}
    for span in speech:
        first, last = place(span)
        assert sound.loudest(span["by"], first, last) > 0.01, f"nothing is heard of {span}"
    # And nothing between: it lies where it should.
    agent = sorted(place(span) for span in speech if span["by"] == "agent")
    for (_, last), (first, _) in zip(agent, agent[1:]):
        loudest = sound.loudest("agent", last + 0.3, first - 0.3)
        assert loudest < 0.01, f"the agent is heard between {last} and {first}: {loudest}"


async def stands_on_the_page(lab, agent: str) -> None:
    server, receiver, product = await collecting(lab, agent)
    script = conversation("welcome to the recorded restaurant", *LINES, recorded=True)
    about = dict(agent=agent, server=server, product=product, endpoint=lab.endpoint)
    async with lab.call(f"collected-{agent}", script, **about) as call:
        await three_turns(call, "+15550123491" if agent == "python" else "+15550123492")
        record = await receiver.record(call.room)
        path = f"/api/calls/{record['call_id']}"
        # Node loses what it traced in its last seconds.
        turns = 3 if agent == "python" else 2

        def complete(uploads: dict) -> bool:
            waits = [t["wait"] for job in uploads["jobs"] for t in job["turns"] if t["wait"]]
            return bool(uploads["recordings"]) and len(waits) >= turns

        uploads = await receiver.until(f"{path}/uploads", complete)
        (job,) = uploads["jobs"]
        assert f"agent-{job['job_id']}" in [p["identity"] for p in record["details"]["participants"]]
        report = await receiver.until(
            f"{path}/uploads", lambda uploads: (uploads["jobs"][0]["report"] or {}).get("sdk_version")
        )
        assert report["jobs"][0]["items"], "the conversation"
        answers = [turn for turn in job["turns"] if turn["wait"]]
        for turn in answers:
            kinds = {part["kind"] for part in turn["parts"]}
            assert {"transcript", "end_of_turn", "model", "voice"} <= kinds, turn
            assert 0.1 < turn["wait"] < 10.0, turn
            assert all(-0.5 < part["from"] <= part["to"] < 10.0 for part in turn["parts"]), turn
        await check_recording(receiver, record, uploads)

        status, page = await receiver.get(f"/calls/{record['call_id']}")
        page = page.decode()
        assert status == 200
        assert '<audio controls' in page and f'{path}/recordings/0"' in page
        assert page.count('class="parts waterfall"') >= turns
        # Neither words nor numbers in the log.
        log = "\n".join(receiver.child.lines)
        assert "table" not in log and "1555012349" not in log


async def test_what_a_python_agent_uploads_stands_on_the_page_of_its_call(lab):
    await stands_on_the_page(lab, "python")


async def test_what_a_node_agent_uploads_stands_on_the_page_of_its_call(lab):
    await stands_on_the_page(lab, "node")


async def is_sent_again(lab, agent: str) -> None:
    server, receiver, product = await collecting(lab, agent)
    folder = os.path.join(receiver.data, "recordings")
    with open(folder, "w") as file:
        file.write("no folder can be made here")
    script = conversation("welcome to the full disk", *LINES, recorded=True)
    about = dict(agent=agent, server=server, product=product, endpoint=lab.endpoint)
    async with lab.call(f"full-disk-{agent}", script, **about) as call:
        await three_turns(call, "+15550123493" if agent == "python" else "+15550123494")
        await receiver.child.line(lambda line: "an upload of an agent cannot be kept now" in line, 60.0)
        os.remove(folder)
        record = await receiver.record(call.room)
        path = f"/api/calls/{record['call_id']}/uploads"
        await receiver.until(path, lambda uploads: uploads["recordings"])


async def test_a_python_agent_sends_a_recording_again_that_could_not_be_kept(lab):
    await is_sent_again(lab, "python")


async def test_a_node_agent_sends_a_recording_again_that_could_not_be_kept(lab):
    await is_sent_again(lab, "node")


async def test_an_agent_of_a_receiver_without_a_key_is_told_to_upload_nothing(lab):
    server = await lab.new_server()
    receiver = await lab.new_receiver(server, keys=False)
    product = await lab.new_product(receiver, suffix="-collects-not", server=server)
    worker = await lab.voice_agent(
        "", server=server, idle=1, LIVEKIT_OBSERVABILITY_URL=receiver.base
    )
    script = conversation("welcome to the quiet restaurant", *LINES, recorded=True)
    about = dict(server=server, product=product, endpoint=lab.endpoint)
    async with lab.call("not-collected", script, **about) as call:
        await three_turns(call, "+15550123495")
        record = await receiver.record(call.room)
        async with asyncio.timeout(30.0):
            while await call.room_exists():
                await asyncio.sleep(0.1)
        assert await receiver.json(f"/api/calls/{record['call_id']}/uploads") == {
            "jobs": [],
            "recordings": [],
        }
        assert any("disabled" in line for line in worker.lines), "the agent says that it stops"
