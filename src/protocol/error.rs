//! Error codes, close codes, and the error that travels to a peer.

use std::borrow::Cow;
use std::fmt;

use super::codec::JsonWriter;

/// What went wrong, in the wire contract's words. Clients decide by the code, never by the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The frame or body is not what the contract describes. Mend the client.
    Malformed,
    /// The frame exceeds [`crate::limits::FRAME_BYTES`], or a body its bound.
    FrameTooLarge,
    /// `hello` asked for a protocol version that this server does not speak.
    UnsupportedVersion,
    /// The client's schema is below the server's minimum. Update the app.
    SchemaOutdated,
    /// A verified identity is needed. Sign in, or renew the token.
    Unauthorized,
    /// This identity may not do that. Do not retry.
    Forbidden,
    /// No rule matches the channel. Declare it in `SYNC_CHANNELS`.
    UnknownChannel,
    /// Nobody may write to the channel from a client.
    ReadOnly,
    /// A value breaks a rule; `field` names it.
    Invalid,
    /// No such row that the sender may see.
    NotFound,
    /// Another state or content stands in the way; `current` may hold it.
    Conflict,
    /// Too fast. Wait `retryAfterMs`.
    RateLimited,
    /// The connection's subscriptions are used up. Unsubscribe first.
    TooManySubscriptions,
    /// The server cannot do it now. Retry with backoff.
    Unavailable,
    /// A defect of the server. It has been logged there.
    Internal,
}

impl Code {
    /// The code's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::FrameTooLarge => "frame_too_large",
            Self::UnsupportedVersion => "unsupported_version",
            Self::SchemaOutdated => "schema_outdated",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::UnknownChannel => "unknown_channel",
            Self::ReadOnly => "read_only",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later without any change to it.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable)
    }

    /// The HTTP status that fits.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed
            | Self::Invalid
            | Self::UnknownChannel
            | Self::UnsupportedVersion
            | Self::SchemaOutdated
            | Self::TooManySubscriptions => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::ReadOnly => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::FrameTooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// An error as its peer sees it: a code, a stable text without user data, and what helps to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of error it is.
    pub code: Code,
    /// For people. Stable, lower-case, never holds user data.
    pub message: Cow<'static, str>,
    /// The field that breaks a rule.
    pub field: Option<String>,
    /// How long to wait before a retry, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The row that stands in the way of an older write, as raw JSON.
    pub current: Option<String>,
}

impl Problem {
    /// A problem that has only a code and a text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            retry_after_ms: None,
            current: None,
        }
    }

    /// A frame or body that is not what the contract describes.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Malformed, message)
    }

    /// A value that breaks a rule.
    pub fn invalid(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(Code::Invalid, message)
        }
    }

    /// Appends `{"code":…,"message":…,…}`.
    pub(crate) fn write(&self, out: &mut JsonWriter) {
        out.object(|o| {
            o.text("code", self.code.as_str());
            o.text("message", &self.message);
            if let Some(field) = &self.field {
                o.text("field", field);
            }
            o.bool("retryable", self.code.retryable());
            if let Some(ms) = self.retry_after_ms {
                o.number("retryAfterMs", ms);
            }
            if let Some(row) = &self.current {
                o.raw("current", row);
            }
        });
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Problem {}

/// Why the server closes a socket. 4000–4499 mean reconnect, 4500–4999 mean do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The server restarts, or may have missed a frame: reconnect and resume from the cursors.
    Restart,
    /// The session's token has expired: renew it, then reconnect.
    AuthExpired,
    /// The client kept sending too fast.
    RateLimited,
    /// What the client asked for is not allowed, and will not be.
    Forbidden,
    /// The client broke the protocol.
    Protocol,
    /// The client's protocol version is not spoken here.
    Version,
    /// The client's schema is below the minimum.
    Schema,
    /// The session was revoked.
    Revoked,
}

impl Close {
    /// The WebSocket close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Restart => 4000,
            Self::AuthExpired => 4001,
            Self::RateLimited => 4008,
            Self::Forbidden => 4501,
            Self::Protocol => 4502,
            Self::Version => 4503,
            Self::Schema => 4504,
            Self::Revoked => 4505,
        }
    }

    /// The reason that goes with the code, well below the 123 bytes a close frame may carry.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::AuthExpired => "auth expired",
            Self::RateLimited => "rate limited",
            Self::Forbidden => "forbidden",
            Self::Protocol => "protocol violation",
            Self::Version => "unsupported version",
            Self::Schema => "schema outdated",
            Self::Revoked => "revoked",
        }
    }
}
