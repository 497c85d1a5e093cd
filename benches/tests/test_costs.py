"""Who a part of the memory or of the instructions belongs to."""

import tempfile
import unittest
from pathlib import Path

from costs import heap, instructions

CALLGRIND = """\
summary: 1000

fn=(1) tokio::runtime::task::core::Core<T,S>::poll
10 5
cfn=(2) livekit::room::RoomSession::room_task::{{closure}}
calls=3 0
11 400
cfn=(3) libwebrtc::driver::drive::{{closure}}
calls=1 0
12 200
cfn=(4) core::mem::drop
calls=1 0
12 7

fn=(2)
20 40
cfn=(5) core::fmt::write
calls=2 0
21 300
cfn=(3)
calls=2 0
21 60

fn=(7) tokio::runtime::task::core::Core<T,S>::poll'2
cfn=(6) <core::pin::Pin<P> as core::future::future::Future>::poll
calls=1 0
+1 100
"""


class Instructions(unittest.TestCase):
    def test_each_task_counts_with_all_that_it_calls_and_only_once(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            out.write_text(CALLGRIND)
            profile = instructions.read(out)
        self.assertEqual(
            instructions.by_task(profile),
            {
                "LiveKit's SDK": 400,
                "`crates/libwebrtc` with str0m": 200,
                "the observation": 100,
                "runtime, looking for rooms": 300,
            },
        )
        self.assertEqual(instructions.formatting(profile), 300)
        self.assertFalse([call for call in profile.calls if "'2" in "".join(call)])
        self.assertIn("| of it: texts of events | 30% |", instructions.table(profile, calls=1, seconds=1))


class Heap(unittest.TestCase):
    def test_the_innermost_frame_of_a_crate_that_is_listed_owns_the_bytes(self):
        for stack, due in [
            ("main (a.rs);livekit::room::x (b.rs);tokio::sync::mpsc::block::Block<T>::new (c.rs)", heap.CHANNELS),
            ("main (a.rs);livekit::room::x (b.rs);alloc::vec::with_capacity (c.rs)", heap.SDK),
            ("livekit::x (b.rs);libwebrtc::driver::drive (c.rs);tokio::sync::mpsc::channel (d.rs)", "`crates/libwebrtc`"),
            ("call_history::observer::x (b.rs);call::state::apply (c.rs);alloc::alloc (d.rs)", "the core"),
            ("<hyper::client::Connection as tower::Service>::call::{{closure}} (a.rs)", "TLS and HTTP"),
            ("_start (x.c);malloc (y.c)", "else"),
        ]:
            self.assertEqual(heap.owner(stack), due, stack)

    def test_lines_of_the_same_stack_are_added(self):
        held = heap.total("store::a (a.rs);malloc; 3\nstore::a (a.rs);malloc; 4\ncall_history::b; 5\n")
        self.assertEqual(heap.by_owner(held), {"the observer and its journal": 12})
