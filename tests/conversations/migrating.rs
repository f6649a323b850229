//! Logs that an older version of the engine has made.

use serde_json::json;
use tidewire::SqlError;

use super::world::{World, channels, config, open};
use super::{code, ids};

/// What version 1 made of a new space, then two rows and a tombstone, as it wrote them.
const VERSION_1: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE rows (
        channel TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, data TEXT,
        audience TEXT, author TEXT, at INTEGER NOT NULL, lost TEXT,
        PRIMARY KEY (channel, key)) WITHOUT ROWID;
    CREATE INDEX rows_by_seq ON rows (channel, seq);
    CREATE TABLE channels (
        name TEXT PRIMARY KEY, floor INTEGER NOT NULL, floor_at INTEGER NOT NULL,
        swept INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE outcomes_0 (
        owner TEXT NOT NULL, id TEXT NOT NULL, hash TEXT NOT NULL, seq INTEGER NOT NULL,
        result TEXT, PRIMARY KEY (owner, id)) WITHOUT ROWID;
    CREATE TABLE outcomes_1 (
        owner TEXT NOT NULL, id TEXT NOT NULL, hash TEXT NOT NULL, seq INTEGER NOT NULL,
        result TEXT, PRIMARY KEY (owner, id)) WITHOUT ROWID;
    CREATE TABLE refusals (
        identity TEXT PRIMARY KEY, until INTEGER NOT NULL, ends INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE removals (
        identity TEXT NOT NULL, topic TEXT NOT NULL, until INTEGER NOT NULL,
        ends INTEGER NOT NULL, PRIMARY KEY (identity, topic)) WITHOUT ROWID;
    INSERT INTO meta (name, value) VALUES
        ('schema', '1'), ('space', 'global'), ('epoch', 'k3j9x2aa'), ('epoch_at', '1780000000000'),
        ('view_key', '000102'), ('outcomes_day', '20612'), ('sweep_at', '1781395200000');
    INSERT INTO rows (channel, key, seq, data, audience, author, at, lost) VALUES
        ('todos', 'a', 1, '{\"id\":\"a\",\"n\":1}', NULL, 'alice', 1780790000000, NULL),
        ('todos', 'b', 2, '{\"id\":\"b\"}', '[\"user:bob\"]', NULL, 1780790000001, NULL),
        ('todos', 'c', 3, NULL, NULL, 'alice', 1780790000002, NULL);
    INSERT INTO refusals (identity, until, ends) VALUES ('mallory', 1780790400000, 1790000000000);
";

const TABLES: &str = "SELECT count(*) FROM sqlite_master WHERE type = 'table'";

/// A world over the log of an older version.
fn world() -> World {
    let mut w = World::new();
    w.sqlite = super::world::sqlite::Sqlite::new();
    w.sqlite.execute(VERSION_1);
    w.sleep();
    w
}

#[test]
fn a_log_of_version_1_is_taken_over_with_all_that_it_holds() {
    let mut w = world();
    assert_eq!(
        (w.stats()["seq"].as_u64(), &w.stats()["epoch"]),
        (Some(3), &json!("k3j9x2aa"))
    );
    let alice = w.user("alice");
    let full = w.subscribe(alice, "todos");
    assert_eq!(full["data"], json!([{ "id": "a", "n": 1 }]));
    let delta = w.resume(alice, "todos", &json!("k3j9x2aa.1"), &full["view"]);
    assert_eq!(
        (&delta["mode"], &delta["deleted"]),
        (&json!("delta"), &json!(["c"]))
    );
    let bob = w.user("bob");
    assert_eq!(ids(&w.subscribe(bob, "todos")), ["a", "b"]);
    let mallory = w.connect_until(Some("mallory"), &[], Some(w.now.plus(1)));
    assert_eq!(mallory.unwrap_err().status, 401);
    assert_eq!(
        w.create(alice, "m", "todos", json!({ "id": "d" }))["cursor"],
        "k3j9x2aa.4"
    );
}

#[test]
fn it_gets_the_tables_of_this_version_and_its_number_once() {
    let mut w = world();
    let (migrated, new) = (w.sqlite.number(TABLES), World::new().sqlite.number(TABLES));
    assert_eq!(migrated, new);
    assert_eq!(w.new_space("alice"), 200);
    let version = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'schema'";
    assert_eq!(
        w.sqlite.number(version),
        World::new().sqlite.number(version)
    );
    w.sleep();
    assert_eq!(
        w.sqlite.number("SELECT count FROM new_spaces"),
        1,
        "not made anew"
    );
}

#[test]
fn a_migration_that_fails_leaves_the_log_as_it_was_and_is_done_next_time() {
    for statement in 0.. {
        let mut w = World::new();
        w.sqlite = super::world::sqlite::Sqlite::new();
        w.sqlite.execute(VERSION_1);
        w.sqlite.fail_after(statement);
        let opened = w.try_sleep();
        if w.sqlite.spared() {
            assert!(statement > 4 && opened.is_ok());
            break;
        }
        assert!(opened.is_err(), "statement {statement}");
        w.sleep();
        assert_eq!(w.new_space("alice"), 200);
        assert_eq!(w.stats()["seq"], 3);
    }
}

#[test]
fn a_log_of_a_newer_version_is_refused_and_left_alone() {
    let w = World::new();
    let version = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'schema'";
    let newer = w.sqlite.number(version) + 1;
    w.sqlite
        .execute("UPDATE meta SET value = value + 1 WHERE name = 'schema'");
    let Err(SqlError(message)) = open(&config(&channels()), &w.sqlite, w.now) else {
        panic!("a newer log was opened");
    };
    assert!(message.contains("newer version"), "{message}");
    assert_eq!(w.sqlite.number(version), newer);
}

#[test]
fn a_channel_without_a_rule_stays_closed_whatever_the_log_holds() {
    let mut w = world();
    w.sqlite.execute("UPDATE rows SET channel = 'gone'");
    w.sleep();
    let alice = w.user("alice");
    assert_eq!(code(&w.subscribe(alice, "gone")), "unknown_channel");
}
