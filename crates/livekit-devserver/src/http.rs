//! The HTTP paths and their handlers.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use crate::{agents, hub::Hub, signal, twirp};

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let mut router = Router::new()
        .route("/", get(|| async { "OK" }))
        .route("/rtc", get(signal::rtc))
        .route("/rtc/validate", get(signal::validate))
        .route("/rtc/v1/validate", get(signal::validate))
        .route("/agent", get(agents::agent))
        .route("/twirp/{service}/{method}", post(twirp::twirp));
    if hub.config.single_peer_connection {
        router = router.route("/rtc/v1", get(signal::rtc));
    }
    router.with_state(hub)
}
