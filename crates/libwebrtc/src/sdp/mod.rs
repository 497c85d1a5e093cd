//! Session descriptions: a line-oriented reader, a writer for the few texts that an observer sends,
//! and the private session that str0m sees.
//!
//! In: a peer's untrusted text. Out: sections and their attributes, or an error that names the line.
//! str0m never sees the peer's whole description: [`Projection`] keeps a minimal session with the
//! transport only, so no audio or video attribute can make a negotiation fail. Must never panic, and
//! never let an attribute's text become a line of its own.

mod projection;
mod reader;
mod writer;

pub(crate) use self::{
    projection::Projection,
    reader::{Sdp, Section, Transport},
    writer::{Local, Out},
};

#[cfg(test)]
mod roundtrip;
