//! What all requests of the API share.

use axum::extract::Query as Pairs;

/// Parameters of a request, in their order.
pub(super) type Parameters = Pairs<Vec<(String, String)>>;
