//! The wire contract as types: what clients and publishers send, what they get back.
//!
//! Nothing here decides anything. Rows pass through as raw JSON text.

mod client;
mod codec;
mod error;
mod publish;
mod restore;
mod server;

pub(crate) use client::key_of;
pub use client::{
    Action, ClientMessage, Hello, MutateMessage, PresenceChange, PresenceMessage, Refused,
    SignalMessage, SubscribeMessage, decode,
};
#[cfg(target_arch = "wasm32")]
pub(crate) use codec::joined;
pub(crate) use codec::{
    Fields, JsonWriter, depth_is_bounded, from_object, object, text_of, write_text,
};
pub use error::{Close, Code, Problem};
pub use publish::{CallBody, ChangeRequest, PublishBody, TopicsBody};
pub use restore::RestoreBody;
pub(crate) use server::{
    ChangeFrame, Snapshot, ack, authed, batch, batch_part, change, change_item, channel_change,
    channel_reset, error, member, members, presence, presence_body, reject, session, signal,
    welcome,
};

/// The protocol version that this server speaks.
pub const VERSION: u64 = 1;
