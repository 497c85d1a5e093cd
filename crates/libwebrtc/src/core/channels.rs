//! The data channels of a connection, between str0m and their handles.
//!
//! In: messages from handles (their outbox) and from str0m. Out: the same messages to the other side,
//! and events. str0m gets a channel only once there is an SCTP association to open it on. Until then
//! the channel exists only here, so that closing it leaves nothing behind: `livekit` closes its
//! negotiated channels before connecting when the server is too old for them, and str0m's
//! `close_data_channel` does nothing to a channel without a stream. Channels and waiting bytes must
//! never exceed `limits`.

use std::sync::Arc;

use str0m::channel::{ChannelConfig, ChannelData, ChannelId, Reliability};

use super::Core;
use crate::{
    callbacks::Ev,
    data_channel::{DataChannelInit, DataChannelState, Dc},
    limits::CHANNELS,
};

pub(crate) struct Chan {
    pub(crate) dc: Arc<Dc>,
    /// str0m's id of the channel, once str0m has it.
    pub(crate) cid: Option<ChannelId>,
    /// Bytes that str0m has taken but not yet reported as delivered.
    inflight: usize,
}

impl Chan {
    pub(crate) fn new(dc: Arc<Dc>) -> Chan {
        Chan { dc, cid: None, inflight: 0 }
    }
}

impl Core {
    pub(super) fn channel_open(&mut self, cid: ChannelId, label: String) {
        let Some(rtc) = &mut self.rtc else { return };
        let stream = rtc.direct_api().sctp_stream_id_by_channel_id(cid);
        if let Some(c) = self.chans.iter().find(|c| c.cid == Some(cid)) {
            let dc = c.dc.clone();
            dc.set_id(stream);
            self.counters.channels_opened += 1;
            return self.set_dc(&dc, DataChannelState::Open);
        }
        if self.chans.len() >= CHANNELS {
            log::warn!("the peer opened more than {CHANNELS} data channels: refused");
            return rtc.direct_api().close_data_channel(cid);
        }
        self.counters.channels_opened += 1;
        let dc = Arc::new(Dc::new(label, DataChannelInit::default()));
        dc.set_id(stream);
        dc.set_state(DataChannelState::Open);
        self.chans.push(Chan { dc: dc.clone(), cid: Some(cid), inflight: 0 });
        self.queue.push_back(Ev::Opened(dc.clone()));
        self.queue.push_back(Ev::DcState(dc, DataChannelState::Open));
    }

    pub(super) fn channel_data(&mut self, d: ChannelData) {
        if let Some(c) = self.chans.iter().find(|c| c.cid == Some(d.id))
            && c.dc.receive(d.binary, d.data)
        {
            self.queue.push_back(Ev::DcInbox(c.dc.clone()));
        }
    }

    pub(super) fn channel_close(&mut self, cid: ChannelId) {
        if let Some(i) = self.chans.iter().position(|c| c.cid == Some(cid)) {
            let dc = self.chans.remove(i).dc;
            self.counters.channels_closed += 1;
            self.set_dc(&dc, DataChannelState::Closed);
        }
    }

    pub(super) fn close_channels(&mut self) {
        for c in std::mem::take(&mut self.chans) {
            self.set_dc(&c.dc, DataChannelState::Closed);
        }
    }

    /// Closes a channel at the request of its handle.
    pub(crate) fn close_channel(&mut self, dc: &Arc<Dc>) {
        let Some(i) = self.chans.iter().position(|c| Arc::ptr_eq(&c.dc, dc)) else { return };
        match self.chans[i].cid {
            Some(cid) => {
                self.set_dc(dc, DataChannelState::Closing);
                if let Ok(rtc) = self.rtc() {
                    rtc.direct_api().close_data_channel(cid);
                }
            }
            None => {
                self.chans.remove(i);
                self.set_dc(dc, DataChannelState::Closed);
            }
        }
    }

    fn set_dc(&mut self, dc: &Arc<Dc>, s: DataChannelState) {
        if dc.set_state(s) {
            self.queue.push_back(Ev::DcState(dc.clone(), s));
        }
    }

    /// Passes the channels that str0m does not have yet to str0m, if there is an association.
    pub(crate) fn start_channels(&mut self) {
        if !self.sctp_started {
            return;
        }
        for i in 0..self.chans.len() {
            let (Some(rtc), Some(c)) = (&mut self.rtc, self.chans.get_mut(i)) else { return };
            if c.cid.is_none() {
                c.cid = Some(rtc.direct_api().create_data_channel(config(&c.dc)));
                self.advance();
            }
        }
    }

    /// Passes one waiting message to str0m. False if no message waits, or str0m has no room.
    pub(super) fn write_one(&mut self) -> bool {
        let Some(rtc) = &mut self.rtc else { return false };
        for c in &mut self.chans {
            let mut out = c.dc.outbox.lock();
            let (Some((binary, data)), Some(cid)) = (out.front(), c.cid) else { continue };
            let Some(mut channel) = rtc.channel(cid) else { continue };
            let len = data.len();
            match channel.write(*binary, data) {
                Ok(true) => c.inflight += len,
                Ok(false) => continue,
                Err(e) => {
                    log::warn!("message on '{}' not sent: {e}", c.dc.label);
                    c.dc.sub_buffered(len as u64);
                    self.queue.push_back(Ev::DcSent(c.dc.clone(), len as u64));
                }
            }
            out.pop_front();
            return true;
        }
        false
    }

    /// Reports to handles how many of their bytes were delivered.
    pub(super) fn report_sent(&mut self) {
        let Some(rtc) = &mut self.rtc else { return };
        for c in self.chans.iter_mut().filter(|c| c.inflight > 0) {
            let left = match c.cid.and_then(|cid| rtc.channel(cid)) {
                Some(mut ch) => ch.buffered_amount().min(c.inflight),
                None => 0,
            };
            if left < c.inflight {
                let sent = (c.inflight - left) as u64;
                c.inflight = left;
                c.dc.sub_buffered(sent);
                self.queue.push_back(Ev::DcSent(c.dc.clone(), sent));
            }
        }
    }
}

fn config(dc: &Dc) -> ChannelConfig {
    let init = &dc.init;
    let clamp = |v: i32| v.clamp(0, i32::from(u16::MAX)) as u16;
    ChannelConfig {
        label: dc.label.clone(),
        ordered: init.ordered,
        reliability: match (init.max_retransmits, init.max_retransmit_time) {
            (Some(n), _) => Reliability::MaxRetransmits { retransmits: clamp(n) },
            (_, Some(ms)) => Reliability::MaxPacketLifetime { lifetime: clamp(ms) },
            _ => Reliability::Reliable,
        },
        negotiated: init.negotiated.then(|| clamp(init.id)),
        protocol: init.protocol.clone(),
    }
}
