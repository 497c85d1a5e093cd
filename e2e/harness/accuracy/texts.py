"""What stands between the tables."""

INTRODUCTION = """\
# How accurate the records are

What the records say, held against what really happened in scripted calls. Every number here is
measured; none is of a real caller.

    cd e2e && python -m accuracy --calls 20 --out ../docs/accuracy.md --keep DIR
    python -m accuracy --again DIR --out ../docs/accuracy.md     # the tables anew

The calls are drawn from a seed: 3 to 5 turns with pauses of 0.5 to 3 s, lines of 1 to 12 words; in
every fourth call the caller cuts the agent off, in every fourth a noise makes the agent pause, in
every fifth there is a silence of 6 to 9 s, and every third ends with a hang-up at the last word.
Agents are real sessions of LiveKit's Python and Node SDK with scripted models, each in a worker;
callers are a LiveKit client of kind SIP ("phone-like"), one of kind standard ("web"), and
livekit-client in Chromium ("browser"). The server is this repository's development server.

The truth is what these wrote down while they acted, on the clock of one machine: when the caller's
microphone played a line, and when the agent's sound was played into the room. Nothing of it passes
the room or the program. From each call's journal the record is made again without some of the
signals, which tells what a call looks like that has fewer of them.

**The figures are of a shared machine**, busy with other work besides: servers, agents, callers and
browsers on the same few cores, with nothing but a loopback network between them.
"""

SIGNALS = """\
| seen | |
|---|---|
| session feed | all; the agent tells of itself on `lk.agent.session` |
| history at the leave | all; a Node agent tells its history only when it is asked at the end |
| states, streams, speakers | `lk.agent.state`, `lk.transcription` and speaker events: no feed |
| states, streams | nor speaker events, as behind a SIP bridge, which sends no levels |
| streams only | nor states: an agent that is hidden or not of LiveKit's SDK |
| legacy packets only | the packets of the transcription before streams; where they came |
| speakers only | nobody transcribes and nobody tells |
"""

TIMES = """\
Errors in milliseconds, said minus real: of absolute values the median and the 95th percentile, and
the median with its sign. Each answer of a call is held against the real one, where as many were
told as there were; "calls unpaired" had another number and are only in the means below. "The
agent's own report" is what its session says of the same answers (`e2e_latency`; the times of its
items): what one has who reads the agent's metrics. It hears its caller late; and after a noise the
item of his next line may begin with the noise, seconds too early.
"""

UNKNOWABLE = """\
## What cannot be known

* **Session feed**: the caller's sound between his mouth and the agent. The agent hears him later
  than he speaks; the usual of it is taken off (`Late` in `crates/call/src/evidence.rs`), the rest is here.
  How much was said of an answer that was cut off: its text is paced by rules. What lies between
  the words there was time for and those that the agent keeps counts as exact.
* **History at the leave**: as above, if it can be asked. When the caller hangs up at his last word
  there is hardly time to, and the next tier tells.
* **Speakers**: the server's meter works in windows of 0.4 s. One word may be too short for it.
* **States, streams**: when the caller spoke is known from his transcripts alone. Their delay is
  that of the speech recognition: what is taken off is that of this one (first interim text after
  0.4 s of speech, the final one 0.35 s after its end). Another one shifts both response times
  by its difference; how these calls would look with it is not measured here. Noises are not seen,
  so they break no silence.
* **Streams only**: the agent's beginning is its first text's. An interruption is told by
  text that stopped, so one shortly before the end of an answer is not.
* **Legacy packets only**: as streams. Python agents send none where only phones listen.
* **Speakers only**: no words. What is counted is stretches of sound: a pause within a line
  makes two, two lines without one make one, and a noise is speech.
* **Beyond the room**: the phone network, and the sound in the caller's device. Where a bridge
  stands between, the response times are those that the bridge has.
"""
