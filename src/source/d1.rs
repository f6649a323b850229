//! A table in D1 as the home of a channel's rows: the SQL, and what becomes of its answers.

use super::Settings;

/// Where in D1 a channel's rows are, as its rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The name of the database's binding.
    pub binding: String,
}

impl Table {
    pub(super) fn read(binding: String, _settings: &mut Settings<'_>) -> Result<Self, String> {
        Ok(Self { binding })
    }
}
