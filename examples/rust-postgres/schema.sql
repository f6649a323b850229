-- The tables behind the channels, and what makes a mutation happen once.
-- Apply it with `psql "$DATABASE_URL" -f examples/rust-postgres/schema.sql`; it may be applied again.
-- Whoever else writes to the tables sets updated_at, too, deletes by deleted_at, and publishes what
-- it did: connected clients learn of nothing else.
--
-- The sync Worker waits 10 s for a statement. One that is executed after that, because it stood
-- behind a lock, would change a row that nobody is told of, so let the Worker's role give up before:
--   ALTER ROLE tidewire SET statement_timeout = '8s';

-- Milliseconds since 1970, as they are now, not as the transaction began.
CREATE OR REPLACE FUNCTION tidewire_now() RETURNS bigint LANGUAGE sql VOLATILE
  AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint';

CREATE TABLE IF NOT EXISTS todos (
  -- In the order of its bytes, whatever the database's locale: pages follow it.
  id text COLLATE "C" PRIMARY KEY,
  title text CHECK (length(title) <= 500),
  done boolean,
  updated_at bigint NOT NULL DEFAULT tidewire_now(),
  -- A deleted row stays, so that who asks for what changed since then is told of it.
  deleted_at bigint
);
CREATE INDEX IF NOT EXISTS todos_pages ON todos (updated_at, id);

CREATE TABLE IF NOT EXISTS notes (
  id text COLLATE "C" PRIMARY KEY,
  owner_id text NOT NULL,
  text text,
  updated_at bigint NOT NULL DEFAULT tidewire_now(),
  deleted_at bigint
);
CREATE INDEX IF NOT EXISTS notes_pages ON notes (owner_id, updated_at, id);

-- The mutations that were executed, by who asked and by their ids. They are of use as long as a
-- client may repeat one whose answer it missed:
--   DELETE FROM tidewire_outcomes WHERE at < tidewire_now() - 2 * 86400000;
CREATE TABLE IF NOT EXISTS tidewire_outcomes (
  owner text NOT NULL,
  id text NOT NULL,
  -- The digest of the mutation's content: under the same id, another content is another mutation.
  hash text NOT NULL,
  at bigint NOT NULL,
  PRIMARY KEY (owner, id)
);
CREATE INDEX IF NOT EXISTS tidewire_outcomes_at ON tidewire_outcomes (at);
