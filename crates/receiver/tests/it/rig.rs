//! A receiver for a test, and a client that speaks with it.

use std::{net::SocketAddr, time::Duration};

use receiver::{Receiver, Settings, collector::Recordings, store::Place};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres;

/// No test waits longer for one answer. It is far more than any of them takes.
pub(crate) const GENEROUS: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// Makes a test of each function, for each engine.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::rig::Engine::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::rig::Engine::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// Where the data of a test is.
pub(crate) struct Home {
    /// Removed with it.
    pub(crate) folder: TempDir,
    pub(crate) place: Place,
}

impl Home {
    pub(crate) async fn new(engine: Engine) -> Self {
        let folder = TempDir::new().unwrap();
        let place = match engine {
            Engine::Sqlite => Place::folder(folder.path().join("data")),
            Engine::Postgres => Place::postgres(postgres::database().await),
        };
        Self { folder, place }
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.place.clone());
        settings.addr = "127.0.0.1:0".parse().unwrap();
        settings.recordings = Recordings::Folder(self.recordings());
        settings
    }

    pub(crate) fn recordings(&self) -> std::path::PathBuf {
        self.folder.path().join("recordings")
    }
}

pub(crate) struct Rig {
    pub(crate) receiver: Receiver,
    pub(crate) client: Client,
    pub(crate) home: Home,
}

impl Rig {
    pub(crate) async fn new(engine: Engine) -> Self {
        Self::with(engine, |_| {}).await
    }

    pub(crate) async fn with(engine: Engine, change: impl FnOnce(&mut Settings)) -> Self {
        let home = Home::new(engine).await;
        let mut settings = home.settings();
        change(&mut settings);
        let receiver = Receiver::start(settings).await.unwrap();
        Self { receiver, client: client(), home }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        url(self.receiver.addr(), path)
    }

    pub(crate) fn post(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(self.url("/call-history")).body(body)
    }

    pub(crate) async fn keep(&self, record: &Value) {
        let response = self.post(record.to_string()).send().await.unwrap();
        let (status, answer) = answer(response).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.client.delete(self.url(path)).send().await.unwrap()).await
    }

    /// The ids of a list, in its order.
    pub(crate) async fn ids(&self, query: &str) -> Vec<String> {
        let (status, list) = self.get(&format!("/api/calls?limit=500&{query}")).await;
        assert_eq!(status, 200, "{query}: {list}");
        let calls = list["calls"].as_array().unwrap();
        calls.iter().map(|call| call["call_id"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn client() -> Client {
    // Other crates of the workspace want TLS of the client, which wants a provider; fails if another test has set it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().timeout(GENEROUS).build().unwrap()
}

pub(crate) fn url(addr: SocketAddr, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", addr.port())
}

/// Status and JSON of an answer; null if it is none.
pub(crate) async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// A record as the user's document has it.
pub(crate) fn record(id: &str) -> Value {
    let mut record: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/example.json")).unwrap();
    record["call_id"] = id.into();
    record
}

/// The same with parts of the details.
pub(crate) fn detailed(id: &str, start: &str, agent: &[f64]) -> Value {
    let mut record = record(id);
    record["start_time"] = start.into();
    record["end_time"] = start.into();
    let mut sorted = agent.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| sorted.get((sorted.len() as f64 * part).ceil() as usize - 1).copied();
    let distribution = (!agent.is_empty()).then(|| {
        json!({
            "count": agent.len(), "min": at(0.001), "p50": at(0.5), "p90": at(0.9), "p95": at(0.95),
            "p99": at(0.99), "max": at(1.0), "values": agent,
        })
    });
    record["details"] = json!({
        "ended_by": "caller",
        "observation": {
            "gaps": [], "start_time_basis": "observed", "end_time_basis": "observed",
        },
        "latency": {"agent_response": distribution, "user_response": null, "components": null},
        "talk": {"user_seconds": 10.5, "agent_seconds": 20.25, "overlap_seconds": null},
        "transcript": [],
    });
    record
}
