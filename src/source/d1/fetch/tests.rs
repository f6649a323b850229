//! Pages of a table, on rusqlite.

use super::*;
use crate::names::Key;
use crate::protocol::Code;
use crate::source::d1::world::{Scene, TODOS};
use crate::source::not_set_up;

const SOFT: &str = r#""deletedAt":"gone""#;
const OWNER: &str = r#""scope":{"field":"owner"}"#;
/// The time of the first row.
const T: u64 = 1_600_000_000_000;

/// Rows `r1`, `r2`, … of alice and bob in turn, two to a time.
fn filled(rule: &str, source: &str, count: u64) -> Scene {
    let scene = Scene::new(TODOS, rule, source);
    for nth in 1..=count {
        let owner = if nth % 2 == 1 { "alice" } else { "bob" };
        let at = T + nth / 2;
        scene.world.run(&format!(
            "INSERT INTO todos (id, title, owner, updated_at) VALUES ('r{nth:03}', 'x', '{owner}', {at})"
        ));
    }
    scene
}

fn keys(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|(key, _)| key.as_str()).collect()
}

/// All pages as one, and how many there were.
fn all(scene: &Scene, who: &str, topics: &[&str], limit: usize) -> (Vec<String>, usize) {
    let (mut rows, mut token, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = scene.page(who, topics, None, token.as_deref(), limit);
        assert!(page.full && page.rows.len() <= limit);
        rows.extend(keys(&page).iter().map(ToString::to_string));
        pages += 1;
        match page.next {
            Some(next) => token = Some(next),
            None => return (rows, pages),
        }
    }
}

#[test]
fn pages_hold_every_row_once_in_the_order_of_change() {
    let scene = filled("", "", 10);
    let expected: Vec<_> = (1..=10).map(|nth| format!("r{nth:03}")).collect();
    for (limit, pages) in [(1, 10), (3, 4), (5, 2), (9, 2), (10, 1), (11, 1)] {
        assert_eq!(
            all(&scene, "x", &[], limit),
            (expected.clone(), pages),
            "{limit}"
        );
    }
    let page = scene.page("x", &[], None, None, 1);
    let row = r#"{"id":"r001","title":"x","done":null,"tags":null,"owner":"alice","n":null}"#;
    assert_eq!(page.rows, [(Key::parse("r001").unwrap(), row.to_owned())]);
    // Whatever limit is asked for.
    assert_eq!(scene.page("x", &[], None, None, 0).rows.len(), 1);
    assert_eq!(scene.page("x", &[], None, None, usize::MAX).rows.len(), 10);
}

#[test]
fn a_field_says_who_sees_a_row() {
    let scene = filled(OWNER, "", 7);
    assert_eq!(
        all(&scene, "alice", &[], 2).0,
        ["r001", "r003", "r005", "r007"]
    );
    assert_eq!(all(&scene, "bob", &[], 100).0, ["r002", "r004", "r006"]);
    assert!(
        all(&scene, "carol", &["alice", "team:alice"], 100)
            .0
            .is_empty()
    );
    let teams = filled(r#""scope":{"field":"owner","as":"team:"}"#, "", 7);
    assert_eq!(
        all(&teams, "x", &["team:bob", "team:alice"], 100).0.len(),
        7
    );
    assert_eq!(
        all(&teams, "x", &["team:bob", "team:", "bob"], 100).0.len(),
        3
    );
    // Who holds no such topic needs no database.
    let batches = teams.world.batches.get();
    let nothing = teams.page("alice", &[], None, None, 100);
    assert_eq!((nothing.full, nothing.next), (true, None));
    assert_eq!(teams.world.batches.get(), batches);
    let plain = filled(r#""scope":{"field":"owner","as":""}"#, "", 7);
    assert_eq!(all(&plain, "x", &["bob"], 100).0.len(), 3);
    let by_key = filled(r#""scope":{"field":"id"}"#, "", 7);
    assert_eq!(all(&by_key, "r003", &[], 100).0, ["r003"]);
}

#[test]
fn a_list_says_who_sees_a_row_too() {
    let scene = filled(r#""scope":{"field":"tags"}"#, "", 7);
    for (key, tags) in [
        ("r001", r#"["alice","bob"]"#),
        ("r002", r#""alice""#),
        ("r003", r#"["bob"]"#),
        ("r004", "alice"),
        ("r005", "[]"),
        ("r006", r#"{"a":"alice"}"#),
    ] {
        scene.world.run(&format!(
            "UPDATE todos SET tags = '{tags}' WHERE id = '{key}'"
        ));
    }
    assert_eq!(all(&scene, "alice", &[], 100).0, ["r001", "r002"]);
    assert_eq!(all(&scene, "bob", &[], 1).0, ["r001", "r003"]);
}

#[test]
fn the_rule_judges_what_the_database_compares_with_less_care() {
    let scene = Scene::new(&TODOS.replace("owner TEXT", "owner INTEGER"), OWNER, "");
    scene
        .world
        .run("INSERT INTO todos (id, title, owner, updated_at) VALUES ('r', 'x', 7, 1)");
    assert_eq!(all(&scene, "7", &[], 10).0, ["r"]);
    assert!(all(&scene, "07", &[], 10).0.is_empty());
    let nocase = TODOS.replace("owner TEXT", "owner TEXT COLLATE NOCASE");
    let scene = Scene::new(&nocase, OWNER, "");
    scene
        .world
        .run("INSERT INTO todos (id, title, owner, updated_at) VALUES ('r', 'x', 'a', 1)");
    assert_eq!(all(&scene, "a", &[], 10).0, ["r"]);
    assert!(all(&scene, "A", &[], 10).0.is_empty());
}

#[test]
fn since_tells_what_was_changed_and_deleted_from_then_on() {
    let scene = filled("", SOFT, 6);
    scene
        .world
        .run("UPDATE todos SET gone = 5 WHERE id IN ('r001', 'r005')");
    let page = scene.page("x", &[], None, None, 10);
    assert_eq!(keys(&page), ["r002", "r003", "r004", "r006"]);
    assert!(page.full && page.deleted.is_empty());
    let page = scene.page("x", &[], Some(T + 2), None, 10);
    assert_eq!(keys(&page), ["r004", "r006"]);
    assert_eq!(page.deleted, [Key::parse("r005").unwrap()]);
    assert!(!page.full);
    // On two pages.
    let first = scene.page("x", &[], Some(T + 2), None, 2);
    assert_eq!((keys(&first).len(), first.deleted.len()), (1, 1));
    let rest = scene.page("x", &[], Some(T + 2), first.next.as_deref(), 2);
    assert_eq!((keys(&rest), rest.next.as_ref()), (vec!["r006"], None));
    assert!(keys(&scene.page("x", &[], Some(T + 4), None, 10)).is_empty());
}

#[test]
fn where_nobody_can_tell_what_is_gone_everything_is_told() {
    for (rule, source, rows) in [("", "", 6), (OWNER, SOFT, 3), (OWNER, "", 3)] {
        let page = filled(rule, source, 6).page("alice", &[], Some(T + 3), None, 10);
        assert_eq!((page.full, page.rows.len()), (true, rows), "{rule}{source}");
    }
}

#[test]
fn times_that_are_texts_are_compared_as_such() {
    let create = TODOS.replace("updated_at INTEGER", "updated_at TEXT");
    let scene = Scene::new(&create, "", SOFT);
    for (key, at) in [
        ("a", "2023-11-13T23:59:59.999Z"),
        ("b", "2023-11-14 22:13:19"),
        ("c", "2023-11-14 22:13:20"),
        ("d", "2023-11-14T22:13:20.001Z"),
    ] {
        scene.world.run(&format!(
            "INSERT INTO todos (id, title, updated_at) VALUES ('{key}', 'x', '{at}')"
        ));
    }
    assert_eq!(all(&scene, "x", &[], 1).0, ["a", "b", "c", "d"]);
    let page = scene.page("x", &[], Some(1_700_000_000_000), None, 10);
    assert_eq!(keys(&page), ["c", "d"]);
}

#[test]
fn keys_that_are_numbers_are_paged_as_numbers() {
    let scene = Scene::new(&TODOS.replace("id TEXT", "id INTEGER"), "", SOFT);
    for key in [-2, 0, 5, 10, 9_007_199_254_740_992i64] {
        scene.world.run(&format!(
            "INSERT INTO todos (id, title, updated_at) VALUES ({key}, 'x', 7)"
        ));
    }
    assert_eq!(all(&scene, "x", &[], 1).0, ["-2", "0", "5", "10"]);
    assert_eq!(keys(&scene.page("x", &[], Some(7), None, 10)).len(), 4);
}

#[test]
fn rows_without_a_key_are_not_there_and_others_left_out_are_logged() {
    let scene = filled("", "", 2);
    let long = "k".repeat(limits::KEY_BYTES + 1);
    let most = "k".repeat(limits::KEY_BYTES);
    for (key, more) in [
        ("NULL", "'x', NULL"),
        ("x'00'", "'x', NULL"),
        ("''", "'x', NULL"),
        (&format!("'{long}'"), "'x', NULL"),
        (&format!("'{most}'"), "'x', NULL"),
        ("'a' || char(10)", "'x', NULL"),
        ("'blob'", "x'00', NULL"),
        ("'bad'", "'x', '{'"),
        ("'worse'", "'x', '{'"),
    ] {
        scene.world.run(&format!(
            "INSERT INTO todos (id, title, tags, updated_at) VALUES ({key}, {more}, 1)"
        ));
    }
    let done = scene.fetch("x", &[], None, None, 100);
    let log = "DB todos: 1 rows of a page left out, whose key is no key\n\
        DB todos: 2 rows of a page left out, whose tags is not json\n\
        DB todos: 1 rows of a page left out, whose title is not a text or a number";
    assert_eq!(done.log.join("\n"), log);
    assert!(!done.surprised);
    for limit in 1..5 {
        assert_eq!(
            all(&scene, "x", &[], limit).0,
            [most.as_str(), "r001", "r002"]
        );
    }
}

#[test]
fn a_row_is_told_at_its_bound_and_left_out_past_it() {
    let scene = Scene::with_columns(TODOS, "", r#""columns":["title"]"#);
    let overhead = r#"{"id":"a","title":""}"#.len();
    for (key, bytes) in [("a", 0), ("b", 1), ("c", overhead), ("d", overhead + 1)] {
        let bytes = scene.row_bytes + bytes - overhead;
        scene.world.run(&format!(
            "INSERT INTO todos (id, title, updated_at) VALUES ('{key}', hex(zeroblob({})) || '{}', 1)",
            bytes / 2,
            &"x"[..bytes % 2],
        ));
    }
    let done = scene.fetch("x", &[], None, None, 10);
    assert_eq!(
        done.log,
        ["DB todos: 3 rows of a page left out, wider than 262144 bytes"]
    );
    assert_eq!(all(&scene, "x", &[], 10).0, ["a"]);
}

#[test]
fn a_page_ends_when_it_holds_what_a_frame_takes() {
    let scene = Scene::with_columns(TODOS, "", r#""columns":["title","n"]"#);
    let insert = |count: usize, bytes: usize| {
        for _ in 0..count {
            scene.world.run(&format!(
                "INSERT INTO todos SELECT hex(count(*)), printf('%.*c', {bytes}, 'x'), 0, NULL, NULL, NULL, 1, NULL FROM todos"
            ));
        }
    };
    insert(4, limits::FRAME_OUT_BYTES / 4);
    let first = scene.page("x", &[], None, None, 100);
    assert_eq!(first.rows.len(), 4);
    // Just so much may be all, or not: the next page tells.
    let rest = scene.page("x", &[], None, first.next.as_deref(), 100);
    assert_eq!((rest.rows.len(), rest.next), (0, None));
    insert(2, 10);
    let rest = scene.page("x", &[], None, first.next.as_deref(), 100);
    assert_eq!((rest.rows.len(), rest.next), (2, None));
    scene
        .world
        .run("UPDATE todos SET title = 'x' WHERE id = '30'");
    let first = scene.page("x", &[], None, None, 100);
    assert_eq!((first.rows.len(), first.next), (6, None));
    scene.world.run("DELETE FROM todos WHERE 1");
    insert(20, limits::ROW_BYTES * 2);
    assert_eq!(all(&scene, "x", &[], 100).0.len(), 0);
}

#[test]
fn a_forged_token_only_moves_where_a_page_begins() {
    let scene = filled(OWNER, SOFT, 6);
    let zero = Place {
        time: "0".to_owned(),
        key: text("' OR 1=1 --"),
    };
    let late = Place {
        time: "\"z\"".to_owned(),
        key: text("z"),
    };
    for (token, rows) in [
        (zero.to_token(), 3),
        (late.to_token(), 0),
        ("!".to_owned(), 3),
    ] {
        let page = scene.page("alice", &[], None, Some(&token), 10);
        assert_eq!(page.rows.len(), rows, "{token}");
        assert!(page.rows.iter().all(|(_, row)| row.contains("alice")));
    }
}

#[test]
fn a_row_whose_time_is_no_time_is_a_wrong_setting_told_to_the_log_alone() {
    let scene = filled("", "", 3);
    scene.world.run("UPDATE todos SET updated_at = x'00'");
    let done = scene.fetch("x", &[], None, None, 1);
    assert!(done.log[0].contains("todos.updated_at"), "{:?}", done.log);
    assert_eq!(done.answered.unwrap_err().problem, not_set_up());
}

#[test]
fn a_database_that_does_not_answer_is_unavailable() {
    let scene = filled("", "", 3);
    scene.world.lose(0);
    let done = scene.fetch("x", &[], None, None, 1);
    assert!(done.surprised && done.log == ["DB todos: Network connection lost."]);
    let failed = done.answered.unwrap_err();
    assert_eq!(failed.problem.code, Code::Unavailable);
    assert_eq!(failed.problem.retry_after_ms, Some(limits::D1_RETRY_MS));
    assert!(!failed.may_be_done);
}

#[test]
fn the_widest_table_is_within_what_a_statement_takes() {
    let columns: Vec<_> = (0..limits::D1_COLUMNS).map(|n| format!("c{n}")).collect();
    let create = format!(
        "CREATE TABLE todos (id TEXT, {}, updated_at INTEGER NOT NULL, gone TEXT, \
         space TEXT NOT NULL, channel TEXT NOT NULL, PRIMARY KEY (id, space, channel))",
        columns.join(",")
    );
    let named: Vec<_> = columns.iter().map(|name| format!("\"{name}\"")).collect();
    let home = r#""space":"space","channel":"channel""#;
    let source = format!(r#""columns":[{}],{SOFT},{home}"#, named.join(","));
    let scene = Scene::with_columns(&create, r#""scope":{"field":"c1"}"#, &source);
    let fields: Vec<_> = columns
        .iter()
        .map(|name| format!("\"{name}\":\"a\""))
        .collect();
    let row = format!(r#"{{"id":"k",{}}}"#, fields.join(","));
    use crate::protocol::Action;
    for (id, action) in [
        ("1", Action::Create),
        ("2", Action::Update),
        ("3", Action::Delete),
    ] {
        scene.wrote("a", id, action, "k", &row);
        assert_eq!(all(&scene, "a", &[], 10).0.len(), usize::from(id != "3"));
    }
}
