//! A table as the home of a channel's rows.

use tidewire::protocol::Problem;
use tidewire::workers::{Context, Handler, PageAsk, Rows, Stored};
use tidewire::{Key, Millis};

use crate::db::{Db, Done, Mutation};
use crate::table::Table;

/// Keeps the rows of a channel in a table. Who may see them is the rule's matter: `notes` is scoped
/// by `ownerId`.
pub(crate) struct Kept(pub(crate) &'static Table);

/// Who asks. Mutations of somebody without an identity count for the session.
fn who(context: &Context<'_>) -> String {
    match context.identity() {
        Some(identity) => identity.to_string(),
        None => format!("session:{}", context.session()),
    }
}

fn mutation<'a>(context: &'a Context<'_>, who: &'a str, key: &'a Key) -> Mutation<'a> {
    Mutation {
        who,
        id: context.mutation_id().map_or("", |id| id.as_str()),
        hash: context.mutation_hash().unwrap_or_default(),
        key: key.as_str(),
    }
}

fn stored(Done { row, repeated }: Done) -> Stored {
    Stored { row, repeated }
}

impl Handler for Kept {
    async fn fetch(
        &self,
        context: &Context<'_>,
        since: Option<Millis>,
        page: &PageAsk<'_>,
    ) -> Result<Rows, Problem> {
        let who = who(context);
        let since = since.and_then(|since| i64::try_from(since.0).ok());
        let found = Db::during(context.env, async |db| {
            db.page(self.0, &who, since, page.token, page.limit).await
        });
        let found = found.await?;
        let mut rows = Rows {
            next: found.next,
            ..Rows::default()
        };
        for item in found.items {
            match item.data {
                Some(row) => rows.rows.push(row),
                None => rows.deleted.push(item.key),
            }
        }
        Ok(rows)
    }

    async fn create(&self, context: &Context<'_>, key: &Key, row: &str) -> Result<Stored, Problem> {
        let who = who(context);
        let mutation = mutation(context, &who, key);
        let row = Db::during(context.env, async |db| {
            db.create(self.0, mutation, row).await
        });
        Ok(stored(row.await?))
    }

    async fn update(
        &self,
        context: &Context<'_>,
        key: &Key,
        changes: &str,
    ) -> Result<Stored, Problem> {
        let who = who(context);
        let mutation = mutation(context, &who, key);
        let row = Db::during(context.env, async |db| {
            db.update(self.0, mutation, changes).await
        });
        Ok(stored(row.await?))
    }

    async fn delete(&self, context: &Context<'_>, key: &Key) -> Result<Stored, Problem> {
        let who = who(context);
        let mutation = mutation(context, &who, key);
        let deleted = Db::during(context.env, async |db| db.delete(self.0, mutation).await);
        Ok(stored(deleted.await?))
    }
}
