"""How near the record comes to what really happened, measured over many calls.

plan.py     what happens in a call: drawn from a seed
hold.py     holds a call as planned, and keeps its journal and its truth
story.py    what really happened, from the truth
tiers.py    the call as it is seen with fewer signals
compare.py  record against truth
measured.py all calls together
report.py   the tables;  texts.py: what stands between them
"""
