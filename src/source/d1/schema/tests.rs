//! Tables that fit and tables that do not.

use super::*;
use crate::source::d1::world::{World, now, table};

const GOOD: &str =
    "id TEXT PRIMARY KEY, title TEXT, done INTEGER, updated_at INTEGER NOT NULL, gone TEXT";

fn examined(columns: &str, more: &str) -> Checked {
    let world = World::empty();
    world.run(&format!("CREATE TABLE todos ({columns}); {more}"));
    let table = table(r#""columns":["title","done:boolean"],"deletedAt":"gone""#);
    now(examine(&world, &table)).unwrap()
}

fn refused(columns: &str, more: &str) -> String {
    let problem = examined(columns, more).unwrap_err();
    assert_eq!(problem.code, Code::Internal);
    assert!(
        problem.message.starts_with("SYNC_CHANNELS: source DB: "),
        "{}",
        problem.message
    );
    problem.message.into_owned()
}

#[test]
fn a_good_table_is_known_for_what_it_is() {
    let schema = examined(GOOD, "").unwrap();
    assert!(!schema.integer_key && !schema.records);
    assert_eq!(
        (schema.updated, schema.deleted),
        (Clock::Millis, Clock::Iso)
    );
    assert!(examined(GOOD, records::OUTCOMES).unwrap().records);
    let integer = GOOD.replace("id TEXT", "Id INTEGER");
    assert!(examined(&integer, "").unwrap().integer_key);
    let computed = GOOD.replace("done INTEGER", "done AS (title IS NULL)");
    assert_eq!(examined(&computed, "").unwrap().generated, [false, true]);
}

#[test]
fn the_key_must_be_unique() {
    let plain = GOOD.replace(" PRIMARY KEY", "");
    let unique = "CREATE UNIQUE INDEX u ON todos (id)";
    assert!(examined(&plain, unique).is_ok());
    assert!(examined(&GOOD.replace("PRIMARY KEY", "NOT NULL UNIQUE"), "").is_ok());
    for more in [
        "",
        "CREATE INDEX u ON todos (id)",
        "CREATE UNIQUE INDEX u ON todos (id, title)",
        "CREATE UNIQUE INDEX u ON todos (id) WHERE done = 1",
        "CREATE UNIQUE INDEX u ON todos (id COLLATE NOCASE)",
        "CREATE UNIQUE INDEX u ON todos (lower(id))",
        "CREATE UNIQUE INDEX u ON todos (title)",
    ] {
        assert!(refused(&plain, more).contains("todos.id"), "{more}");
    }
    assert!(refused(&GOOD.replace("id TEXT", "id TEXT COLLATE NOCASE"), "").contains("BINARY"));
    let both = format!("{plain}, PRIMARY KEY (id, title)");
    assert!(refused(&both, "").contains("unique"));
    let other = GOOD.replace("id TEXT PRIMARY KEY", "n INTEGER PRIMARY KEY, id TEXT");
    assert!(refused(&other, "").contains("unique"));
    assert!(examined(&other, unique).is_ok());
    assert!(examined(&format!("{GOOD}) WITHOUT ROWID; CREATE TABLE x (y"), "").is_ok());
}

#[test]
fn unique_indexes_are_looked_at_up_to_the_bound() {
    let plain = GOOD.replace(" PRIMARY KEY", "");
    let others = |count: usize| {
        // The newest comes first.
        let key = "CREATE UNIQUE INDEX own ON todos (id);".to_owned();
        (0..count).fold(key, |sql, n| {
            sql + &format!("CREATE UNIQUE INDEX u{n} ON todos (title, id);")
        })
    };
    assert!(examined(&plain, &others(limits::D1_INDEXES - 1)).is_ok());
    assert!(examined(&plain, &others(limits::D1_INDEXES)).is_err());
}

#[test]
fn what_is_wrong_is_named_with_table_and_column() {
    for (from, to, named) in [
        ("title TEXT,", "", "todos has no column title"),
        ("updated_at", "changed_at", "todos has no column updated_at"),
        ("gone", "went", "todos has no column gone"),
        ("id TEXT", "uuid TEXT", "todos has no column id"),
        (
            "updated_at INTEGER NOT NULL",
            "updated_at INTEGER",
            "todos.updated_at",
        ),
        ("gone TEXT", "gone TEXT NOT NULL", "todos.gone"),
        ("gone TEXT", "gone AS (title)", "todos.gone is computed"),
        ("id TEXT", "id UUID", "todos.id"),
        ("id TEXT", "id", "todos.id"),
    ] {
        let error = refused(&GOOD.replace(from, to), "");
        assert!(error.contains(named), "{to}: {error}");
    }
    let world = World::empty();
    let checked = now(examine(&world, &table(r#""columns":["title"]"#))).unwrap();
    assert!(
        checked
            .unwrap_err()
            .message
            .contains("there is no table todos")
    );
}

#[test]
fn a_good_schema_is_kept_and_a_wrong_one_soon_forgotten() {
    let mut known = Known::default();
    let table = table(r#""columns":["title"]"#);
    assert_eq!(known.look_up(&table, Millis(0)), Standing::Ask);
    let good = examined(GOOD, records::OUTCOMES);
    known.keep(&table, &good, Millis(0));
    let later = Millis(limits::D1_SCHEMA_RETRY_MS);
    assert_eq!(known.look_up(&table, later), Standing::Checked(good));
    for wrong in [examined(GOOD, ""), Err(misfit(&table, "x"))] {
        known.keep(&table, &wrong, Millis(0));
        assert_eq!(
            known.look_up(&table, later.minus(1)),
            Standing::Checked(wrong)
        );
        assert_eq!(known.look_up(&table, later), Standing::Ask);
    }
    known.forget(&table);
    assert_eq!(known.look_up(&table, Millis(0)), Standing::Ask);
}
