"""Numbers, tables, pictures and the page, from made-up figures."""

import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

from benchmark.figures import Figures
from benchmark.page import BEGIN, END, text, write
from benchmark.pictures import pictures
from benchmark.run import unequal
from benchmark.tables import compared, cpu, memory, millis, table


def span(mb: float, percent: float = 1.0) -> dict:
    return {
        "rss_mb": 2 * mb, "pss_mb": mb, "cpu_percent": percent, "processes": 3, "threads": 9, "machine_percent": 50.0, "chunks": 11.9,
    }  # fmt: skip


def turn(form: str, calls: int, mb: float, **more) -> dict:
    return {
        "form": form,
        "calls": calls,
        "registered_s": 0.1,
        "idle": span(mb, 0.0),
        "quiet": span(mb + calls),
        "talking": span(mb + 2 * calls, 2.0 * calls),
        "after": span(mb + 1),
        "joined_ms": [20.0, 30.0],
        "posted_ms": [5.0, 7.0],
        "reported": calls,
        "probes_reported": 2,
        "skipped": None,
    } | more


def outcome(form: str, what: str, **more) -> dict:
    found = {
        "form": form,
        "what": what,
        "calls": 3,
        "posted": 3,
        "right": 3,
        "twice": 0,
        "last_after_s": 1.5,
        "wrong": [],
        "failed": None,
        "runs": 1,
    }
    return found | more


def figures(**more) -> Figures:
    forms = ("ours", "processes", "threads")
    return Figures(
        **{
            "plan": "full",
            "away_s": 60,
            "after_s": 60,
            "date": "2026-01-01",
            "machine": {"cores": "2", "cpu": "a <fast> one", "memory": "8 GB", "system": "Linux"},
            "versions": {
                "call-history": "0.1.0",
                "commit": "abc",
                "Python": "3",
                "livekit-agents": "1",
                "livekit": "1",
            },
            "server": "a server",
            "binary_mb": 15.0,
            "lines_of_python": 300,
            "environment_mb": 250.0,
            "starts_s": {form: [0.1, 0.2, 0.3] for form in forms},
            "turns": [
                turn(f, n, mb) for n in (1, 10) for f, mb in zip(forms, (10.0, 450.0, 350.0), strict=True)
            ],
            "outcomes": [outcome(f, what) for f in forms for what in ("equal", "killed", "away")],
        }
        | more
    )


class Numbers(unittest.TestCase):
    def test_numbers_have_three_digits_and_a_unit(self):
        self.assertEqual(memory(0.336), "344 kB")
        self.assertEqual(memory(11.04), "11.0 MB")
        self.assertEqual(memory(1234.5), "1,234 MB")
        self.assertEqual(cpu(0.2104), "0.210 %")
        self.assertEqual(cpu(0.001), "under 0.01 %")
        self.assertEqual(millis(4.6), "5 ms")
        self.assertEqual(millis(1_234), "1.23 s")
        self.assertEqual(millis(12_345), "12.3 s")

    def test_what_was_not_measured_has_no_number_and_no_ratio(self):
        self.assertEqual(compared([10.0, 450.0, None], memory), ["10.0 MB", "450 MB (×45)", "–"])
        self.assertEqual(compared([None, 5.0], memory), ["–", "5.00 MB"])
        self.assertEqual(compared([0.0, 5.0], memory), ["0 kB", "5.00 MB"])

    def test_a_table_has_as_many_cells_in_each_row(self):
        lines = table(["", "a", "b"], [["x", "1", "2"]]).splitlines()
        self.assertEqual({line.count("|") for line in lines}, {4})


class Page(unittest.TestCase):
    def test_pictures_are_xml_and_say_their_numbers(self):
        for picture in pictures(figures()).values():
            xml.fromstring(picture)
        self.assertIn("470 MB", pictures(figures())["memory"])

    def test_every_table_has_as_many_cells_in_each_row(self):
        for part in text(figures()).split("\n\n"):
            if part.startswith("|"):
                self.assertEqual({line.count("|") for line in part.splitlines()}, {5}, part)

    def test_a_worker_that_did_not_bear_the_calls_is_named_with_the_reason(self):
        turns = figures().turns
        turns[-1] = turn(
            "threads", 10, 350.0, talking=None, after=None, skipped="not borne: it took too long"
        )
        page = text(figures(turns=turns))
        self.assertIn(
            "threads, 10 calls: not borne: it took too long.".lower(),
            page.lower().replace("a thread for each call", "threads"),
        )
        self.assertIn("With 1 call,", page)

    def test_a_full_machine_is_named(self):
        turns = figures().turns
        turns[0]["talking"]["machine_percent"] = 99.0
        self.assertIn("The machine was full with call-history, 1 call:", text(figures(turns=turns)))

    def test_calls_that_could_not_be_held_are_no_loss(self):
        outcomes = figures().outcomes
        outcomes[1] = outcome("ours", "killed", posted=0, right=0, failed="no observer came")
        page = text(figures(outcomes=outcomes))
        self.assertIn("| killed in mid-call: records lost | – | 0 of 3 | 0 of 3 |", page)
        self.assertIn("call-history, killed: the calls could not be held, no observer came.", page)

    def test_records_that_did_not_come_are_counted(self):
        turns = figures().turns
        turns[0]["reported"] = 0
        self.assertIn("| calls that were reported | 2 of 3 | 3 of 3 | 3 of 3 |", text(figures(turns=turns)))

    def test_a_trial_says_so(self):
        self.assertIn("trial run", text(figures(plan="short")))
        self.assertNotIn("trial run", text(figures()))

    def test_only_what_stands_between_the_marks_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            docs = Path(folder)
            (docs / "benchmarks.md").write_text(f"before\n{BEGIN}\nformer figures\n{END}\nafter\n")
            write(figures(), docs)
            page = (docs / "benchmarks.md").read_text()
            self.assertTrue(page.startswith(f"before\n{BEGIN}\n") and page.endswith(f"{END}\nafter\n"))
            self.assertNotIn("former figures", page)

    def test_a_page_without_marks_is_not_touched(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "benchmarks.md").write_text("by hand\n")
            self.assertRaises(ValueError, write, figures(), Path(folder))

    def test_fields_that_differ_after_a_kill_are_counted(self):
        wrong = [
            "hung_up: silence_count is 0, not 1",
            "deleted: silence_count is 0, not 1",
            "hung_up: no record",
        ]
        killed = [outcome("ours", "killed", posted=2, right=0, wrong=wrong)]
        page = text(figures(outcomes=killed))
        self.assertIn(
            "call-history, killed: of 2 records 2 differ somewhere from the truth: silence_count (2).", page
        )
        self.assertIn("1 of 3", page)


class Equal(unittest.TestCase):
    def test_equal_work_has_no_faults(self):
        self.assertEqual(unequal(figures()), [])

    def test_a_wrong_record_of_a_plain_call_ends_the_comparison(self):
        wrong = [outcome("threads", "equal", right=2, wrong=["hung_up: status is 'failed', not 'completed'"])]
        self.assertEqual(len(unequal(figures(outcomes=wrong))), 1)

    def test_calls_that_could_not_be_held_end_the_comparison(self):
        self.assertEqual(
            unequal(figures(outcomes=[outcome("ours", "equal", posted=0, right=0, failed="why")])),
            ["ours: why"],
        )

    def test_what_a_kill_costs_does_not(self):
        self.assertEqual(unequal(figures(outcomes=[outcome("threads", "killed", posted=0, right=0)])), [])
