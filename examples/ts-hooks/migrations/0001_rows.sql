-- Rows of every space, and of every channel that the handlers stand for. What is deleted is kept for a
-- while, so that who was away can be told.
CREATE TABLE todos (
  space TEXT NOT NULL,
  channel TEXT NOT NULL,
  id TEXT NOT NULL,
  title TEXT,
  done INTEGER,
  updated INTEGER NOT NULL,
  deleted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (space, channel, id)
) WITHOUT ROWID;

CREATE TABLE notes (
  space TEXT NOT NULL,
  channel TEXT NOT NULL,
  id TEXT NOT NULL,
  text TEXT,
  ownerId TEXT NOT NULL,
  updated INTEGER NOT NULL,
  deleted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (space, channel, id)
) WITHOUT ROWID;

-- Mutations that were executed, so that none is again.
CREATE TABLE mutations (
  space TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (space, sender, id)
) WITHOUT ROWID;
