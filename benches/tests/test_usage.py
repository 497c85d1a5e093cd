"""A tree of processes, and what it uses."""

import os
import subprocess
import sys
import time
import unittest

from benchmark.usage import machine_busy, memory_available_mb, tree, usage

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()"], stdin=subprocess.PIPE)
sys.stdin.read()
child.stdin.close()
child.wait()
"""  # fmt: skip


class Tree(unittest.TestCase):
    def test_children_and_their_children_belong_to_it(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", PARENT], **pipes) as parent:
            parent.stdout.readline()  # from the grandchild
            self.assertEqual(len(tree(parent.pid)), 2)
            self.assertIn(parent.pid, tree(os.getpid()))
            both = usage(parent.pid)
            self.assertEqual(both.processes, 2)
            self.assertGreater(both.rss_mb, both.pss_mb)
            self.assertGreater(both.pss_mb, 1)
            parent.stdin.close()
        self.assertRaises(RuntimeError, usage, parent.pid)

    def test_work_is_seen_as_cpu(self):
        before, began = usage(os.getpid()), time.process_time()
        while time.process_time() - began < 0.2:
            pass
        self.assertGreater(usage(os.getpid()).cpu - before.cpu, 0.19)

    def test_the_machine_tells_of_itself(self):
        busy, passed = machine_busy()
        self.assertGreater(passed, busy)
        self.assertGreater(memory_available_mb(), 10)
