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
        Self::since(rig, None).await
    }

    /// `last`: the id of the event that was seen last.
    async fn since(rig: &Rig, last: Option<&str>) -> Self {
        let mut request = rig.client.get(rig.url("/api/live"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
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
        let (_, kind, data) = self.event_with_id().await;
        (kind, data)
    }

    /// Its id, which may be empty, its kind and its data.
    async fn event_with_id(&mut self) -> (String, String, Value) {
        let text = self.next().await.unwrap();
        let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
        let needed = |name: &str| line(name).unwrap_or_else(|| panic!("{text}"));
        let data = serde_json::from_str(needed("data: ")).unwrap();
        (line("id: ").unwrap_or_default().to_owned(), needed("event: ").to_owned(), data)
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

async fn a_screen_that_comes_again_gets_what_it_missed(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut screen = Screen::of(&rig).await;
    rig.keep(&record("one")).await;
    let (id, _, call) = screen.event_with_id().await;
    assert_eq!(call["call_id"], "one");
    drop(screen);
    rig.keep(&record("two")).await;
    rig.keep(&record("three")).await;
    let mut again = Screen::since(&rig, Some(&id)).await;
    assert_eq!(again.event().await.1["call_id"], "two");
    let (last, _, call) = again.event_with_id().await;
    assert_eq!(call["call_id"], "three");
    rig.keep(&record("four")).await;
    assert_eq!(again.event().await.1["call_id"], "four", "and what comes from now on");

    // Of another process, or what nobody has given.
    let mut other = Screen::since(&rig, Some("1f-7")).await;
    assert_eq!(other.event().await, ("missed".into(), Value::Null));
    rig.keep(&record("five")).await;
    assert_eq!(other.event().await.1["call_id"], "five");

    // What was deleted is not given again.
    assert_eq!(rig.delete("/api/calls/four").await.0, 200);
    let mut late = Screen::since(&rig, Some(&last)).await;
    assert_eq!(late.event().await, ("missed".into(), json!(2)));
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
    a_screen_that_comes_again_gets_what_it_missed,
    records_and_events_are_seen_as_they_arrive,
    the_description_names_every_filter,
}
