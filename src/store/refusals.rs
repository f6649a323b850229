//! What tokens issued until some time no longer count for: identities, and topics of identities.

use crate::limits;
use crate::names::{Identity, Millis};
use crate::small_map::SmallMap;

use super::sql::{Param, Sql, SqlError};
use super::{Store, collect, first};

/// What an identity's earlier tokens no longer grant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Tokens issued until then are refused.
    pub(crate) refused_until: Option<Millis>,
    /// Tokens issued until then do not grant the topic.
    pub(crate) removed_until: SmallMap<String, Millis>,
}

impl<S: Sql> Store<S> {
    /// What is stored against the tokens of an identity.
    pub(crate) fn standing(&self, identity: &Identity, now: Millis) -> Result<Standing, SqlError> {
        let owner = [Param::Text(identity.as_str()), Param::Int(now.0)];
        let refused = first(
            &self.sql,
            "SELECT until FROM refusals WHERE identity = ? AND ends > ?",
            &owner,
            |row| row.int(0),
        )?;
        let removed = collect(
            &self.sql,
            "SELECT topic, until FROM removals WHERE identity = ? AND ends > ?",
            &owner,
            |row| Some((row.text(0)?, Millis(row.int(1)?))),
        )?;
        Ok(Standing {
            refused_until: refused.map(Millis),
            removed_until: removed.into_iter().collect(),
        })
    }

    /// Refuses the identity's tokens that were issued until now.
    pub(crate) fn refuse(&mut self, identity: &Identity, now: Millis) -> Result<(), SqlError> {
        let ends = now.plus(limits::REFUSAL_MS);
        self.exec(
            "INSERT INTO refusals (identity, until, ends) VALUES (?, ?, ?)
             ON CONFLICT (identity) DO UPDATE SET until = max(until, excluded.until),
                ends = max(ends, excluded.ends)",
            &[
                Param::Text(identity.as_str()),
                Param::Int(now.0),
                Param::Int(ends.0),
            ],
        )?;
        self.sweep_by(ends)
    }

    /// Takes a topic from the identity's tokens that were issued until now.
    pub(crate) fn remove_topic(
        &mut self,
        identity: &Identity,
        topic: &str,
        now: Millis,
    ) -> Result<(), SqlError> {
        let ends = now.plus(limits::REFUSAL_MS);
        self.exec(
            "INSERT INTO removals (identity, topic, until, ends) VALUES (?, ?, ?, ?)
             ON CONFLICT (identity, topic) DO UPDATE SET until = max(until, excluded.until),
                ends = max(ends, excluded.ends)",
            &[
                Param::Text(identity.as_str()),
                Param::Text(topic),
                Param::Int(now.0),
                Param::Int(ends.0),
            ],
        )?;
        self.sweep_by(ends)
    }

    /// Lets the identity's tokens grant a topic again.
    pub(crate) fn restore_topic(
        &mut self,
        identity: &Identity,
        topic: &str,
    ) -> Result<(), SqlError> {
        self.exec(
            "DELETE FROM removals WHERE identity = ? AND topic = ?",
            &[Param::Text(identity.as_str()), Param::Text(topic)],
        )
    }

    /// Forgets what has ended.
    pub(super) fn purge_refusals(&mut self, now: Millis) -> Result<(), SqlError> {
        let now = [Param::Int(now.0)];
        self.exec("DELETE FROM refusals WHERE ends <= ?", &now)?;
        self.exec("DELETE FROM removals WHERE ends <= ?", &now)
    }

    /// When the next refusal or removal ends.
    pub(super) fn next_end(&self) -> Result<Option<Millis>, SqlError> {
        let ends = collect(
            &self.sql,
            "SELECT min(ends) FROM refusals UNION ALL SELECT min(ends) FROM removals",
            &[],
            |row| row.int(0),
        )?;
        Ok(ends.into_iter().min().map(Millis))
    }
}
