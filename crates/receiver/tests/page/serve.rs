//! A receiver with samples, to look at: `cargo test -p receiver --test page -- --ignored --nocapture stays`.

use std::io::Write;

use receiver::{Receiver, Settings, store::Place};
use record::Moment;
use reqwest::Client;

use crate::samples;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "stays until it is ended"]
async fn stays() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut settings = Settings::new(Place::folder(folder.path()));
    settings.addr = std::env::var("ADDR").map_or(settings.addr, |addr| addr.parse().unwrap());
    let receiver = Receiver::start(settings).await.unwrap();
    // Other crates of the workspace want TLS of the client, which wants a provider; fails if another test has set it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", receiver.addr());
    let now = Moment::from_millis(chrono::Utc::now().timestamp_millis());
    let mut all: Vec<_> = (0..200).map(|n| samples::call(n, now)).collect();
    let example = include_str!("../../../../docs/schema/example.json");
    all.push(serde_json::from_str(example).unwrap());
    for record in all {
        let post = client.post(url("/call-history")).header("user-agent", "call-history/0.1.0");
        assert_eq!(post.body(record.to_string()).send().await.unwrap().status(), 200);
    }
    for event in samples::running(now) {
        let post = client.post(url("/call-events")).header("user-agent", "call-history/0.1.0");
        assert_eq!(post.body(event.to_string()).send().await.unwrap().status(), 200);
    }
    writeln!(std::io::stderr(), "{}", url("/calls")).unwrap();
    std::future::pending::<()>().await;
}
