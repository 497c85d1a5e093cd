"""The texts between the tables."""

INTRODUCTION = """\
# How accurate the records are

The records of scripted calls, compared with what really happened. Every number here is measured; no
call had a real caller.

    cd e2e && python -m accuracy --calls 20 --out ../docs/accuracy.md --keep DIR
    python -m accuracy --again DIR --out ../docs/accuracy.md     # the tables anew

The calls are drawn from a seed: 3 to 5 turns with pauses of 0.5 to 3 s, lines of 1 to 12 words; in
every fourth call the caller cuts the agent off, in every fourth a noise makes the agent pause, in
every fifth there is a silence of 6 to 9 s, and every third ends with a hang-up at the last word.
Agents are real sessions of LiveKit's Python and Node SDK with scripted models, each in a worker;
callers are a LiveKit client of kind SIP ("phone-like"), one of kind standard ("web"), and
livekit-client in Chromium ("browser"). The server is this repository's development server.

Two more kinds of agents are held with the first two kinds of callers:

* **Speech-to-speech**: a session of the Python SDK on one scripted model that hears and speaks, and
  decides about turns itself. It transcribes the caller, late; in rows of their own it does not.
* **Bot with the grant**: a Pipecat bot, which joins as a participant of the ordinary kind with the
  grant `agent` and speaks RTVI. It has neither a session feed nor states nor text streams.

Both stop for good with the first sound of the caller, so a noise cuts their answer off: that counts as
an interruption here. Where nothing transcribes the caller, their number is not known and not compared
(–); without feed and speaker events either, nothing at all is known of the caller.

The truth is what agents and callers wrote down while they acted, on the clock of one machine: when
the caller's microphone played a line, and when the agent's sound was played into the room. None of
these facts pass through the room or the program. From each call's journal the record is made again
without some of the signals, which shows the record of a call that has fewer of them.

**The figures are from a shared machine** with other work: servers, agents, callers and browsers run
on the same few cores, with only a loopback network between them.
"""

SIGNALS = """\
| seen | |
|---|---|
| session feed | all; the agent publishes its session on `lk.agent.session` |
| history at the leave | all; a Node agent sends its history only when it is asked at the end |
| states, streams, speakers | `lk.agent.state`, `lk.transcription` and speaker events: no feed |
| states, streams | no speaker events either, as behind a SIP bridge, which sends no levels |
| streams only | no states either: an agent that is hidden or not built with LiveKit's SDK |
| legacy packets only | the transcription packets from before streams, in calls that had them |
| RTVI, speakers | all that a Pipecat bot gives: its messages, and the speaker events |
| RTVI only | the bot's messages without speaker events, as behind a SIP bridge |
| speakers only | no transcription and no report of the agent |
"""

TIMES = """\
Errors in milliseconds, recorded minus real: the median and the 95th percentile of the absolute
values, and the median with its sign. Each answer of a call is compared with the real one if the
record has the right number of answers; the "calls unpaired" have another number and are only in the
means below. "The agent's own report" is what its session reports about the same answers
(`e2e_latency`; the times of its items), as a reader of the agent's metrics sees it. The agent hears
its caller late; and after a noise the item of the caller's next line may begin with the noise,
seconds too early.
"""

UNKNOWABLE = """\
## What cannot be known

* **Session feed**: the delay of the sound from the caller to the agent. The agent hears the caller
  later than it speaks; the usual delay is subtracted (`Late` in `crates/call/src/evidence.rs`), and
  the rest remains in these errors. How much of an interrupted answer was spoken is not known either,
  because its text is paced by rules: every number between the words that there was time for and the
  words that the agent keeps counts as exact.
* **History at the leave**: as above, if the agent can be asked. If the caller hangs up at its last
  word, there is hardly time to ask, and the signals of the next tier are used.
* **Speakers**: the server's meter works in windows of 0.4 s. One word may be too short for it.
* **States, streams**: only the transcripts show when the caller spoke. Their delay is that of the
  speech recognition, and the delay of this one is subtracted (first interim text after 0.4 s of
  speech, the final text 0.35 s after its end). Another speech recognition shifts both response times
  by the difference; that is not measured here. Noises are not seen, so they break no silence.
* **Streams only**: the agent begins to speak with its first text. Text that stops shows an
  interruption, so an interruption shortly before the end of an answer is not seen.
* **Legacy packets only**: as streams. Python agents send no such packets where only phones listen.
* **Speech-to-speech**: the session takes the moment at which its model reports a beginning or an end
  for the time of the speech. The model reports an end only after a silence, whose length is a setting
  of the provider (here 0.5 s). Without words of the caller, its utterances are stretches of sound.
* **RTVI**: the messages carry no times. A turn of the caller ends for the bot when it has decided so,
  and the end of the bot's own sound is known to a second only, so a cut-off within the last second of
  an answer is not seen. Of an answer that was cut off only the sentences count that were spoken to
  their end. If the caller hangs up at its last word, the bot has no time to report it.
* **Speakers only**: no words. Stretches of sound are counted: a pause within a line makes two
  stretches, two lines without a pause make one, and a noise counts as speech.
* **Beyond the room**: the phone network, and the sound in the caller's device. With a bridge in
  between, the response times are those at the bridge.
"""
