//! What stands in the log, and what must not.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use record::Claims;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::rig::{Engine, Rig, on_both, record};

/// The log of this process, from its most talkative level on.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_env_filter("receiver=trace,sqlx=warn")
        .with_writer(log.clone())
        .init();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

async fn the_log_has_neither_numbers_nor_words_nor_secrets(engine: Engine) {
    let log = LazyLock::force(&LOG);
    let (secret, number, word) = ("hush-hush-hush-hush-hush-hush-hush", "+1777666555", "sesame");
    let rig = Rig::with(engine, |s| s.jwt_secret = Some(secret.to_owned().into())).await;
    let mut call = record("0f8fad5b-d9cb-469f-a165-70867728950e");
    call["phone_number"] = number.into();
    call["outcomes"]["notes"] = word.into();
    let mut foreign = call.clone();
    foreign["call_id"] = format!("{number}-{word}").into();
    let mut wrong = call.clone();
    wrong["status"] = word.into();
    wrong["metrics"] = json!({word: number, "silence_count": word});
    // A key of a map is the sender's, and part of the path of a mistake.
    wrong["details"] = json!({"sip": {&number[1..]: 7}});
    let event = json!({
        "event": word, "call_id": number, "sequence": 1, "time": "2023-09-20T14:35:42.123Z",
        "room_name": word, "phone_number": number, "call_type": "inbound",
    });
    let mut tokens = vec![];
    for (path, body) in [
        ("/call-history", call.to_string()),
        ("/call-history", foreign.to_string()),
        ("/call-history", wrong.to_string()),
        ("/call-history", format!("{{\"{word}\":{number}")),
        ("/call-events", event.to_string()),
    ] {
        let id = if path == "/call-events" { format!("{number}/1") } else { String::new() };
        let mut claims =
            Claims::of(&id, body.as_bytes(), body.as_bytes(), chrono::Utc::now().timestamp());
        claims.timestamp = "2023-09-20T14:35:42.123Z".into();
        let read: Option<serde_json::Value> = serde_json::from_str(&body).ok();
        if path == "/call-history" {
            claims.jti =
                read.and_then(|r| r["call_id"].as_str().map(str::to_owned)).unwrap_or_default();
        }
        let token = claims.sign(secret).unwrap();
        for token in [token.clone(), format!("{token}x"), format!("chr_{word}")] {
            let post = rig.client.post(rig.url(path)).bearer_auth(&token).body(body.clone());
            post.send().await.unwrap();
            tokens.push(token);
        }
    }
    rig.get(&format!("/api/calls?q={word}&phone_number=%2B1777666555&{word}={word}")).await;
    rig.get(&format!("/api/calls/{word}")).await;
    rig.delete(&format!("/api/calls/%2B1777666555-{word}")).await;
    rig.delete("/api/numbers/%2B1777666555").await;

    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    for line in
        ["record received", "a post was refused", "a post breaks the schema", "call deleted"]
    {
        assert!(text.contains(line), "the log does not say: {line}");
    }
    assert!(text.contains("0f8fad5b-d9cb-469f-a165-70867728950e"));
    for trace in [secret, "1777666555", word].into_iter().chain(tokens.iter().map(String::as_str)) {
        let line = text.lines().find(|line| line.contains(trace));
        assert_eq!(line, None, "{trace}");
    }
}

on_both! { the_log_has_neither_numbers_nor_words_nor_secrets }
