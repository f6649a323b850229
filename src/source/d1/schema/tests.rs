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
    let line = examined(columns, more).unwrap_err();
    assert!(line.starts_with("SYNC_CHANNELS: source DB: "), "{line}");
    line
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

const OF_ALL: &str = "id TEXT, title TEXT, done INTEGER, updated_at INTEGER NOT NULL, gone TEXT, \
    space TEXT NOT NULL, channel TEXT NOT NULL";

/// What is found with these settings for the columns that say whose a row is.
fn of_home(settings: &str, columns: &str, more: &str) -> Checked {
    let world = World::empty();
    world.run(&format!("CREATE TABLE todos ({columns}); {more}"));
    let table = table(&format!(r#""columns":["title","done"]{settings}"#));
    now(examine(&world, &table)).unwrap()
}

const SPACE: &str = r#","space":"space""#;
const CHANNEL: &str = r#","channel":"Channel""#;

#[test]
fn the_key_may_be_unique_among_the_rows_of_a_space_or_channel() {
    let both = format!("{SPACE}{CHANNEL}");
    // Whether the key is unique by itself; nothing where it does not do.
    for (settings, unique, by_itself) in [
        (both.as_str(), "id, space, channel", Some(false)),
        (&both, "Channel, SPACE, id", Some(false)),
        (&both, "id", Some(true)),
        (&both, "id, space", None),
        (&both, "id, channel", None),
        (&both, "space, channel", None),
        (&both, "id, space, channel, title", None),
        (&both, "id, space, title", None),
        (&both, "id, space, channel COLLATE NOCASE", None),
        (&both, "id, space COLLATE RTRIM, channel", None),
        (&both, "id, space, lower(channel)", None),
        (SPACE, "space, id", Some(false)),
        (SPACE, "id", Some(true)),
        (SPACE, "space, channel, id", None),
        (SPACE, "channel, id", None),
        (CHANNEL, "id, channel", Some(false)),
        (CHANNEL, "id, space", None),
        ("", "id, space", None),
        ("", "id", Some(true)),
    ] {
        let index = format!("CREATE UNIQUE INDEX u ON todos ({unique})");
        let found = of_home(settings, OF_ALL, &index);
        let found = found.map(|schema| schema.unique_key);
        match by_itself {
            Some(by_itself) => assert_eq!(found, Ok(by_itself), "{settings} {unique}"),
            None => {
                let message = found.unwrap_err();
                assert!(message.contains("unique index"), "{settings}: {message}");
                let named = message.contains("(space, Channel, id)");
                assert_eq!(named, settings == both, "{settings}: {message}");
            }
        }
        if unique.contains('(') || unique.contains("COLLATE") {
            continue;
        }
        for end in ["", ") WITHOUT ROWID; CREATE TABLE x (y"] {
            let columns = format!("{OF_ALL}, PRIMARY KEY ({unique}){end}");
            let found = of_home(settings, &columns, "");
            let found = found.ok().map(|schema| schema.unique_key);
            assert_eq!(found, by_itself, "{settings} {unique}{end}");
        }
    }
    let partial = "CREATE UNIQUE INDEX u ON todos (space, id) WHERE done = 1";
    assert!(of_home(SPACE, OF_ALL, partial).is_err());
    // Where both are there, the stricter one counts.
    let two = "CREATE UNIQUE INDEX u ON todos (space, id); CREATE UNIQUE INDEX v ON todos (id)";
    assert!(of_home(SPACE, OF_ALL, two).unwrap().unique_key);
    let number = OF_ALL.replace("id TEXT", "id INTEGER PRIMARY KEY");
    assert!(of_home(&both, &number, "").unwrap().unique_key);
}

#[test]
fn whose_a_row_is_is_a_text_that_is_there_and_somebody_writes() {
    let good = OF_ALL.replace("id TEXT", "id TEXT PRIMARY KEY");
    for (setting, name) in [(SPACE, "space"), (CHANNEL, "channel")] {
        let is = |declared: &str| {
            let columns = good.replace(&format!("{name} TEXT NOT NULL"), declared);
            of_home(setting, &columns, "")
        };
        for declared in [
            "TEXT NOT NULL",
            "varchar(64) NOT NULL",
            "CLOB NOT NULL DEFAULT 'x'",
        ] {
            assert!(is(&format!("{name} {declared}")).is_ok(), "{declared}");
        }
        for (declared, named) in [
            ("TEXT", "TEXT NOT NULL"),
            ("NOT NULL", "TEXT NOT NULL"),
            ("INTEGER NOT NULL", "TEXT NOT NULL"),
            // The affinity is that of a number.
            ("CHARINT NOT NULL", "TEXT NOT NULL"),
            ("NUMERIC NOT NULL", "TEXT NOT NULL"),
            ("BLOB NOT NULL", "TEXT NOT NULL"),
            ("TEXT NOT NULL AS (title)", "computed"),
        ] {
            let message = is(&format!("{name} {declared}")).unwrap_err();
            let column = format!("todos.{name} ").to_ascii_lowercase();
            assert!(
                message.to_ascii_lowercase().contains(&column),
                "{declared}: {message}"
            );
            assert!(message.contains(named), "{declared}: {message}");
        }
        let message = is("other TEXT").unwrap_err();
        assert!(message.contains("has no column"), "{message}");
    }
}

#[test]
fn a_table_that_does_not_tell_spaces_apart_is_the_default_ones_and_the_log_says_so_once() {
    let [bare, spaced] = ["", SPACE].map(|more| table(&format!(r#""columns":["title"]{more}"#)));
    let [global, team] = ["global", "team"].map(|name| Space::parse(name).unwrap());
    let mut known = Known::default();
    for (table, space) in [(&bare, &global), (&spaced, &global), (&spaced, &team)] {
        assert_eq!(known.refusal(table, space, "todos"), None);
    }
    for (rule, is_new) in [
        ("todos", true),
        ("todos", false),
        ("notes:*", true),
        ("todos", false),
    ] {
        let (message, new) = known.refusal(&bare, &team, rule).unwrap();
        assert_eq!(new, is_new);
        assert!(message.starts_with("SYNC_CHANNELS: "), "{message}");
        assert!(
            message.contains(rule) && message.contains("source.space"),
            "{message}"
        );
    }
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
    assert!(checked.unwrap_err().contains("there is no table todos"));
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
