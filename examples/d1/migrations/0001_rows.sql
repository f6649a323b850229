-- Todos of every space, for everyone in it. Their deletes are soft.
CREATE TABLE todos (
  space TEXT NOT NULL,
  id TEXT NOT NULL,
  title TEXT NOT NULL DEFAULT '',
  done INTEGER NOT NULL DEFAULT 0,
  updated_at INTEGER NOT NULL,
  deleted_at INTEGER,
  PRIMARY KEY (space, id)
);
-- What pages walk.
CREATE INDEX todos_sync ON todos (space, updated_at, id);

-- What was executed. Once for a database; also as `tidewire::source::d1::OUTCOMES`.
CREATE TABLE tidewire_outcomes (
  day INTEGER NOT NULL,
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  hash TEXT NOT NULL,
  nonce TEXT NOT NULL,
  PRIMARY KEY (day, owner, id)
) WITHOUT ROWID;

-- A table that the app had before: notes of people. Their deletes are hard.
CREATE TABLE notes (
  id TEXT PRIMARY KEY,
  text TEXT,
  ownerId TEXT NOT NULL
);
