//! What the doctor sees in the rows: owners in channels that are not scoped by them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Engine, Failure};
use crate::channel::{Access, Keep, Scope};
use crate::config::{Finding, Publisher, Severity};
use crate::limits;
use crate::names::Seq;
use crate::protocol::{Fields, object};
use crate::store::Sql;

/// Names of fields that say whose a row is, in lower case without `_`.
const OWNERS: [&str; 13] = [
    "owner",
    "ownerid",
    "user",
    "userid",
    "createdby",
    "creator",
    "creatorid",
    "author",
    "authorid",
    "account",
    "accountid",
    "customerid",
    "tenantid",
];

fn is_owner(field: &str) -> bool {
    let plain: String = field
        .chars()
        .filter(|c| *c != '_' && *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    OWNERS.contains(&plain.as_str())
}

impl<S: Sql> Engine<S> {
    /// Looks at the newest rows of the channels after `after`, in bounded steps. Answers with the
    /// findings, and with `next` where there are more channels.
    pub(super) fn doctor(&mut self, publisher: &Publisher, after: &str) {
        let seen = self.look_at_rows(publisher, after);
        let seen = seen.map_err(|failure| self.problem(failure));
        self.reply(seen);
    }

    fn look_at_rows(&self, publisher: &Publisher, after: &str) -> Result<String, Failure> {
        self.config.check_keeps(publisher)?;
        let mut findings = Vec::new();
        let mut after = after.to_owned();
        let (mut bytes, mut channels) = (0, 0);
        let next = loop {
            let Some(channel) = self.store.changed_channel(&after, Seq(0))? else {
                break None;
            };
            if bytes >= limits::DOCTOR_BYTES || channels == limits::DOCTOR_CHANNELS {
                break Some(after);
            }
            channels += 1;
            channel.as_str().clone_into(&mut after);
            let name = channel.as_str();
            let Ok(rule) = self.config.rules.find(&channel) else {
                findings.push(Finding::new(
                    Severity::Risky,
                    "SYNC_CHANNELS",
                    format!("has no rule for {name}, which holds rows: nobody can reach them"),
                    "declare the channel",
                ));
                continue;
            };
            // Whoever reads by a topic or a token of the channel was let in by the app.
            let wide = matches!(rule.read, Access::Anyone | Access::User);
            if !wide || rule.scope != Scope::All || rule.keep == Keep::Every {
                continue;
            }
            let mut owners = BTreeMap::<String, usize>::new();
            self.store
                .newest_rows(&channel, limits::DOCTOR_ROWS, &mut |row| {
                    bytes += row.len();
                    let fields = Fields::parse(&row).unwrap_or_default();
                    for (field, _) in fields.iter().filter(|(field, _)| is_owner(field)) {
                        *owners.entry(field.to_owned()).or_default() += 1;
                    }
                    match bytes < limits::DOCTOR_BYTES {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
            findings.extend(owners.into_iter().map(|(field, rows)| {
                Finding::new(
                    Severity::Risky,
                    format!("SYNC_CHANNELS {name}"),
                    format!(
                        "shows every row to everyone who may read it, and {rows} of its newest \
                         rows have a field {field}"
                    ),
                    format!("scope it if rows are private: \"scope\": {{\"field\": {field:?}}}"),
                )
            }));
        };
        Ok(object(|o| {
            o.name("findings")
                .array(|a| findings.iter().for_each(|finding| finding.write(a)));
            o.opt_text("next", next.as_deref());
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_go_by_many_names() {
        for field in [
            "ownerId",
            "owner",
            "user_id",
            "createdBy",
            "created_by",
            "AuthorID",
        ] {
            assert!(is_owner(field), "{field}");
        }
        for field in ["id", "title", "users", "ownership", "", "useragent"] {
            assert!(!is_owner(field), "{field}");
        }
    }
}
