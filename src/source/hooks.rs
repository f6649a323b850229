//! The app as the home of a channel's rows, asked over HTTP: requests, signatures, answers.

/// Where the app is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By the name of a service binding.
    Service(String),
    /// By its origin, and a path before `/sync-hooks`, without a slash at the end.
    Url(String),
}

impl Target {
    pub(super) fn service(binding: String) -> Self {
        Self::Service(binding)
    }

    pub(super) fn url(url: &str) -> Result<Self, String> {
        Ok(Self::Url(url.to_owned()))
    }
}
