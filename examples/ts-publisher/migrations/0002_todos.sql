-- The app's own rows.
CREATE TABLE todos (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL
);
