//! A receiver with some calls, and a browser that does not follow.

use receiver::{
    Receiver, Settings,
    access::{self, Scope},
    store::{self, Place},
};
use record::Moment;
use reqwest::{Client, Response, redirect::Policy};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const NOW: &str = "2026-11-27T18:30:00.000Z";

pub(crate) struct Rig {
    pub(crate) receiver: Receiver,
    pub(crate) client: Client,
    pub(crate) place: Place,
    folder: TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1:0", None).await
    }

    pub(crate) async fn on_postgres() -> Self {
        let url = crate::postgres::database().await;
        Self::at("127.0.0.1:0", Some(Place::postgres(url))).await
    }

    /// Takes uploads of agents.
    pub(crate) async fn collecting() -> Self {
        Self::with("127.0.0.1:0", None, crate::agents::on).await
    }

    /// Not loopback only: everybody needs a token.
    pub(crate) async fn public() -> Self {
        Self::at("0.0.0.0:0", None).await
    }

    /// Anybody may look.
    pub(crate) async fn demo() -> Self {
        Self::with("127.0.0.1:0", None, |settings| settings.demo = true).await
    }

    async fn at(addr: &str, place: Option<Place>) -> Self {
        Self::with(addr, place, |_| {}).await
    }

    pub(crate) async fn with(
        addr: &str,
        place: Option<Place>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let place = place.unwrap_or(Place::folder(folder.path()));
        let mut settings = Settings::new(place.clone());
        settings.addr = addr.parse().unwrap();
        let now = Moment::parse_rfc3339(NOW).unwrap();
        settings.now = std::sync::Arc::new(move || now);
        change(&mut settings);
        let receiver = Receiver::start(settings).await.unwrap();
        // Other crates of the workspace want TLS of the client, which wants a provider; fails if another test has set it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { receiver, client, place, folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.receiver.addr().port())
    }

    pub(crate) async fn token(&self, scopes: &[Scope]) -> String {
        let store = store::open(&self.place).await.unwrap();
        let (_, token) = access::create(&*store, "test", scopes, Moment::MIN).await.unwrap();
        token
    }

    pub(crate) async fn keep(&self, record: &Value, token: Option<&str>) {
        let mut post = self.client.post(self.url("/call-history")).body(record.to_string());
        if let Some(token) = token {
            post = post.bearer_auth(token);
        }
        let response = post.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// All that the agent of a recorded call uploaded.
    pub(crate) async fn replay(&self, call: &crate::agents::Recorded) {
        for request in call.requests() {
            let mut post = self.client.post(self.url(&request.path)).body(request.body);
            post = post
                .header("content-type", request.content_type)
                .bearer_auth(crate::agents::token());
            if let Some(encoding) = request.content_encoding {
                post = post.header("content-encoding", encoding);
            }
            assert_eq!(post.send().await.unwrap().status(), 200);
        }
    }

    /// Files of recordings, in all folders.
    pub(crate) fn recordings(&self) -> usize {
        let mut folders = vec![self.folder.path().join("recordings")];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    files += 1;
                }
            }
        }
        files
    }

    /// Sends a form, as a browser with this cookie does.
    pub(crate) async fn send(&self, path: &str, fields: &str, cookie: &str) -> Response {
        let post = self.client.post(self.url(path)).body(fields.to_owned());
        let post = post.header("content-type", "application/x-www-form-urlencoded");
        post.header("sec-fetch-site", "same-origin").header("cookie", cookie).send().await.unwrap()
    }

    /// The HTML of a page that is there.
    pub(crate) async fn page(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        response.text().await.unwrap()
    }
}
