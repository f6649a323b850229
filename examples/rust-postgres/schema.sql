-- The tables behind the channels, and what makes a mutation happen once.
-- Apply it with `psql "$DATABASE_URL" -f examples/rust-postgres/schema.sql`; it may be applied again.
-- Whoever else writes to the tables sets updated_at, too, deletes by deleted_at, and publishes what
-- it did: connected clients learn of nothing else.
--
-- The sync Worker's clients wait 10 s for a statement. What one that stood behind a lock does later is
-- logged and told for a minute in all; after that nobody hears of it by itself. So let the Worker's role
-- give up before its clients do:
--   ALTER ROLE tidewire SET statement_timeout = '8s';

-- Milliseconds since 1970, as they are now, not as the transaction began.
CREATE OR REPLACE FUNCTION tidewire_now() RETURNS bigint LANGUAGE sql VOLATILE
  AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint';

-- Each space has rows and keys of its own, by its name.
CREATE TABLE IF NOT EXISTS todos (
  space text COLLATE "C" NOT NULL,
  -- In the order of its bytes, whatever the database's locale: pages follow it.
  id text COLLATE "C" NOT NULL,
  title text CHECK (length(title) <= 500),
  done boolean,
  updated_at bigint NOT NULL DEFAULT tidewire_now(),
  -- A deleted row stays, so that who asks for what changed since then is told of it.
  deleted_at bigint,
  PRIMARY KEY (space, id)
);
CREATE INDEX IF NOT EXISTS todos_pages ON todos (space, updated_at, id);

CREATE TABLE IF NOT EXISTS notes (
  space text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  owner_id text NOT NULL,
  text text,
  updated_at bigint NOT NULL DEFAULT tidewire_now(),
  deleted_at bigint,
  PRIMARY KEY (space, id)
);
CREATE INDEX IF NOT EXISTS notes_pages ON notes (space, owner_id, updated_at, id);

-- The mutations that were executed, by who asked (an identity or, without one, a session; see
-- Context::mutation_owner) and by their ids. They are of use as long as a
-- client may repeat one whose answer it missed:
--   DELETE FROM tidewire_outcomes WHERE at < tidewire_now() - 2 * 86400000;
CREATE TABLE IF NOT EXISTS tidewire_outcomes (
  space text COLLATE "C" NOT NULL,
  owner text NOT NULL,
  id text NOT NULL,
  -- The digest of the mutation's content: under the same id, another content is another mutation.
  hash text NOT NULL,
  at bigint NOT NULL,
  PRIMARY KEY (space, owner, id)
);
CREATE INDEX IF NOT EXISTS tidewire_outcomes_at ON tidewire_outcomes (at);
