"""Calls with pinned versions of agents, and whether their records are true."""
