//! What is seen live.

use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{Engine, GENEROUS, Rig, on_both, record};

/// Server-sent events of a response, one after the other.
struct Screen {
    response: Response,
    text: String,
}

impl Screen {
    async fn of(rig: &Rig) -> Self {
        let response = rig.client.get(rig.url("/api/live")).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut screen = Self { response, text: String::new() };
        assert_eq!(screen.next().await.as_deref(), Some(": open"));
        screen
    }

    /// The next block of lines; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((first, rest)) = self.text.split_once("\n\n") {
                let (first, rest) = (first.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(first);
            }
            let chunk = timeout(GENEROUS, self.response.chunk()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    async fn event(&mut self) -> (String, Value) {
        let text = self.next().await.unwrap();
        let line = |name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"))
        };
        (line("event: ").to_owned(), serde_json::from_str(line("data: ")).unwrap())
    }
}

async fn records_and_events_are_seen_as_they_arrive(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut screen = Screen::of(&rig).await;
    let event = json!({
        "event": "call.started", "call_id": "one", "sequence": 1, "time": "2026-11-23T07:24:31.120Z",
        "room_name": "line\nbreak", "phone_number": "+1", "call_type": "inbound",
    });
    let post = rig.client.post(rig.url("/call-events")).body(format!("{event:#}\r\n"));
    assert_eq!(post.send().await.unwrap().status(), 200);
    assert_eq!(screen.event().await, ("event".into(), event));
    rig.keep(&record("one")).await;
    // What was there before is not seen again.
    rig.keep(&record("one")).await;
    rig.keep(&record("two")).await;
    let (kind, call) = screen.event().await;
    assert_eq!((kind.as_str(), &call["call_id"]), ("call", &json!("one")));
    assert_eq!(call["status"], "completed");
    assert_eq!(screen.event().await.1["call_id"], "two");
    // A screen does not hold up the end.
    timeout(GENEROUS, rig.receiver.stop()).await.unwrap();
    assert_eq!(screen.next().await, None);
}

async fn the_description_names_every_filter(engine: Engine) {
    let rig = Rig::new(engine).await;
    let (_, document) = rig.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let parameters = document["paths"]["/api/calls"]["get"]["parameters"].as_array().unwrap();
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        // It is known, whatever it makes of the value.
        let (_, said) = rig.get(&format!("/api/calls?{name}=true")).await;
        assert!(!said.to_string().contains("unknown"), "{name}: {said}");
    }
    assert!(parameters.len() > 150);
}

on_both! {
    records_and_events_are_seen_as_they_arrive,
    the_description_names_every_filter,
}
