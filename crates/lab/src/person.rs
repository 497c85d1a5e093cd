//! Any participant of a room, on LiveKit's Rust SDK. This build's SDK carries no sound. Agents send
//! their transcripts and states all the same.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use livekit::{
    DisconnectReason, SendTextOptions,
    prelude::{DataPacket, LocalParticipant, Room, RoomEvent, RoomOptions, SipDTMF},
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{sleep, timeout},
};

use crate::{
    secrets,
    server::{Ticket, Venue},
};

const WITHIN: Duration = Duration::from_secs(90);

pub struct Person {
    pub room: Room,
    pub identity: String,
    events: UnboundedReceiver<RoomEvent>,
}

impl Person {
    /// # Errors
    /// If the server refuses the join.
    pub async fn join(venue: &Venue, ticket: &Ticket) -> Result<Self> {
        sockets::install();
        let token = venue.token(ticket)?;
        let mut options = RoomOptions::default();
        options.auto_subscribe = false;
        let (room, events) = timeout(WITHIN, Room::connect(&venue.url, &token, options))
            .await
            .context("joining takes too long")??;
        Ok(Self { room, identity: ticket.identity.clone(), events })
    }

    /// Joins as a phone caller, as the SIP bridge does.
    ///
    /// # Errors
    /// As [`Person::join`].
    pub async fn phone(
        venue: &Venue,
        room: &str,
        number: &str,
        status: &str,
        inbound: bool,
        agents: &[&str],
    ) -> Result<Self> {
        secrets::keep(number);
        let mut attributes = vec![
            ("sip.callID".to_owned(), format!("SCL_{}", uuid::Uuid::new_v4().simple())),
            ("sip.callStatus".to_owned(), status.to_owned()),
            ("sip.phoneNumber".to_owned(), number.to_owned()),
            ("sip.trunkID".to_owned(), "ST_lab".to_owned()),
        ];
        if inbound {
            attributes.push(("sip.ruleID".to_owned(), "SDR_lab".to_owned()));
        }
        let ticket = Ticket {
            room: room.to_owned(),
            identity: format!("sip_{number}"),
            kind: "sip",
            attributes,
            agents: agents.iter().map(|a| (*a).to_owned()).collect(),
            ..Default::default()
        };
        Self::join(venue, &ticket).await
    }

    pub fn me(&self) -> LocalParticipant {
        self.room.local_participant()
    }

    /// Sets an attribute of its own. Returns when the server confirms or announces the change:
    /// `livekit` 0.10 misses a confirmation that arrives before it waits for one.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        let me = self.me();
        let attributes = HashMap::from([(key.to_owned(), value.to_owned())]);
        let announced = async {
            while me.attributes().get(key).map(String::as_str) != Some(value) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            answer = me.set_attributes(attributes) => Ok(answer?),
            () = announced => Ok(()),
        }
    }

    /// Sends a text on a topic, as one stream.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn sends_text(&self, topic: &str, text: &str) -> Result<()> {
        let options = SendTextOptions::new_with_topic(topic);
        self.me().send_text(text, options).await?;
        Ok(())
    }

    /// Sends a data packet.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn packet(&self, topic: &str, payload: Vec<u8>) -> Result<()> {
        let topic = Some(topic.to_owned());
        let packet = DataPacket { payload, topic, reliable: true, ..Default::default() };
        Ok(self.me().publish_data(packet).await?)
    }

    /// Dials digits, as the SIP bridge passes them on.
    ///
    /// # Errors
    /// If they cannot be sent.
    pub async fn dials(&self, digits: &str) -> Result<()> {
        for digit in digits.chars() {
            let dtmf = SipDTMF { code: 0, digit: digit.to_string(), ..Default::default() };
            self.me().publish_dtmf(dtmf).await?;
        }
        Ok(())
    }

    /// Sends a message of a Pipecat bot, or of its client.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn rtvi(&self, kind: &str, data: Value) -> Result<()> {
        let message = json!({"label": "rtvi-ai", "type": kind, "data": data});
        self.packet("", message.to_string().into_bytes()).await
    }

    /// Hangs up as the SIP bridge does: the status first, then the leave.
    ///
    /// # Errors
    /// If the status is refused.
    pub async fn hangs_up(self) -> Result<()> {
        self.set("sip.callStatus", "hangup").await?;
        self.leaves(DisconnectReason::ClientInitiated).await
    }

    /// # Errors
    /// If the room does not close.
    pub async fn leaves(self, reason: DisconnectReason) -> Result<()> {
        timeout(WITHIN, self.room.close_with_reason(reason)).await.context("leaving")??;
        Ok(())
    }

    /// Waits for the first event for which `what` returns `Some`.
    ///
    /// # Errors
    /// If it does not arrive in time.
    pub async fn sees<T>(&mut self, mut what: impl FnMut(&RoomEvent) -> Option<T>) -> Result<T> {
        let look = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = what(&event) {
                    return Ok(found);
                }
            }
            bail!("the room ended first")
        };
        timeout(WITHIN, look).await.context("not seen in time")?
    }
}
