//! The paths of the sync Worker: what each asks, and by which method.

use crate::engine;
use crate::observe::Operation;

/// What the sync Worker is asked.
pub(super) enum Route {
    Health,
    /// With the space's name, where the path has one.
    Connect(Option<String>),
    Session,
    Changes,
    Mutate,
    Call(engine::Call),
    Members,
    Stats,
    Metrics,
    Inspect,
    Export,
    Import,
    Restore,
    Doctor,
    #[cfg(feature = "faults")]
    Faults,
}

impl Route {
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/stats" => Self::Stats,
            "/metrics" => Self::Metrics,
            "/inspect" => Self::Inspect,
            "/presence" => Self::Members,
            "/export" => Self::Export,
            "/import" => Self::Import,
            "/restore" => Self::Restore,
            "/doctor" => Self::Doctor,
            #[cfg(feature = "faults")]
            "/faults" => Self::Faults,
            "/api/sync/session" => Self::Session,
            "/api/sync/changes" => Self::Changes,
            "/api/sync/mutate" => Self::Mutate,
            "/api/sync" => Self::Connect(None),
            _ => match (engine::Call::of_path(path), path.strip_prefix("/api/sync/")) {
                (Some(call), _) => Self::Call(call),
                (None, Some(space)) => Self::Connect(Some(space.to_owned())),
                (None, None) => return None,
            },
        })
    }

    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Call(_) | Self::Mutate | Self::Import | Self::Restore => "POST",
            Self::Health
            | Self::Connect(_)
            | Self::Session
            | Self::Changes
            | Self::Members
            | Self::Stats
            | Self::Metrics
            | Self::Inspect
            | Self::Export
            | Self::Doctor => "GET",
            #[cfg(feature = "faults")]
            Self::Faults => "GET",
        }
    }

    /// The path of a call or question, which needs a key.
    pub(super) fn path(&self) -> Option<&'static str> {
        match self {
            Self::Call(call) => Some(call.path()),
            Self::Members => Some("/presence"),
            Self::Stats => Some("/stats"),
            Self::Metrics => Some("/metrics"),
            Self::Inspect => Some("/inspect"),
            Self::Export => Some("/export"),
            Self::Import => Some("/import"),
            Self::Restore => Some("/restore"),
            Self::Doctor => Some("/doctor"),
            Self::Health | Self::Session | Self::Connect(_) | Self::Changes | Self::Mutate => None,
            #[cfg(feature = "faults")]
            Self::Faults => None,
        }
    }

    /// What observers are told that it is; nothing of what nobody's rights depend on.
    pub(super) fn operation(&self) -> Option<Operation> {
        match self {
            Self::Connect(_) => Some(Operation::Connect),
            Self::Call(call) => Some(call.operation()),
            Self::Export | Self::Import | Self::Restore | Self::Doctor => Some(Operation::Operate),
            Self::Members | Self::Stats | Self::Metrics | Self::Inspect => Some(Operation::Ask),
            Self::Changes => Some(Operation::Subscribe),
            Self::Mutate => Some(Operation::Mutate),
            Self::Health | Self::Session => None,
            #[cfg(feature = "faults")]
            Self::Faults => None,
        }
    }
}
