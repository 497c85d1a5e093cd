//! Session descriptions: a line-oriented reader, a writer for the few texts an observer sends,
//! and the private session str0m is shown.
//!
//! In: a peer's text, which may be anything. Out: sections and their attributes, or an error
//! that names the line. str0m never sees the peer's whole description: [`Projection`] keeps a
//! minimal session that carries only the transport, so no audio or video attribute can make a
//! negotiation fail. Never: a panic, or a line that breaks out of its attribute into another.

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
