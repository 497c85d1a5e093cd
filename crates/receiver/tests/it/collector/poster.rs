//! A receiver that takes uploads, and an agent that posts them.

use std::path::PathBuf;

use reqwest::{RequestBuilder, header};
use serde_json::Value;

use super::agents::{Recorded, Request, on, token};
use crate::rig::{Engine, Rig};

/// A receiver that takes uploads.
pub(crate) async fn collecting(engine: Engine) -> Rig {
    Rig::with(engine, on).await
}

impl Rig {
    /// A request of an agent, with a token.
    pub(crate) fn upload(&self, request: &Request) -> RequestBuilder {
        let mut post = self.client.post(self.url(&request.path)).body(request.body.clone());
        post = post.header(header::CONTENT_TYPE, &request.content_type).bearer_auth(token());
        match &request.content_encoding {
            Some(encoding) => post.header(header::CONTENT_ENCODING, encoding),
            None => post,
        }
    }

    /// Posts all that the agent of a call posted.
    pub(crate) async fn replay(&self, call: &Recorded) {
        for request in call.requests() {
            let answer = self.upload(&request).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{} {}", call.name, request.path);
            assert_eq!(answer.headers()[header::CONNECTION], "close", "the port has only so many");
            assert_eq!(answer.text().await.unwrap(), "", "{}", request.path);
        }
    }

    pub(crate) async fn uploads(&self, call_id: &str) -> Value {
        let (status, uploads) = self.get(&format!("/api/calls/{call_id}/uploads")).await;
        assert_eq!(status, 200, "{uploads}");
        uploads
    }

    /// The files of recordings, and their bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = vec![];
        let mut folders = vec![self.home.recordings()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
                let (path, meta) = (entry.path(), entry.metadata().unwrap());
                if meta.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path, meta.len()));
                }
            }
        }
        found
    }
}
