-- Changes to publish: the app writes, Tidewire deletes what is published. Rows are not changed.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  space TEXT NOT NULL DEFAULT 'global',
  change TEXT NOT NULL CHECK (json_valid(change))
);
CREATE INDEX outbox_order ON outbox (space, id);

-- The batch of each space that is under way: rows up to the last, under an idempotency key.
CREATE TABLE outbox_batches (
  space TEXT PRIMARY KEY,
  key TEXT NOT NULL,
  last INTEGER NOT NULL,
  claimed INTEGER NOT NULL,
  leased INTEGER NOT NULL
);

-- Changes that were refused, and why. They are yours: mend and write them anew, or delete them.
CREATE TABLE outbox_refused (
  id INTEGER PRIMARY KEY,
  space TEXT NOT NULL,
  change TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  refused INTEGER NOT NULL
);
