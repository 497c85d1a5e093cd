"""What call-history costs, beside the same job in Python.

| module | its one idea |
|---|---|
| `plan` | how many calls, how long |
| `run` | the order of everything |
| `forms` | the three workers that are compared |
| `load` | one worker with so many calls: memory, CPU, times |
| `losses` | scripted calls: equal work; what a kill and an absent endpoint cost |
| `truth` | a record beside what really happened |
| `venue`, `people`, `endpoint` | the server, the callers and voice agents, the receiving side |
| `program`, `usage` | a child process; what a tree of processes uses |
| `figures` | what was measured, and how a figure is found |
| `page`, `tables`, `pictures`, `plots` | docs/benchmarks.md |
"""
