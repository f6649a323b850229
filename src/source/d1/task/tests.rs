//! Rows of spaces and channels that share a table.

use std::rc::Rc;

use super::*;
use crate::names::Key;
use crate::protocol::Action::{Create, Delete, Update};
use crate::source::d1::world::{Scene, TODOS};
use crate::source::{Page, Scope};

const SOFT: &str = r#""deletedAt":"gone""#;
const SPACE: &str = r#","space":"space""#;
const CHANNEL: &str = r#","channel":"channel""#;

/// `TODOS` with columns for both, of these types, and what is unique.
fn create(space: &str, channel: &str, unique: &str) -> String {
    let columns = format!("space {space}, channel {channel}, PRIMARY KEY ({unique}));");
    let todos = TODOS.replace("id TEXT PRIMARY KEY", "id TEXT");
    todos.replace(");", &format!(", {columns}"))
}

fn scene(unique: &str, rule: &str, source: &str) -> Scene {
    let (space, channel) = match source.contains("channel") {
        true => ("TEXT NOT NULL DEFAULT ''", "TEXT NOT NULL"),
        false => ("TEXT NOT NULL", "TEXT NOT NULL DEFAULT ''"),
    };
    Scene::new(&create(space, channel, unique), rule, source)
}

fn both(unique: &str) -> Scene {
    scene(unique, "", &format!("{SOFT}{SPACE}{CHANNEL}"))
}

fn row(key: &str, title: &str) -> String {
    format!(r#"{{"id":"{key}","title":"{title}"}}"#)
}

/// Keys and titles of a page.
fn titles(page: &Page) -> Vec<String> {
    let title = |(key, row): &(Key, String)| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert!(row.get("space").is_none() && row.get("channel").is_none());
        format!("{key}={}", row["title"].as_str().unwrap())
    };
    page.rows.iter().map(title).collect()
}

/// All that somebody there is told, page by page.
fn told(scene: &Scene, at: (&str, &str)) -> Vec<String> {
    scene.enter(at.0, at.1);
    let (mut all, mut token) = (Vec::new(), None::<String>);
    loop {
        let page = scene.page("a", &[], None, token.as_deref(), 1);
        all.extend(titles(&page));
        token = page.next;
        if token.is_none() {
            return all;
        }
    }
}

fn code(scene: &Scene, action: crate::protocol::Action, key: &str, data: &str) -> Code {
    let failed = scene.write("a", "refused", action, key, data).answered;
    let failed = failed.unwrap_err();
    assert!(!failed.may_be_done);
    failed.problem.code
}

/// Every way to see or write a row, from two places that must know nothing of each other.
fn live_apart(scene: &Scene, here: (&str, &str), there: (&str, &str)) {
    let enter = |at: (&str, &str)| scene.enter(at.0, at.1);
    for (at, title) in [(here, "here"), (there, "there")] {
        enter(at);
        // The same id of a mutation, unless it is the same space, where it would be a conflict.
        let id = if here.0 == there.0 { title } else { "1" };
        let written = scene.wrote("a", id, Create, "k", &row("k", title));
        assert_eq!((written.before, written.repeated), (None, false));
        assert!(written.row.unwrap().contains(title));
        let again = scene.wrote("a", id, Create, "k", &row("k", title));
        assert!(again.repeated && again.row.unwrap().contains(title));
    }
    assert_eq!(told(scene, here), ["k=here"]);
    assert_eq!(told(scene, there), ["k=there"]);
    enter(here);
    let began = scene.clock.get();
    scene.wrote("a", "2", Update, "k", r#"{"title":"new"}"#);
    scene.wrote("a", "3", Create, "own", &row("own", "mine"));
    assert_eq!(told(scene, here), ["k=new", "own=mine"]);
    assert_eq!(told(scene, there), ["k=there"]);
    for (action, data) in [(Update, "{}"), (Delete, "")] {
        assert_eq!(code(scene, action, "own", data), Code::NotFound);
    }
    // Over the row that is there, and nobody else's.
    enter(here);
    let over = scene.wrote("a", "4", Create, "k", &row("k", "over"));
    assert!(over.before.is_some() && over.row.unwrap().contains("over"));
    assert_eq!(told(scene, there), ["k=there"]);
    enter(here);
    let gone = scene.wrote("a", "5", Delete, "k", "");
    assert_eq!((gone.row, gone.before.is_some()), (None, true));
    assert!(matches!(gone.scope, Scope::Of(_)));
    assert_eq!(told(scene, here), ["own=mine"]);
    assert_eq!(told(scene, there), ["k=there"]);
    // What was changed since, the deleted row among it.
    let since = scene.page("a", &[], Some(began), None, 10);
    assert_eq!((since.full, since.deleted.len()), (false, 0));
    enter(here);
    let since = scene.page("a", &[], Some(began), None, 10);
    assert_eq!((titles(&since).len(), since.deleted.len()), (1, 1));
    scene.wrote("a", "6", Create, "k", &row("k", "again"));
    assert_eq!(told(scene, here), ["own=mine", "k=again"]);
    enter(there);
    scene.wrote("a", "7", Delete, "k", "");
    assert!(told(scene, there).is_empty());
    assert_eq!(told(scene, here), ["own=mine", "k=again"]);
}

#[test]
fn two_spaces_and_two_channels_have_rows_of_their_own_under_the_same_key() {
    let unique = "space, channel, id";
    for (here, there) in [
        (("global", "c1"), ("team", "c1")),
        (("team", "c1"), ("team", "c2")),
        (("x", "c1"), ("y", "c2")),
    ] {
        live_apart(&both(unique), here, there);
        live_apart(&both("id, channel, space"), here, there);
    }
    let spaces = scene("space, id", "", &format!("{SOFT}{SPACE}"));
    live_apart(&spaces, ("x", "c"), ("y", "c"));
    let channels = scene("channel, id", "", &format!("{SOFT}{CHANNEL}"));
    live_apart(&channels, ("global", "c1"), ("global", "c2"));
}

#[test]
fn without_deleted_at_only_the_own_row_goes() {
    let scene = scene(
        "space, channel, id",
        "",
        &format!("{}{CHANNEL}", &SPACE[1..]),
    );
    for channel in ["c1", "c2"] {
        scene.enter("x", channel);
        scene.wrote("a", channel, Create, "k", &row("k", channel));
    }
    scene.wrote("a", "gone", Delete, "k", "");
    assert!(told(&scene, ("x", "c2")).is_empty());
    assert_eq!(told(&scene, ("x", "c1")), ["k=c1"]);
    let since = scene.page("a", &[], Some(1), None, 10);
    assert_eq!((since.full, titles(&since).len()), (true, 1));
}

#[test]
fn a_scope_by_field_holds_within_a_space_and_channel() {
    for field in ["owner", "tags"] {
        let rule = format!(r#""scope":{{"field":"{field}"}}"#);
        let scene = scene(
            "space, channel, id",
            &rule,
            &format!("{SOFT}{SPACE}{CHANNEL}"),
        );
        for channel in ["c1", "c2"] {
            scene.enter("x", channel);
            for who in ["a", "b"] {
                let data = format!(r#"{{"id":"{who}","title":"{channel}","{field}":"{who}"}}"#);
                scene.wrote(who, channel, Create, who, &data);
            }
        }
        assert_eq!(told(&scene, ("x", "c1")), ["a=c1"]);
        assert_eq!(told(&scene, ("x", "c2")), ["a=c2"]);
        assert!(told(&scene, ("y", "c1")).is_empty());
    }
}

#[test]
fn names_that_a_column_takes_for_the_same_are_not() {
    // As far as the column is concerned; what is unique compares byte by byte.
    for collation in ["NOCASE", "RTRIM"] {
        let typed = format!("TEXT COLLATE {collation} NOT NULL");
        let unique = "space COLLATE BINARY, channel COLLATE BINARY, id";
        let create = create(&typed, &typed, "n, id");
        let create = format!("{create} CREATE UNIQUE INDEX own ON todos ({unique});");
        for (here, there) in [("c1", "c1 "), ("ca", "cA")] {
            let source = format!("{SOFT}{SPACE}{CHANNEL}");
            live_apart(&Scene::new(&create, "", &source), ("x", here), ("x", there));
        }
    }
    for (here, there) in [
        ("7", "07"),
        ("7", "7-"),
        ("1e1", "10"),
        ("x", "x_"),
        ("a-b", "a_b"),
    ] {
        live_apart(&both("space, channel, id"), (here, "c1"), (there, "c1"));
    }
}

#[test]
fn names_are_bound_and_the_text_of_a_statement_is_always_the_same() {
    let texts = |(space, channel): (&str, &str)| {
        let scene = both("space, channel, id");
        live_apart(&scene, (space, channel), ("other", "c"));
        let statements = scene.world.statements.take();
        statements.into_iter().map(|s| s.sql).collect::<Vec<_>>()
    };
    let plain = texts(("x", "c1"));
    for channel in [
        "c' OR 1=1 --",
        "c`",
        "c\"",
        "c\\",
        "c?1",
        "c%",
        "c_",
        "c*",
        "c); DROP TABLE todos; --",
        "c\u{2028}é😀",
    ] {
        assert_eq!(texts(("x", channel)), plain, "{channel}");
    }
    let long = format!("c{}", "é".repeat((limits::CHANNEL_BYTES - 1) / 2));
    assert_eq!(texts((&"s".repeat(limits::SPACE_BYTES), &long)), plain);
}

#[test]
fn where_a_key_is_unique_by_itself_who_comes_second_is_refused() {
    let spaces = || scene("id", "", &format!("{SOFT}{SPACE}"));
    let channels = || scene("id", "", &format!("{SOFT}{CHANNEL}"));
    for (scene, here, there) in [
        (both("id"), ("x", "c1"), ("x", "c2")),
        (both("id"), ("x", "c1"), ("y", "c1")),
        (spaces(), ("x", "c"), ("y", "c")),
        (channels(), ("global", "c1"), ("global", "c2")),
    ] {
        scene.enter(here.0, here.1);
        scene.wrote("a", "1", Create, "k", &row("k", "here"));
        let held = || scene.world.value("SELECT title || updated_at FROM todos");
        let before = held();
        let unseen = || {
            scene.enter(there.0, there.1);
            assert!(scene.page("a", &[], None, None, 10).rows.is_empty());
            assert!(scene.page("a", &[], Some(1), None, 10).deleted.is_empty());
            assert_eq!(
                code(&scene, Create, "k", &row("k", "there")),
                Code::Forbidden
            );
            for (action, data) in [(Update, r#"{"title":"there"}"#), (Delete, "")] {
                assert_eq!(code(&scene, action, "k", data), Code::NotFound);
            }
            // A refusal leaves no record.
            let records = "SELECT count(*) FROM tidewire_outcomes WHERE id = 'refused'";
            assert_eq!(scene.world.value(records), "Integer(0)");
        };
        unseen();
        assert_eq!(held(), before);
        // In its own place all is as ever.
        scene.enter(here.0, here.1);
        scene.wrote("a", "2", Update, "k", r#"{"title":"new"}"#);
        let over = scene.wrote("a", "3", Create, "k", &row("k", "over"));
        assert!(over.before.is_some());
        scene.wrote("a", "4", Delete, "k", "");
        // A row that was deleted softly keeps its key.
        unseen();
        scene.enter(here.0, here.1);
        assert!(
            scene
                .wrote("a", "5", Create, "k", &row("k", "again"))
                .row
                .is_some()
        );
        scene.enter(there.0, there.1);
        scene.wrote("a", "6", Create, "own", &row("own", "there"));
        assert_eq!(told(&scene, here), ["k=again"]);
        assert_eq!(told(&scene, there), ["own=there"]);
    }
}

#[test]
fn a_key_that_another_space_takes_meanwhile_is_taken() {
    for (unique, is_free) in [("id", false), ("space, channel, id", true)] {
        let scene = Rc::new(both(unique));
        scene.enter("x", "c1");
        let other = Rc::downgrade(&scene);
        scene.world.before(|_| {});
        scene.world.before(move |_| {
            let scene = other.upgrade().unwrap();
            scene.enter("y", "c1");
            scene.wrote("a", "1", Create, "k", &row("k", "other"));
        });
        let done = scene.write("a", "1", Create, "k", &row("k", "own"));
        match is_free {
            true => assert!(done.answered.is_ok()),
            false => assert_eq!(done.answered.unwrap_err().problem.code, Code::Forbidden),
        }
        assert_eq!(told(&scene, ("y", "c1")), ["k=other"]);
        assert_eq!(told(&scene, ("x", "c1")).len(), usize::from(is_free));
    }
}

#[test]
fn a_row_that_was_overtaken_is_not_taken_for_its_like_elsewhere() {
    let scene = both("space, channel, id");
    scene.stop.set(true);
    for channel in ["c1", "c2"] {
        scene.enter("x", channel);
        scene.wrote("a", channel, Create, "k", &row("k", channel));
    }
    scene.world.before(|_| {});
    scene.world.before(|db| {
        let sql = "UPDATE todos SET n = 7, updated_at = updated_at + 1 WHERE channel = 'c2'";
        db.execute_batch(sql).unwrap();
    });
    let batches = scene.world.batches.get();
    let over = scene.wrote("a", "2", Update, "k", r#"{"title":"new"}"#);
    assert!(over.row.unwrap().contains(r#""n":7"#));
    assert_eq!(scene.world.batches.get(), batches + 3);
}

#[test]
fn rows_of_nobody_are_told_to_nobody() {
    let scene = both("space, channel, id");
    for home in [
        "'', ''",
        "'x', 'c10'",
        "'X', 'c1'",
        "x'78', x'6331'",
        "'x', 'c1 '",
    ] {
        scene.world.run(&format!(
            "INSERT INTO todos (id, title, updated_at, space, channel) VALUES ('k', 't', 1, {home})"
        ));
    }
    assert!(told(&scene, ("x", "c1")).is_empty());
    assert_eq!(code(&scene, Update, "k", "{}"), Code::NotFound);
    assert_eq!(told(&scene, ("x", "c10")), ["k=t"]);
}

#[test]
fn columns_that_say_whose_a_row_is_are_no_fields() {
    let scene = both("space, channel, id");
    scene.enter("x", "c1");
    for field in ["space", "channel"] {
        let data = format!(r#"{{"id":"k","title":"t","{field}":"y"}}"#);
        let failed = scene
            .write("a", "1", Create, "k", &data)
            .answered
            .unwrap_err();
        assert_eq!(failed.problem.code, Code::Invalid);
        assert_eq!(failed.problem.field.as_deref(), Some(field));
    }
}

#[test]
fn pages_and_writes_walk_the_indexes_that_are_advised() {
    let scoped = r#""scope":{"field":"owner"}"#;
    for (rule, columns) in [
        ("", "space, channel, updated_at, id"),
        (scoped, "space, channel, owner, updated_at, id"),
    ] {
        let scene = scene(
            "space, channel, id",
            rule,
            &format!("{SOFT}{SPACE}{CHANNEL}"),
        );
        scene
            .world
            .run(&format!("CREATE INDEX todos_sync ON todos ({columns})"));
        scene.enter("x", "c1");
        let data = r#"{"id":"k","title":"t","owner":"a"}"#;
        scene.wrote("a", "1", Create, "k", data);
        scene.wrote("a", "2", Delete, "k", "");
        for statement in scene.world.statements.take() {
            let plan = scene.world.plan(&statement);
            assert!(!plan.contains("SCAN t"), "{}\n{plan}", statement.sql);
            if plan.contains("SEARCH t ") {
                assert!(
                    plan.contains("autoindex_todos_1 (space=? AND channel=? AND id=?)"),
                    "{plan}"
                );
            }
        }
        scene.page("a", &[], None, None, 10);
        let page = scene.world.statements.take();
        let plan = scene.world.plan(page.first().unwrap());
        let prefix = columns
            .split(", updated_at")
            .next()
            .unwrap()
            .replace(", ", "=? AND ");
        assert!(plan.contains(&format!("todos_sync ({prefix}=?")), "{plan}");
        assert!(!plan.contains("SCAN t"), "{plan}");
    }
}
