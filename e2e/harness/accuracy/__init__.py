"""How accurate the record is, measured over many calls.

rows.py     what is measured: kinds of agents and of callers
plan.py     what happens in a call: drawn from a seed
hold.py     holds a call as planned, and keeps its journal and its truth
story.py    what really happened, from the truth
tiers.py    the same call with fewer signals
compare.py  compares record and truth
measured.py all calls together
report.py   the tables;  texts.py: the text between them
"""
