//! The receiving side: takes records and live events of calls, keeps them, and answers questions about them.
//!
//! A record that was answered 200 is on disk. Its bytes are kept as they came; everything else here is made from them.
//!
//! | file | its one idea |
//! |---|---|
//! | [`server`] | routes and what is around them, start and stop |
//! | `app` | settings, and what all requests share |
//! | `port` | connections, and their number |
//! | [`intake`] | `POST /call-history` and `POST /call-events` |
//! | [`body`] | reading a body within bounds |
//! | [`signature`] | the token that signs a post |
//! | [`schema`] | the record's schema, relaxed; mistakes by name |
//! | [`access`] | tokens of the API and their scopes |
//! | `permission` | whether a request may do what it asks for |
//! | [`limits`] | how often one reader may ask |
//! | [`password`] | the password of the page |
//! | `first_run` | the link that sets the first one |
//! | [`store`] | the database: one trait, SQLite and Postgres |
//! | [`fields`] | the fields that lists, queries and exports name |
//! | [`call`] | from a record to its row |
//! | [`calls`], [`events`] | kept once, found, listed |
//! | `keeper` | posts that arrive together share a transaction |
//! | [`histogram`] | response times that can be added up |
//! | [`query`] | which calls: the query language |
//! | `conditions` | from a query to conditions of a statement |
//! | `side` | who of a call did something |
//! | [`shown`] | how values are written in answers |
//! | [`stats`], [`aggregate`] | figures over calls |
//! | [`days`] | sums of whole days, for figures over years |
//! | [`explained`] | each number of a record with the moments that made it |
//! | [`deletion`] | what goes, and what stays of it |
//! | `seen` | what came since the start, counted |
//! | [`live`] | what arrives right now |
//! | [`api`] | `GET /api/…` and `DELETE /api/…` |
//! | `throttle` | what repeats has one log line a minute |
//! | [`collector`] | what agents upload: reports, traces, recordings |
//! | [`page`] | what an operator sees in a browser |
//! | [`answer`] | what is answered to a request that is not done |

pub mod access;
pub mod aggregate;
pub mod answer;
pub mod api;
mod app;
pub mod body;
pub mod call;
pub mod calls;
pub mod collector;
mod conditions;
pub mod days;
pub mod deletion;
pub mod events;
pub mod explained;
pub mod fields;
mod first_run;
pub mod histogram;
pub mod intake;
mod keeper;
pub mod limits;
pub mod live;
pub mod page;
pub mod password;
mod permission;
mod port;
pub mod query;
pub mod schema;
mod seen;
pub mod server;
pub mod shown;
mod side;
pub mod signature;
pub mod stats;
pub mod store;
mod throttle;

pub use app::Settings;
pub use server::Receiver;
