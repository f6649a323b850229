//! The wire contract as types: what clients and publishers send, what they get back.
//!
//! Nothing here decides anything. Rows pass through as raw JSON text.

mod client;
mod codec;
mod error;
mod publish;
mod read;
mod restore;
mod server;

pub use client::{
    Action, ClientMessage, Hello, MutateMessage, PresenceChange, PresenceMessage, Refused,
    SignalMessage, SubscribeMessage, decode,
};
pub(crate) use client::{
    decode_again, decode_mutation, decode_subscription_again, key_of, mutations_of,
};
#[cfg(target_arch = "wasm32")]
pub(crate) use codec::joined;
pub(crate) use codec::{
    Fields, JsonWriter, depth_is_bounded, from_object, object, text_of, write_text,
};
pub use error::{Close, Code, Problem};
pub use publish::{CallBody, ChangeRequest, PublishBody, TopicsBody};
pub use read::{ReadRequest, Stay, event_lines};
pub use restore::RestoreBody;
pub(crate) use server::{
    ChangeFrame, Snapshot, ack, authed, batch, batch_part, change, change_item, channel_change,
    channel_reset, error, member, members, presence, presence_body, reject, results, session,
    signal, welcome,
};

/// The protocol version that this server speaks.
pub const VERSION: u64 = 1;

/// The hash of the schema of all messages in this version, as the golden messages in `tests/golden/`
/// have it. A test holds the two together.
pub const SCHEMA_HASH: &str = "74536fc6e8533ff8";
