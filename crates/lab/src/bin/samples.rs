//! Posts sample calls to a receiver that takes them unsigned: `samples ENDPOINT COUNT [NOW]`. They are of the week before
//! NOW (RFC 3339), by default of the week before today's time. For tests of the page.

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().context("samples ENDPOINT COUNT [NOW]")?;
    let count = args.next().context("how many?")?.parse()?;
    let now: DateTime<Utc> = match args.next() {
        Some(now) => DateTime::parse_from_rfc3339(&now)?.into(),
        None => Utc::now(),
    };
    lab::server::init();
    let records = lab::samples::week(now.timestamp_millis(), count)?;
    lab::samples::post(&endpoint, &records, lab::worker::JWT_SECRET).await
}
