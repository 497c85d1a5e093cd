//! A talkative call: a turn of each side every six seconds, interims every 0.4 s, the agent's text word by word, its states,
//! its session feed.

use std::fmt::Write;

pub(crate) const SECONDS_A_TURN: u64 = 6;

/// The journal of a call of so many turns of each side.
pub(crate) fn journal(turns: u64) -> String {
    let mut j = String::new();
    let mut t = 1_795_000_000_000u64;
    let mut line = |text: String| writeln!(j, "{text}").expect("a String takes all");
    line(
        r#"{"journal":1,"call_id":"bench","room":{"sid":"RM_bench","name":"bench"},"ordinal":0}"#
            .into(),
    );
    line(format!(r#"{{"at":{t},"what":"watching","server_behind_ms":0}}"#));
    for (who, kind) in [("caller", "standard"), ("agent", "agent")] {
        line(format!(
            r#"{{"at":{t},"what":"joined","identity":"{who}","sid":"PA_{who}","kind":"{kind}","name":"","metadata":"","attributes":{{}},"joined_at":{t}}}"#
        ));
    }
    let feed = |t: u64, message: String| {
        format!(r#"{{"at":{t},"what":"feed","identity":"agent","message":{message}}}"#)
    };
    let state = |t: u64, state: &str| {
        format!(
            r#"{{"at":{t},"what":"attributes","identity":"agent","changed":{{"lk.agent.state":"{state}"}}}}"#
        )
    };
    for turn in 0..turns {
        line(feed(t, format!(r#"{{"kind":"user_state","at":{t},"state":"speaking"}}"#)));
        let mut said = String::new();
        for n in 0..5u64 {
            let (at, stream) = (t + 500 + n * 400, format!("u{turn}-{n}"));
            let _ = write!(said, "word{n} ");
            line(format!(
                r#"{{"at":{at},"what":"stream_opened","stream":"{stream}","identity":"caller","segment":"SG_u{turn}","track":"TR_c","generated":true}}"#
            ));
            line(format!(
                r#"{{"at":{at},"what":"stream_chunk","stream":"{stream}","text":"{said}"}}"#
            ));
            line(format!(
                r#"{{"at":{at},"what":"stream_closed","stream":"{stream}","is_final":{}}}"#,
                n == 4
            ));
        }
        let stop = t + 2_000;
        line(feed(stop, format!(r#"{{"kind":"user_state","at":{stop},"state":"listening"}}"#)));
        let item = |id: &str, by: &str, from: u64, to: u64| {
            format!(
                r#"{{"kind":"item","at":{to},"item":{{"id":"{id}","by":"{by}","text":"{said}","interrupted":false,"created_at":{to},"started_at":{from},"stopped_at":{to},"e2e_latency":null}}}}"#
            )
        };
        line(feed(stop + 500, item(&format!("u{turn}"), "user", t, stop)));
        line(state(stop + 510, "thinking"));
        let (from, to) = (stop + 800, stop + 3_000);
        line(state(from, "speaking"));
        line(feed(from, format!(r#"{{"kind":"agent_state","at":{from},"state":"speaking"}}"#)));
        line(format!(
            r#"{{"at":{from},"what":"stream_opened","stream":"a{turn}","identity":"agent","segment":"SG_a{turn}","track":"TR_a","generated":true}}"#
        ));
        for n in 0..8u64 {
            let at = from + n * 250;
            line(format!(
                r#"{{"at":{at},"what":"stream_chunk","stream":"a{turn}","text":"word{n} "}}"#
            ));
        }
        line(format!(r#"{{"at":{to},"what":"stream_closed","stream":"a{turn}","is_final":true}}"#));
        line(state(to, "listening"));
        line(feed(to, format!(r#"{{"kind":"agent_state","at":{to},"state":"listening"}}"#)));
        line(feed(to, item(&format!("a{turn}"), "agent", from, to)));
        t += SECONDS_A_TURN * 1_000;
    }
    line(format!(
        r#"{{"at":{t},"what":"left","identity":"caller","reason":"CLIENT_INITIATED","attributes":{{}},"since":null}}"#
    ));
    j
}
