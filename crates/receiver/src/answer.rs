//! What is answered to a request that is not done. Never a secret, and never a value of the request.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{schema::Mistake, store::StoreError, throttle::Throttle};

/// While the database is away, each request would log it.
static FAILED: Throttle = Throttle::new();

/// Seconds after which a request may be sent again when the database does not answer.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A request that is not done: status and reasons.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: StatusCode,
    pub mistakes: Vec<Mistake>,
}

impl Refused {
    /// For one reason that concerns the request as a whole.
    pub fn new(status: StatusCode, problem: impl AsRef<str>) -> Self {
        Self { status, mistakes: vec![Mistake::new("", problem)] }
    }

    pub fn unauthorized(problem: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, problem)
    }

    pub fn not_found(problem: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, problem)
    }

    pub fn bad_request(mistakes: Vec<Mistake>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, mistakes }
    }
}

/// The database did not do it: nothing is lost, as the sender keeps what was not answered 200.
impl From<StoreError> for Refused {
    fn from(e: StoreError) -> Self {
        if let Some(times) = FAILED.due() {
            tracing::error!(error = %e, times, "the database did not do what a request asked for");
        }
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer as it should")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"errors": self.mistakes}))).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
