//! The receiver as others see it: over HTTP, on both engines.
//!
//! | file | what it shows |
//! |---|---|
//! | [`intake`] | what is taken, and what is refused |
//! | [`once`] | a record is kept once, whatever happens |
//! | [`lists`] | queries, pages, exports |
//! | [`figures`] | statistics, the same on both engines |
//! | [`deletion`] | what goes and what stays |
//! | [`rights`] | tokens and scopes |
//! | [`limits`] | how often one reader may ask |
//! | [`screens`] | what is seen live |
//! | [`logs`] | what stands in the log |
//! | [`collector`] | what agents upload |
//! | [`rig`], [`postgres`] | a receiver, and a Postgres, for a test |

// Helpers of tests are not tests to clippy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod collector;
mod deletion;
mod figures;
mod intake;
mod limits;
mod lists;
mod logs;
mod once;
mod postgres;
mod rig;
mod rights;
mod screens;
