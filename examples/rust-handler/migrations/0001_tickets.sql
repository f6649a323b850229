CREATE TABLE tickets (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'open',
  -- When it was changed last, in milliseconds.
  at INTEGER NOT NULL
);

CREATE VIEW tickets_as_rows AS
  SELECT json_object('id', id, 'title', title, 'status', status) AS row FROM tickets;
