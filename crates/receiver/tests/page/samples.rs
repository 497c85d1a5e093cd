//! Plausible calls: invented, the same ones each time.

use record::Moment;
use serde_json::{Value, json};

/// Numbers that look like chance and are always the same.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.part() * (high - low)
    }

    fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[(self.part() * all.len() as f64) as usize % all.len()]
    }

    fn chance(&mut self, part: f64) -> bool {
        self.part() < part
    }
}

/// Who speaks (`a` agent, `u` caller), and what.
type Script = &'static [(char, &'static str)];

const RESTAURANT: Script = &[
    ('a', "Luigi's, good evening. How can I help you?"),
    ('u', "Hi, I'd like a table for tomorrow night."),
    (
        'a',
        "Gladly. We have two seatings tomorrow, the first one at six and the second at half past eight. For how many people?",
    ),
    ('u', "For four, at half past eight please."),
    ('a', "Four at half past eight. May I have your name?"),
    ('u', "Mary Poppins."),
    ('a', "Thank you, Ms Poppins. And a phone number for the reservation?"),
    ('u', "The one I am calling from."),
    ('a', "It is booked for four tomorrow at half past eight. Is there anything else?"),
    ('u', "Do you have something without gluten?"),
    ('a', "Yes, the risotto and most of the fish, and we bake a bread without gluten on request."),
    ('u', "Lovely, that's all."),
    ('a', "See you tomorrow, goodbye!"),
    ('u', "Bye bye."),
];
const CLINIC: Script = &[
    ('a', "Clinic at the park, this is the assistant. What is it about?"),
    ('u', "I need to move my appointment on Thursday."),
    ('a', "I can do that. Please tell me your date of birth."),
    ('u', "The third of May, nineteen eighty-four."),
    (
        'a',
        "Thank you. I see an appointment with Dr. Weber on Thursday at ten. When would suit you?",
    ),
    ('u', "Next week, in the afternoon if possible."),
    ('a', "There is Tuesday at three or Wednesday at half past four."),
    ('u', "Wednesday."),
    ('a', "I have moved it to Wednesday at half past four. You will get a message."),
    ('u', "Great. And could I speak with the nurse for a moment?"),
    ('a', "Of course, I will connect you."),
];
const HOTEL: Script = &[
    ('a', "Welcome to the Seaside Hotel. How may I help?"),
    ('u', "Is there a room free from Friday to Sunday?"),
    (
        'a',
        "Let me look. Yes, a double room with a view of the sea, one hundred and forty a night with breakfast.",
    ),
    ('u', "And without the view?"),
    ('a', "One hundred and ten a night."),
    ('u', "I'll take that one."),
    ('a', "Wonderful. Under which name shall I book it?"),
    ('u', "Nakamura."),
    ('a', "Booked for Nakamura, Friday to Sunday. Anything else?"),
    ('u', "No, thank you."),
];
const DELIVERY: Script = &[
    ('a', "Parcel service, please type the last digits of your parcel or say them."),
    ('u', "Seven seven four one."),
    ('a', "Your parcel is on its way and comes today between two and four."),
    ('u', "Nobody is home then."),
    ('a', "Shall we leave it with a neighbour, or bring it tomorrow?"),
    ('u', "Tomorrow."),
    ('a', "Done. It comes tomorrow between nine and eleven."),
];

const BUSINESSES: [(&str, Script, &[&str]); 4] = [
    ("restaurant", RESTAURANT, &["greeting", "information_gathering", "confirmation"]),
    ("clinic", CLINIC, &["greeting", "identification", "rescheduling", "transfer"]),
    ("hotel", HOTEL, &["greeting", "offer", "booking"]),
    ("delivery", DELIVERY, &["greeting", "lookup", "resolution"]),
];

const ROOM: &str = "sip_";

struct Course {
    start: Moment,
    at: f64,
    speech: Vec<Value>,
    lines: Vec<Value>,
    responses: Vec<Value>,
    cuts: Vec<Value>,
    silences: Vec<Value>,
    keyed: Vec<Value>,
    components: Vec<Value>,
    stages: Vec<Value>,
    waits: [Vec<f64>; 2],
    words: [usize; 2],
    talk: [f64; 2],
}

impl Course {
    fn time(&self, at: f64) -> String {
        self.start.plus((at * 1_000.0).round() as i64).to_rfc3339()
    }
}

fn distribution(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| sorted[((sorted.len() as f64 * part).ceil() as usize).max(1) - 1];
    if values.is_empty() {
        return Value::Null;
    }
    json!({
        "count": values.len(), "min": at(0.0), "p50": at(0.5), "p90": at(0.9), "p95": at(0.95),
        "p99": at(0.99), "max": at(1.0), "values": values,
    })
}

fn milli(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

/// Call number `n`, some of the days before `now`.
pub(crate) fn call(n: u64, now: Moment) -> Value {
    let mut dice = Dice::new(n + 1);
    let (business, script, stages) = *dice.one(&BUSINESSES);
    let days = (dice.part() * dice.part() * 26.0) as i64;
    let hour = 8.0 + 13.0 * (dice.part() + dice.part()) / 2.0;
    let midnight = now.millis() / 86_400_000 * 86_400_000;
    let start = midnight - days * 86_400_000 + (hour * 3_600_000.0) as i64;
    let start = if start > now.millis() { start - 86_400_000 } else { start };
    let start = Moment::from_millis(start);
    let number = format!("+1555{:07}", 100_000 + (dice.part() * 60.0) as u64 * 977 + 34);
    let outbound = dice.chance(0.25);
    let fate = dice.part();
    let slow = if (4..=6).contains(&days) { 1.7 } else { 1.0 };

    let mut c = Course {
        start,
        at: dice.between(0.3, 1.2),
        speech: vec![],
        lines: vec![],
        responses: vec![],
        cuts: vec![],
        silences: vec![],
        keyed: vec![],
        components: vec![],
        stages: vec![],
        waits: [vec![], vec![]],
        words: [0, 0],
        talk: [0.0, 0.0],
    };
    let no_answer = outbound && fate < 0.16;
    let rounds = if dice.chance(0.06) { 6 } else { 1 };
    let cut_short = fate > 0.86;
    let turns: Vec<(char, &str)> = if no_answer {
        vec![]
    } else {
        let all = (0..rounds).flat_map(|_| script.iter().copied());
        let most = if cut_short { 3 + (dice.part() * 5.0) as usize } else { usize::MAX };
        all.take(most).collect()
    };
    let (mut user_turns, mut agent_turns) = (0_u32, 0_u32);
    let mut before: Option<(char, f64)> = None;
    for (at, (who, text)) in turns.iter().enumerate() {
        let side = usize::from(*who == 'a');
        let words = text.split_whitespace().count();
        let mut from = c.at;
        if let Some((other, end)) = before
            && other != *who
        {
            let wait = if side == 1 {
                dice.between(0.55, 1.25) * slow
                    + if dice.chance(0.08) { dice.between(0.8, 2.4) } else { 0.0 }
            } else {
                dice.between(0.25, 2.2)
            };
            let silence = side == 0 && dice.chance(0.05);
            let wait = milli(if silence { dice.between(5.1, 9.5) } else { wait });
            from = end + wait;
            if silence && dice.chance(0.3) {
                let at = end + wait / 2.0;
                c.keyed.push(json!({"at": c.time(at), "identity": "caller", "kind": "dialled"}));
            } else if silence {
                c.silences.push(json!({"from": c.time(end), "to": c.time(from)}));
            }
            let turn = if side == 1 { agent_turns } else { user_turns };
            let by = ["user", "agent"][side];
            c.responses.push(json!({"by": by, "from": c.time(end), "to": c.time(from), "seconds": wait, "reported": false, "turn": turn}));
            c.waits[side].push(wait);
            if side == 1 {
                let turn = milli(wait * 0.45);
                c.components.push(json!({"by": "user", "from": c.time(end - 1.0), "transcription_delay": milli(wait * 0.27), "end_of_turn_delay": turn, "llm_first_token": null, "tts_first_byte": null}));
                c.components.push(json!({"by": "agent", "from": c.time(from), "transcription_delay": null, "end_of_turn_delay": null, "llm_first_token": milli(wait * 0.34), "tts_first_byte": milli(wait * 0.15)}));
            }
        }
        let length = words as f64 * dice.between(0.27, 0.36) + 0.25;
        let mut to = from + length;
        // The caller begins before the agent has ended.
        let cut = side == 1 && at + 1 < turns.len() && words > 8 && dice.chance(0.16);
        let mut said = (*text).to_owned();
        if cut {
            to = from + length * dice.between(0.4, 0.8);
            let kept = (words as f64 * 0.6) as usize;
            said = text.split_whitespace().take(kept).collect::<Vec<_>>().join(" ");
            c.cuts.push(json!({"at": c.time(to), "by": "user"}));
        }
        let identity = ["caller", "agent-AJ_k2"][side];
        let by = ["user", "agent"][side];
        c.speech.push(json!({"by": by, "identity": identity, "from": c.time(from), "to": c.time(to), "basis": "feed"}));
        c.lines.push(json!({"by": by, "kind": "spoken", "identity": identity, "role": (["caller", "agent"][side]), "from": c.time(from), "to": c.time(to), "text": said, "interrupted": cut}));
        c.words[side] = c.words[side].max(words);
        c.talk[side] += to - from;
        let stage = at * stages.len() / turns.len();
        if c.stages.len() <= stage && side == 1 {
            c.stages.push(json!({"stage": stages[stage], "timestamp": c.time(from)}));
        }
        if side == 1 {
            agent_turns += 1
        } else {
            user_turns += 1
        }
        before = if cut { None } else { Some((*who, to)) };
        c.at = if cut { to - dice.between(0.35, 0.9) } else { to };
    }
    let rang = if no_answer { dice.between(18.0, 40.0) } else { c.at + dice.between(0.4, 2.0) };
    let length = milli(if no_answer { 0.0 } else { rang });
    let end = c.time(if no_answer { 0.0 } else { rang });

    let (status, reason, ended_by) = match fate {
        _ if no_answer => {
            ("failed", *dice.one(&[Some("no_answer"), Some("busy"), Some("rejected")]), "unknown")
        }
        f if f > 0.955 => ("dropped", Some("connection_lost"), "network"),
        f if f > 0.92 => ("failed", Some("agent_error"), "room"),
        f if f > 0.86 => ("completed", None, "caller"),
        _ if business == "clinic" => ("completed", Some("transferred"), "agent"),
        _ => ("completed", None, *dice.one(&["caller", "caller", "agent", "room"])),
    };
    let done = status == "completed" && !cut_short;
    let average = |values: &[f64]| {
        if values.is_empty() {
            0.0
        } else {
            milli(values.iter().sum::<f64>() / values.len() as f64)
        }
    };
    let (by_user, by_agent) = (average(&c.waits[0]), average(&c.waits[1]));
    let final_stage = c.stages.last().map(|stage| stage["stage"].clone());
    let gap = status == "dropped" || dice.chance(0.04);
    let gaps = if gap && length > 20.0 {
        vec![json!({"from": c.time(length * 0.6), "to": c.time(length * 0.6 + 3.2)})]
    } else {
        vec![]
    };
    let mut record = json!({
        "call_id": format!("{:08x}-77aa-5bcd-8a4e-{n:012x}", dice.0 as u32),
        "phone_number": number,
        "room_name": format!("call-_{number}_{:04x}", dice.0 as u16),
        "call_type": if outbound { "outbound" } else { "inbound" },
        "start_time": c.time(0.0),
        "end_time": end,
        "duration_seconds": length,
        "status": status,
        "termination_reason": reason,
        "agent_config": {
            "stt_config_key": "deepgram", "llm_config_key": dice.one(&["openai-gpt4", "openai-gpt4", "anthropic-sonnet"]), "tts_config_key": "elevenlabs",
            "business_type": business, "language": "english",
        },
        "metrics": {
            "total_user_utterances": user_turns, "total_agent_utterances": agent_turns,
            "longest_user_utterance": c.words[0], "longest_agent_utterance": c.words[1],
            "average_user_response_time": by_user, "average_agent_response_time": by_agent,
            "silence_count": c.silences.len(), "interruption_count": c.cuts.len(),
        },
        "outcomes": {
            "completion_rate": if done { 1.0 } else if no_answer { 0.0 } else { 0.5 },
            "fields_collected": if done { json!(["name", "phone", "time"]) } else { json!([]) },
            "final_stage": final_stage, "successful": if no_answer { Value::Null } else { json!(done) }, "notes": null,
        },
        "stage_timeline": c.stages,
    });
    if dice.chance(0.1) {
        return record;
    }
    let transfers = if reason == Some("transferred") {
        vec![
            json!({"identity": "sip_+15550109999", "phone_number": "+15550109999", "dialled_at": c.time(length - 6.0), "answered_at": c.time(length - 2.5), "left_at": null, "disconnect_reason": null}),
        ]
    } else {
        vec![]
    };
    record["details"] = json!({
        "ended_by": ended_by, "disconnect_reason": "CLIENT_INITIATED", "sip": null, "phone": null,
        "participants": [
            {"identity": format!("{ROOM}{number}"), "role": "caller", "kind": "sip", "phone_number": number, "joined_at": c.time(0.0), "connected_at": c.time(0.0), "left_at": end, "disconnect_reason": "CLIENT_INITIATED"},
            {"identity": "agent-AJ_k2", "role": "agent", "kind": "agent", "phone_number": null, "joined_at": c.time(0.2), "connected_at": c.time(0.2), "left_at": null, "disconnect_reason": null},
        ],
        "transfers": transfers,
        "metadata": null,
        "observation": {
            "discovered_by": "dispatch", "from": c.time(0.1), "to": end, "gaps": gaps, "late_seconds": if dice.chance(0.2) { 0.4 } else { 0.0 },
            "turns_from_history": 0, "start_time_basis": "observed", "end_time_basis": if status == "dropped" { "estimated" } else { "observed" }, "recovered": false,
        },
        "evidence": {"user": {"speech": "feed", "words": "items"}, "agent": {"speech": "feed", "words": "items"}},
        "latency": {"agent_response": distribution(&c.waits[1]), "user_response": distribution(&c.waits[0]), "components": c.components},
        "interruptions": {"by_caller": c.cuts.len(), "by_agent": 0, "false_alarms": u32::from(dice.chance(0.1))},
        "talk": {"user_seconds": milli(c.talk[0]), "agent_seconds": milli(c.talk[1]), "overlap_seconds": milli(c.cuts.len() as f64 * 0.6), "longest_silence_seconds": null},
        "usage": [
            {"task": "stt", "provider": "deepgram", "model": "nova-3", "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "characters": 0, "audio_seconds": milli(c.talk[0])},
            {"task": "llm", "provider": "openai", "model": "gpt-4.1-mini", "input_tokens": 1840 + 97 * agent_turns, "cached_input_tokens": 0, "output_tokens": 31 * agent_turns, "characters": 0, "audio_seconds": 0.0},
            {"task": "tts", "provider": "elevenlabs", "model": "flash-2.5", "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "characters": 62 * agent_turns, "audio_seconds": milli(c.talk[1])},
        ],
        "tools": [{"name": "find_slot", "calls": 1 + agent_turns / 4, "failures": u32::from(dice.chance(0.12))}],
        "agents": [{"identity": "agent-AJ_k2", "role": "voice", "joined_at": c.time(0.2), "left_at": null, "disconnect_reason": null}],
        "handoffs": [], "answered_by": if outbound { json!("human") } else { Value::Null }, "errors": u32::from(reason == Some("agent_error")), "profile": business,
        "timeline": {"speech": c.speech, "responses": c.responses, "cut_offs": c.cuts, "silences": c.silences, "keyed": c.keyed, "unheard": [], "gaps": gaps},
    });
    if dice.chance(0.75) {
        record["details"]["transcript"] = json!(c.lines);
    }
    record
}

/// Live events of calls that are on.
pub(crate) fn running(now: Moment) -> Vec<Value> {
    let event = |n: u32, sequence: u32, ago: i64, kind: &str, stage: Option<&str>| {
        let mut event = json!({
            "event": kind, "call_id": format!("running-{n}"), "sequence": sequence, "time": now.plus(-ago * 1_000).to_rfc3339(),
            "room_name": format!("call-_+1555010{n}{n}{n}{n}_aa"), "phone_number": format!("+1555010{n}{n}{n}{n}"), "call_type": "inbound",
        });
        if let Some(stage) = stage {
            event["stage"] = stage.into();
        }
        event
    };
    vec![
        event(4, 1, 74, "call.started", None),
        event(4, 2, 73, "call.answered", None),
        event(4, 3, 70, "call.stage", Some("information_gathering")),
        event(7, 1, 9, "call.started", None),
    ]
}
