-- What a table that is there lacks. Whose space its rows are of is yours to say.
ALTER TABLE notes ADD COLUMN updated_at TEXT NOT NULL DEFAULT '1970-01-01T00:00:00.000Z';
ALTER TABLE notes ADD COLUMN space TEXT NOT NULL DEFAULT 'global';
-- What pages walk, where a row is seen by its owner alone.
CREATE INDEX notes_sync ON notes (space, ownerId, updated_at, id);
