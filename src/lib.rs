//! Realtime sync for Cloudflare: channels, rows, cursors and scoped fan-out in a Durable Object.
//!
//! ```text
//! browser ── /api/sync ──▶ app Worker ── service binding ──▶ sync Worker ──▶ SyncEngine
//! publisher ─ /broadcast ─▶                                   token, space    Durable Object
//!
//! inside the object, one turn:
//!
//!   frame, publish,      ┌───────────────── Engine::handle ─────────────────┐      Effects:
//!   close, alarm ──────▶ │ protocol ▶ rules ▶ store (SQLite) ▶ hub ▶ outbox │ ───▶ saves, frames,
//!                        └──────────────────────────────────────────────────┘      closes, reply
//! ```
//!
//! The engine is synchronous and pure: no clock, no socket, no `async`, so that *read the backlog,
//! reply, join the hub* is one turn and nothing falls between a snapshot and the live stream.
//! `workers` alone knows the platform.

mod audience;
mod auth;
mod backup;
mod channel;
mod config;
mod cursor;
mod digest;
mod engine;
mod hub;
#[cfg(any(target_arch = "wasm32", test))]
mod inbox;
mod lanes;
pub mod limits;
mod names;
mod observe;
mod outbox;
#[cfg(any(target_arch = "wasm32", test))]
mod packed;
#[cfg(any(target_arch = "wasm32", test))]
mod plain_url;
pub mod protocol;
pub mod publisher;
mod rate;
mod row;
mod session;
mod small_map;
pub mod source;
mod store;
#[cfg(target_arch = "wasm32")]
pub mod workers;

pub use audience::{Audience, Topics, TopicsError};
pub use auth::{
    Algorithm, AuthError, Claims, Expected, Jwk, Jwks, JwksError, Jwt, KeyCache, Lookup, Pass,
    Secret, Verified, read_answer,
};
pub use channel::{Access, FieldScope, Keep, Retain, Rule, Rules, Scope};
pub use config::{
    Config, ConfigError, Credentials, Endpoint, Finding, Judgement, Log, Publisher, Severity,
    Tokens, examine,
};
pub use cursor::{Cursor, Epoch};
pub use engine::{Call, Closing, Effects, End, Engine, Input, Reply, Stays, StreamEvent};
pub use names::{
    Channel, ConnId, Identity, Key, Millis, NameError, RequestId, Seq, SessionId, Space, Topic,
};
pub use observe::{Event, Observer, Operation, Outcome, Point};
pub use outbox::{Outgoing, Place};
pub use session::{Asker, ChannelPass, Dialect, Grant, Presence, Session, Subscription};
pub use small_map::SmallMap;
pub use store::{Columns, Param, Seed, Sql, SqlError, space_of};
