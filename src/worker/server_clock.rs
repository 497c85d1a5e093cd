//! Asks LiveKit for the time, at the start and once a minute. A plain request is enough, as HTTP servers
//! date their answers. The result goes to [`WallClock`]; nothing waits for it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{clock::WallClock, config::LiveKit, net};

const ASK_EVERY: Duration = Duration::from_secs(60);
const WITHIN: Duration = Duration::from_secs(5);

/// Never returns.
pub(super) async fn follow(livekit: &LiveKit, wall: &WallClock) {
    let Ok(client) = net::http_client(WITHIN) else { return std::future::pending().await };
    let url = livekit.http_url();
    let mut tick = interval(ASK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let asked = Instant::now();
        let answer = match client.get(&url).send().await {
            Ok(answer) => answer,
            Err(e) => {
                tracing::debug!(error = %e.without_url(), "LiveKit cannot be asked for the time");
                continue;
            }
        };
        wall.learn_answer(answer.headers(), asked);
    }
}
