"""A wrong record is found; a right one is not."""

import copy
import unittest

from benchmark.truth import differences

TRUTH = {
    "phone_number": "+15550000001",
    "call_type": "inbound",
    "started": 1000.0,
    "ended": 1010.0,
    "status": "completed",
    "termination_reason": None,
    "lines": [
        {"by_agent": True, "words": 4, "from": 1001.0, "to": 1002.0},
        {"by_agent": False, "words": 3, "from": 1002.5, "to": 1003.0},
        {"by_agent": True, "words": 5, "from": 1004.0, "to": 1005.0},
    ],
    "stages": [["greeting", 1001.0], ["confirmation", 1004.0]],
    "silences": 1,
    "announced_within": 0.0,
    "fields": ["name"],
}
RECORD = {
    "phone_number": "+15550000001",
    "call_type": "inbound",
    "start_time": "1970-01-01T00:16:40.100Z",
    "end_time": "1970-01-01T00:16:50.000Z",
    "duration_seconds": 9.9,
    "status": "completed",
    "termination_reason": None,
    "agent_config": {"llm_config_key": "openai-gpt4", "business_type": "restaurant"},
    "metrics": {
        "total_user_utterances": 1,
        "total_agent_utterances": 2,
        "longest_user_utterance": 3,
        "longest_agent_utterance": 5,
        "average_user_response_time": 0.6,
        "average_agent_response_time": 0.9,
        "silence_count": 1,
        "interruption_count": 0,
    },
    "outcomes": {
        "completion_rate": 1.0,
        "fields_collected": ["name"],
        "final_stage": "confirmation",
        "successful": True,
        "notes": None,
    },
    "stage_timeline": [
        {"stage": "greeting", "timestamp": "1970-01-01T00:16:41.010Z"},
        {"stage": "confirmation", "timestamp": "1970-01-01T00:16:44.010Z"},
    ],
}


class Records(unittest.TestCase):
    def test_a_record_within_the_tolerances_is_right(self):
        self.assertEqual(differences(RECORD, TRUTH), [])

    def test_each_wrong_field_is_named(self):
        for path, value in (
            (("status",), "dropped"),
            (("phone_number",), "unknown"),
            (("termination_reason",), "connection_lost"),
            (("metrics", "total_user_utterances"), 2),
            (("metrics", "longest_agent_utterance"), 4),
            (("metrics", "silence_count"), 0),
            (("metrics", "interruption_count"), 1),
            (("metrics", "average_agent_response_time"), 1.5),
            (("outcomes", "fields_collected"), []),
            (("outcomes", "notes"), "incomplete"),
            (("duration_seconds",), 12.0),
            (("end_time",), "1970-01-01T00:16:52.000Z"),
            (("stage_timeline",), RECORD["stage_timeline"][:1]),
        ):
            record = copy.deepcopy(RECORD)
            place = record
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            found = differences(record, TRUTH)
            self.assertEqual(len(found), 1, f"{path}: {found}")

    def test_a_note_is_allowed_where_it_is_expected(self):
        record = copy.deepcopy(RECORD)
        record["outcomes"]["notes"] = "incomplete"
        self.assertEqual(differences(record, TRUTH, notes=True), [])

    def test_a_late_announcement_moves_the_end_only(self):
        late = {**TRUTH, "announced_within": 3.0}
        record = {**RECORD, "end_time": "1970-01-01T00:16:52.000Z", "duration_seconds": 11.9}
        self.assertEqual(differences(record, late), [])
        self.assertEqual(len(differences({**record, "start_time": "1970-01-01T00:16:42.000Z"}, late)), 1)
