//! Session descriptions: a writer for the few texts that an observer sends, and the private session
//! that str0m sees. The crate `sdp` reads the peer's text.
//!
//! str0m never sees the peer's whole description: [`Projection`] keeps a minimal session with the
//! transport only, so no audio or video attribute can make a negotiation fail. Must never panic, and
//! never let an attribute's text become a line of its own.

mod projection;
mod writer;

pub(crate) use ::sdp::{Sdp, Section, Transport};

pub(crate) use self::{
    projection::Projection,
    writer::{Local, Out},
};

#[cfg(test)]
mod roundtrip;
