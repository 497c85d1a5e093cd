//! The addresses of this machine, a socket on each, and the candidates made of them.
//!
//! In: the machine's interfaces. Out: sockets, and local candidates for descriptions and
//! listeners. Each connection has a socket of its own on each address: a LiveKit server with a
//! single UDP port has the same remote address for every observer, so connections that share a socket
//! could not be distinguished. Must never ask STUN or TURN servers; a public server sees our outer
//! address in our checks.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use str0m::{Candidate, net::Protocol};
use tokio::net::UdpSocket;

use super::Core;
use crate::{
    RtcError,
    RtcErrorType::Internal,
    callbacks::Ev,
    driver::in_runtime,
    err,
    ice_candidate::IceCandidate,
    peer_connection::{IceGatheringState, PeerConnectionState},
    transport,
};

impl Core {
    /// Reports every local candidate, also for every restarted ICE session.
    pub(crate) fn gather(&mut self, mid: &str, ufrag: &str) -> Result<(), RtcError> {
        self.set_gathering(IceGatheringState::Gathering);
        self.open_sockets(false)?;
        for c in &self.local_candidates {
            let text = format!("{c} ufrag {ufrag}");
            self.queue.push_back(Ev::Candidate(IceCandidate::local(mid, &text)));
        }
        self.set_gathering(IceGatheringState::Complete);
        Ok(())
    }

    /// Opens the sockets. Called before a description is written, so that it contains our candidates, and
    /// with `again` when ICE restarts: the machine may have new addresses, and the socket of an address
    /// that is gone is of no use.
    pub(crate) fn open_sockets(&mut self, again: bool) -> Result<(), RtcError> {
        if !self.socks.is_empty() && !again {
            return Ok(());
        }
        let addresses = (self.addresses)();
        let old = self.socks.clone();
        let has = |ip: &IpAddr| old.iter().any(|(a, _)| a.ip() == *ip);
        if again && addresses.iter().all(has) && old.len() == addresses.len() {
            return Ok(());
        }
        let _reactor = in_runtime()?;
        // New sockets for all addresses, so that we need not find out which old sockets still work.
        let found: Vec<_> = addresses.into_iter().filter_map(|ip| bind(ip).ok()).collect();
        if found.is_empty() {
            return err(Internal, "no UDP socket could be opened");
        }
        self.socks = Arc::new(found);
        self.local_candidates.clear();
        if !transport::udp() {
            self.try_tcp();
        }
        for (addr, _) in self.socks.clone().iter().filter(|_| transport::udp()) {
            let Ok(c) = Candidate::host(*addr, Protocol::Udp) else { continue };
            let text = self.rtc()?.add_local_candidate(c).map(Candidate::to_sdp_string);
            self.drain();
            let text = text.unwrap_or_default();
            let text = text.split(" ufrag ").next().unwrap_or_default().trim_start_matches("a=");
            if !text.is_empty() {
                self.local_candidates.push(text.into());
            }
        }
        Ok(())
    }

    /// Closes the TCP links of a broken connection: a silent link would swallow the checks of the restarted
    /// ICE session, too.
    pub(crate) fn forget_failed_links(&mut self) {
        if self.connection != PeerConnectionState::Connected {
            self.tcp.close();
        }
    }

    /// Adds TCP candidates when UDP does not connect. The peer need not know them: it sees our address when
    /// we connect.
    pub(super) fn try_tcp(&mut self) {
        if !transport::tcp() {
            return;
        }
        log::debug!("no connection over UDP, trying TCP as well");
        for (addr, _) in self.socks.clone().iter() {
            if let (Some(rtc), Some(c)) = (&mut self.rtc, crate::tcp::candidate(addr.ip())) {
                rtc.add_local_candidate(c);
                self.drain();
            }
        }
    }
}

fn bind(ip: IpAddr) -> std::io::Result<(SocketAddr, UdpSocket)> {
    let s = std::net::UdpSocket::bind(SocketAddr::new(ip, 0))?;
    s.set_nonblocking(true)?;
    Ok((s.local_addr()?, UdpSocket::from_std(s)?))
}

/// The addresses on which to open sockets. Loopback counts only when there is no other address.
pub(super) fn local_addresses() -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let mut ips: Vec<_> = all.iter().map(if_addrs::Interface::ip).filter(usable).collect();
    ips.sort();
    ips.dedup();
    if ips.is_empty() {
        ips.push(Ipv4Addr::LOCALHOST.into());
    }
    ips
}

fn usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v) => !v.is_loopback() && !v.is_link_local(),
        IpAddr::V6(v) => !v.is_loopback() && !v.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_loopback_addresses_are_not_gathered_on() {
        let ok = |s: &str| s.parse().is_ok_and(|ip| usable(&ip));
        assert!(ok("192.0.2.2") && ok("10.0.0.1") && ok("2001:db8::1") && ok("fd00::2"));
        assert!(!ok("127.0.0.1") && !ok("169.254.1.1") && !ok("::1") && !ok("fe80::1"));
    }

    #[test]
    fn there_is_always_an_address() {
        assert!(!local_addresses().is_empty());
    }
}
