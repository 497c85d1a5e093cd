"""A record beside the truth of its call."""

from datetime import datetime
from itertools import pairwise

AT_THE_EDGES, OF_AN_ANSWER, OF_A_STAGE = 0.5, 0.3, 0.3
"""Seconds by which a time may differ: start and end of the call, the mean of the answers, a stage. A busy machine may
be late by this much; a wrong rule is off by more."""


def differences(record: dict, truth: dict, notes: bool = False) -> list[str]:
    """What a record says otherwise than the truth. `notes`: a note is allowed, as after a restart."""
    wrong: list[str] = []
    metrics, outcomes = record["metrics"], record["outcomes"]
    user = [line for line in truth["lines"] if not line["by_agent"]]
    agent = [line for line in truth["lines"] if line["by_agent"]]
    talked = bool(truth["lines"])
    exact = {
        "phone_number": (record["phone_number"], truth["phone_number"]),
        "call_type": (record["call_type"], truth["call_type"]),
        "status": (record["status"], truth["status"]),
        "termination_reason": (record["termination_reason"], truth["termination_reason"]),
        "business_type": (record["agent_config"]["business_type"], "restaurant" if talked else None),
        "llm_config_key": (record["agent_config"]["llm_config_key"], "openai-gpt4" if talked else None),
        "total_user_utterances": (metrics["total_user_utterances"], len(user)),
        "total_agent_utterances": (metrics["total_agent_utterances"], len(agent)),
        "longest_user_utterance": (metrics["longest_user_utterance"], longest(user)),
        "longest_agent_utterance": (metrics["longest_agent_utterance"], longest(agent)),
        "interruption_count": (metrics["interruption_count"], 0),
        "silence_count": (metrics["silence_count"], truth["silences"]),
        "fields_collected": (outcomes["fields_collected"], truth["fields"]),
        "completion_rate": (outcomes["completion_rate"], 1.0 if talked else 0.0),
        "successful": (outcomes["successful"], True if talked else None),
        "stages": ([s["stage"] for s in record["stage_timeline"]], [stage for stage, _ in truth["stages"]]),
        "final_stage": (outcomes["final_stage"], truth["stages"][-1][0] if talked else None),
    }
    if not notes:
        exact["notes"] = (outcomes["notes"], None)
    for what, (said, true) in exact.items():
        if said != true:
            wrong.append(f"{what} is {said!r}, not {true!r}")
    late = truth["announced_within"]
    near = {
        "start_time": (unix(record["start_time"]), truth["started"], AT_THE_EDGES),
        "end_time": (unix(record["end_time"]), truth["ended"], AT_THE_EDGES + late),
        "duration_seconds": (
            record["duration_seconds"],
            truth["ended"] - truth["started"],
            2 * AT_THE_EDGES + late,
        ),
        "average_user_response_time": (
            metrics["average_user_response_time"],
            answers(truth, False),
            OF_AN_ANSWER,
        ),
        "average_agent_response_time": (
            metrics["average_agent_response_time"],
            answers(truth, True),
            OF_AN_ANSWER,
        ),
    }
    for step, (stage, at) in zip(record["stage_timeline"], truth["stages"], strict=False):
        near[f"the time of {stage}"] = (unix(step["timestamp"]), at, OF_A_STAGE)
    for what, (said, true, tolerance) in near.items():
        if abs(said - true) > tolerance:
            wrong.append(f"{what} is off by {said - true:+.3f} s")
    return wrong


def longest(lines: list[dict]) -> int:
    return max((line["words"] for line in lines), default=0)


def answers(truth: dict, by_agent: bool) -> float:
    """The mean time from the end of one side's speech to the other's answer."""
    pairs = [
        (a, b) for a, b in pairwise(truth["lines"]) if b["by_agent"] == by_agent and a["by_agent"] != by_agent
    ]
    return sum(b["from"] - a["to"] for a, b in pairs) / len(pairs) if pairs else 0.0


def unix(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
