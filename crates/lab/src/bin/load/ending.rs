//! Rooms that end: how soon their records arrive at the endpoint, and whether all arrive.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    bench::{AGENT_NAME, Bench, LOGS_WITHIN, has_message, rooms},
    report::{Endings, Spread, millis},
};

/// How long a call lasts: long enough for the traffic of the join to be over.
const CALL_FOR: Duration = Duration::from_millis(300);
const POSTED_WITHIN: Duration = Duration::from_secs(30);

impl Bench {
    /// Opens calls one after the other and ends each by deleting its room, while the other calls go on.
    ///
    /// # Errors
    /// If a call cannot be opened, or its record does not arrive.
    pub(crate) async fn deletions(&mut self, what: &str) -> Result<Endings> {
        let (mut answered, mut ended, mut posted) = (vec![], vec![], vec![]);
        let api = self.venue.rooms();
        for room in rooms(what, self.args.deletions) {
            let one = [room.clone()];
            self.crowd.open(&one, 1, Some(AGENT_NAME)).await?;
            self.crowd.opened(&one).await?.all()?;
            self.logs("call started", &room).await?;
            self.opened.push(room.clone());
            sleep(CALL_FOR).await;
            let began = Instant::now();
            api.delete_room(&room).await?;
            answered.push(millis(began.elapsed()));
            ended.push(millis(self.logs("call ended", &room).await? - began));
            let posts = self.endpoint.wait(&room, 1, POSTED_WITHIN).await?;
            posted.push(millis(posts[0].at - began));
            self.crowd.forget(&one).await?;
        }
        Ok(Endings {
            answered_ms: Spread::of(answered),
            ended_ms: Spread::of(ended),
            posted_ms: Spread::of(posted),
        })
    }

    /// Waits until the worker logs this message about a room. Returns the time.
    async fn logs(&mut self, message: &str, room: &str) -> Result<Instant> {
        let line =
            |at, line: &Value| (has_message(line, message) && line["room"] == *room).then_some(at);
        let at = self.worker()?.wait_for(LOGS_WITHIN, line).await;
        at.with_context(|| format!("no \"{message}\" about {room}"))
    }

    /// Deletes these rooms as fast as the server can, and waits for their records.
    ///
    /// # Errors
    /// If the server refuses.
    pub(crate) async fn end_calls(&mut self, rooms: &[String]) -> Result<(Duration, usize)> {
        let api = self.venue.rooms();
        let began = Instant::now();
        let before = self.endpoint.posts().len();
        for room in rooms {
            // A room whose participants could not join may have closed by itself.
            let _ = api.delete_room(room).await;
        }
        let all = async {
            while self.endpoint.posts().len() < before + rooms.len() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        // The report shows how many records are missing.
        let _ = timeout(POSTED_WITHIN, all).await;
        let posts = self.endpoint.posts();
        let new = posts.get(before..).unwrap_or_default();
        let last = new.iter().map(|p| p.at - began).max().unwrap_or_default();
        self.crowd.forget(rooms).await?;
        Ok((last, new.len()))
    }

    /// Calls opened, calls reported, and calls reported more than once.
    pub(crate) fn tally(&self) -> (usize, usize, usize) {
        let mut posts = HashMap::<String, usize>::new();
        for post in self.endpoint.posts() {
            let record = post.record().unwrap_or_default();
            *posts.entry(record["room_name"].to_string()).or_default() += 1;
        }
        let reported =
            |room: &&String| posts.contains_key(&Value::String((*room).clone()).to_string());
        let twice = posts.values().filter(|n| **n > 1).count();
        (self.opened.len(), self.opened.iter().filter(reported).count(), twice)
    }
}
