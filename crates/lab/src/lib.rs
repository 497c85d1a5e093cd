//! The participants, the endpoint and the worker of a scripted call, for the demo, the tests and the
//! benchmarks. The product contains none of this code.
//!
//! | module | what it stands for |
//! |---|---|
//! | [`server`] | the server of the call: the dev server, or the LiveKit server of `LIVEKIT_URL` |
//! | [`person`] | any participant of a room, on LiveKit's Rust SDK |
//! | [`agent`] | a voice agent: states, transcripts, session feed, stages, outcomes |
//! | [`endpoint`] | the operator's endpoint, which can misbehave |
//! | [`worker`] | the `call-history` binary as a child process, and its log |
//! | [`receiver`] | `call-history receive` as a child process |
//! | [`samples`] | a week of sample calls, to look at |
//! | [`signal`] | signals to processes |
//! | [`faults`] | the machine under a worker: a disk that hangs or is full, a wrong clock, names |
//! | [`gateway`] | what stands before an endpoint: TLS, HTTP/2, connections that misbehave |
//! | [`secrets`] | what no worker may log |
//! | [`proxy`] | an HTTP proxy between a worker and everything else |
//! | [`relay`] | a connection between a worker and its server that can be cut |

pub mod agent;
pub mod endpoint;
pub mod faults;
pub mod gateway;
pub mod person;
pub mod proxy;
pub mod receiver;
pub mod relay;
pub mod samples;
pub mod secrets;
pub mod server;
pub mod signal;
pub mod worker;
