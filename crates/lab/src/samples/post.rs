//! Signed posts to an endpoint.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use reqwest::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Posts records as a worker with this secret does.
///
/// # Errors
/// If one is not taken.
pub async fn post(endpoint: &str, records: &[Value], secret: &str) -> Result<()> {
    let client = Client::builder().no_proxy().user_agent("call-history/samples").build()?;
    for record in records {
        let body = record.to_string();
        let now = get_current_timestamp();
        let claims = json!({
            "phone_number": record["phone_number"], "timestamp": record["end_time"], "jti": record["call_id"],
            "iat": now, "exp": now + 300, "sha256": BASE64.encode(Sha256::digest(&body)),
        });
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::default(), &claims, &key)?;
        let request = client.post(endpoint).bearer_auth(token).body(body);
        let answer = request.header("content-type", "application/json").send().await;
        let answer = answer.with_context(|| format!("posting to {endpoint}"))?;
        let status = answer.status();
        ensure!(status.is_success(), "{status} from {endpoint}: {}", answer.text().await?);
    }
    Ok(())
}
