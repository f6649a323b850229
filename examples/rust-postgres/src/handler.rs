//! A table as the home of a channel's rows.

use tidewire::protocol::Problem;
use tidewire::workers::{Context, Handler, PageAsk, Rows, Stored};
use tidewire::{Key, Millis};

use crate::db::{Asker, Db, Done, Mutation};
use crate::table::Table;

/// Keeps the rows of a channel in a table. Who may see them is the rule's matter: `notes` is scoped
/// by `ownerId`.
pub(crate) struct Kept(pub(crate) &'static Table);

fn asker<'a>(context: &'a Context<'_>) -> Asker<'a> {
    Asker {
        space: context.space.as_str(),
        identity: context.identity().map(|identity| identity.as_str()),
    }
}

fn mutation<'a>(context: &'a Context<'_>, key: &'a Key) -> Mutation<'a> {
    Mutation {
        asker: asker(context),
        owner: context.mutation_owner().unwrap_or_default(),
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
        // Nothing tells which rows have left somebody's sight, so their reader gets all of them.
        let full = self.0.owned;
        let since = since.filter(|_| !full);
        let since = since.and_then(|since| i64::try_from(since.0).ok());
        let asker = asker(context);
        let found = Db::during(context.env, async |db| {
            db.page(self.0, asker, since, page.token, page.limit).await
        });
        let found = found.await?;
        let mut rows = Rows {
            next: found.next,
            full,
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
        let mutation = mutation(context, key);
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
        let mutation = mutation(context, key);
        let row = Db::during(context.env, async |db| {
            db.update(self.0, mutation, changes).await
        });
        Ok(stored(row.await?))
    }

    async fn delete(&self, context: &Context<'_>, key: &Key) -> Result<Stored, Problem> {
        let mutation = mutation(context, key);
        let deleted = Db::during(context.env, async |db| db.delete(self.0, mutation).await);
        Ok(stored(deleted.await?))
    }
}
