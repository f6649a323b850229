//! Writes: judged, made once, overtaken, repeated.

use std::rc::Rc;

use super::*;
use crate::names::{Space, Topic};
use crate::source::d1::world::{Scene, TODOS};
use crate::source::{Scope, not_set_up};

const SOFT: &str = r#""deletedAt":"gone""#;

fn scene() -> Scene {
    Scene::new(TODOS, r#""scope":{"field":"owner"}"#, SOFT)
}

fn open(create: &str) -> Scene {
    Scene::new(create, "", SOFT)
}

fn refusal(answered: crate::source::Answered) -> Failed {
    answered.unwrap_err()
}

fn only(topic: &str) -> Audience {
    Audience::of([Topic::parse(topic).unwrap()]).unwrap()
}

#[test]
fn a_row_is_created_updated_and_deleted() {
    let scene = scene();
    let row = r#"{"id":"k","owner":"alice","title":"milk","done":true,"tags":["a"]}"#;
    let created = scene.wrote("alice", "1", Action::Create, "k", row);
    let told = r#"{"id":"k","title":"milk","done":true,"tags":["a"],"owner":"alice","n":null}"#;
    assert_eq!(created.row.as_deref(), Some(told));
    assert_eq!(
        (created.scope, created.before, created.repeated),
        (Scope::ByRule, None, false)
    );
    let updated = scene.wrote(
        "alice",
        "2",
        Action::Update,
        "k",
        r#"{"done":false,"n":1.5}"#,
    );
    let told = told.replace("true", "false").replace("null", "1.5");
    assert_eq!(updated.row.as_deref(), Some(told.as_str()));
    assert_eq!(updated.before, Some(only("user:alice")));
    let deleted = scene.wrote("alice", "3", Action::Delete, "k", "");
    assert_eq!(deleted.row, None);
    assert_eq!(deleted.scope, Scope::Of(only("user:alice")));
    assert_eq!(
        scene.world.value("SELECT typeof(gone) FROM todos"),
        "Text(\"integer\")"
    );
    assert_eq!(
        scene.world.value("SELECT count(*) FROM tidewire_outcomes"),
        "Integer(3)"
    );
}

#[test]
fn a_deleted_row_is_born_again_without_what_it_had() {
    let scene = open(TODOS);
    scene.wrote(
        "a",
        "1",
        Action::Create,
        "k",
        r#"{"id":"k","title":"x","n":1}"#,
    );
    scene.wrote("a", "2", Action::Delete, "k", "");
    let gone = scene.write("a", "3", Action::Update, "k", "{}").answered;
    assert_eq!(refusal(gone).problem.code, Code::NotFound);
    let again = scene.wrote("a", "4", Action::Create, "k", r#"{"id":"k","title":"y"}"#);
    let row = again.row.unwrap();
    assert!(
        row.contains(r#""title":"y""#) && row.contains(r#""n":null"#),
        "{row}"
    );
    assert_eq!(again.before, None);
    // In place of one that is there, too.
    let over = scene.wrote(
        "a",
        "5",
        Action::Create,
        "k",
        r#"{"id":"k","title":"z","n":2}"#,
    );
    assert_eq!(over.before, Some(Audience::All));
    let bare = scene.wrote("a", "6", Action::Create, "k", r#"{"id":"k","title":"z"}"#);
    assert!(bare.row.unwrap().contains(r#""n":null"#));
}

#[test]
fn without_deleted_at_a_row_goes() {
    let hard = Scene::new(TODOS, "", "");
    hard.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    let deleted = hard.wrote("a", "2", Action::Delete, "k", "");
    assert_eq!(
        (deleted.row, deleted.scope),
        (None, Scope::Of(Audience::All))
    );
    assert_eq!(hard.world.value("SELECT count(*) FROM todos"), "Integer(0)");
}

#[test]
fn a_repeat_is_answered_and_not_executed() {
    let scene = open(TODOS);
    scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    scene
        .world
        .run("UPDATE todos SET title = 'later', updated_at = updated_at + 1");
    let again = scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    assert!(again.repeated && again.row.unwrap().contains("later"));
    // Another's id is another id.
    let other = scene.wrote("b", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    assert!(!other.repeated);
    // And so is one of another space, which may have the same table.
    let global = scene.space.replace(Space::parse("team").unwrap());
    assert!(
        !scene
            .wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#)
            .repeated
    );
    scene.space.replace(global);
    let misused = scene
        .write("a", "1", Action::Update, "k", r#"{"title":"y"}"#)
        .answered;
    let failed = refusal(misused);
    assert_eq!(failed.problem.code, Code::Conflict);
    assert_eq!(
        failed.problem.message,
        "this id was used for another mutation"
    );
    assert!(!failed.may_be_done);
}

#[test]
fn the_repeat_of_a_delete_says_who_could_see_the_row_where_that_is_known() {
    let row = r#"{"id":"k","title":"x","owner":"a"}"#;
    for (rule, source, scope) in [
        ("", "", Scope::Of(Audience::All)),
        (r#""scope":{"field":"owner"}"#, "", Scope::Unknown),
        (
            r#""scope":{"field":"owner"}"#,
            SOFT,
            Scope::Of(only("user:a")),
        ),
    ] {
        let scene = Scene::new(TODOS, rule, source);
        scene.wrote("a", "1", Action::Create, "k", row);
        scene.wrote("a", "2", Action::Delete, "k", "");
        let again = scene.wrote("a", "2", Action::Delete, "k", "");
        assert_eq!(
            (again.row, again.scope, again.repeated),
            (None, scope, true)
        );
    }
}

#[test]
fn a_lost_answer_may_be_done_and_is_found_by_its_repeat() {
    let scene = open(TODOS);
    let row = r#"{"id":"k","title":"x"}"#;
    scene.world.lose(0);
    let failed = refusal(scene.write("a", "1", Action::Create, "k", row).answered);
    assert!(!failed.may_be_done && failed.problem.code == Code::Unavailable);
    scene.world.lose(1);
    let done = scene.write("a", "1", Action::Create, "k", row);
    assert!(done.surprised && done.log.len() == 1);
    let failed = refusal(done.answered);
    assert!(failed.may_be_done && failed.problem.code == Code::Unavailable);
    assert!(scene.wrote("a", "1", Action::Create, "k", row).repeated);
    assert_eq!(
        scene.world.value("SELECT count(*) FROM tidewire_outcomes"),
        "Integer(1)"
    );
}

#[test]
fn rules_are_those_of_rows_in_the_log() {
    let scene = scene();
    let mine = r#"{"id":"k","title":"x","owner":"alice"}"#;
    scene.wrote("alice", "1", Action::Create, "k", mine);
    for (who, action, data, code, field) in [
        ("bob", Action::Update, "{}", Code::NotFound, None),
        ("bob", Action::Delete, "", Code::NotFound, None),
        (
            "bob",
            Action::Create,
            r#"{"id":"k","title":"x","owner":"bob"}"#,
            Code::Forbidden,
            None,
        ),
        (
            "alice",
            Action::Update,
            r#"{"owner":"bob"}"#,
            Code::Forbidden,
            None,
        ),
        (
            "alice",
            Action::Create,
            r#"{"id":"k","title":"x"}"#,
            Code::Invalid,
            Some("owner"),
        ),
        (
            "alice",
            Action::Update,
            r#"{"nosuch":1}"#,
            Code::Invalid,
            Some("nosuch"),
        ),
        (
            "alice",
            Action::Update,
            r#"{"done":1}"#,
            Code::Invalid,
            Some("done"),
        ),
        (
            "alice",
            Action::Update,
            r#"{"gone":1}"#,
            Code::Invalid,
            Some("gone"),
        ),
        (
            "alice",
            Action::Update,
            r#"{"updated_at":1}"#,
            Code::Invalid,
            Some("updated_at"),
        ),
        (
            "alice",
            Action::Update,
            r#"{"title":null}"#,
            Code::Invalid,
            Some("data"),
        ),
    ] {
        let failed = refusal(scene.write(who, "2", action, "k", data).answered);
        assert_eq!(failed.problem.code, code, "{data}");
        assert_eq!(failed.problem.field.as_deref(), field, "{data}");
        assert!(!failed.may_be_done);
    }
    // A refusal leaves no record, and nothing changed.
    assert_eq!(
        scene.world.value("SELECT count(*) FROM tidewire_outcomes"),
        "Integer(1)"
    );
    assert_eq!(scene.world.value("SELECT title FROM todos"), "Text(\"x\")");
}

#[test]
fn times_that_are_fields_are_told_and_not_taken() {
    let columns = r#""columns":["title","updated_at:number"]"#;
    let scene = Scene::with_columns(TODOS, "", columns);
    let row = scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    let at = scene.clock.get();
    assert_eq!(
        row.row.unwrap(),
        format!(r#"{{"id":"k","title":"x","updated_at":{at}}}"#)
    );
    let row = r#"{"id":"k","title":"x","updated_at":1}"#;
    let failed = refusal(scene.write("a", "2", Action::Create, "k", row).answered);
    assert_eq!(failed.problem.field.as_deref(), Some("updated_at"));
}

#[test]
fn who_was_overtaken_judges_the_row_anew() {
    let scene = scene();
    let row = r#"{"id":"k","title":"x","owner":"alice","n":1}"#;
    scene.wrote("alice", "1", Action::Create, "k", row);
    scene.world.before(|_| {});
    scene.world.before(|db| {
        let sql = "UPDATE todos SET n = 2, updated_at = updated_at + 1";
        db.execute_batch(sql).unwrap();
    });
    let batches = scene.world.batches.get();
    let updated = scene.wrote("alice", "2", Action::Update, "k", r#"{"title":"y"}"#);
    let row = updated.row.unwrap();
    assert!(
        row.contains(r#""title":"y""#) && row.contains(r#""n":2"#),
        "{row}"
    );
    assert_eq!(scene.world.batches.get(), batches + 3);
    // Given away meanwhile: it is the other's now.
    scene.world.before(|_| {});
    scene.world.before(|db| {
        let sql = "UPDATE todos SET owner = 'bob', updated_at = updated_at + 1";
        db.execute_batch(sql).unwrap();
    });
    let failed = refusal(scene.write("alice", "3", Action::Delete, "k", "").answered);
    assert_eq!(failed.problem.code, Code::NotFound);
    assert_eq!(scene.world.value("SELECT gone FROM todos"), "Null");
    assert_eq!(
        scene.world.value("SELECT count(*) FROM tidewire_outcomes"),
        "Integer(2)"
    );
}

#[test]
fn a_key_that_was_free_may_be_taken_or_gone() {
    let scene = scene();
    let row = r#"{"id":"k","title":"x","owner":"alice"}"#;
    scene.world.before(|_| {});
    scene.world.before(|db| {
        let sql = "INSERT INTO todos (id, title, owner, updated_at) VALUES ('k', 'y', 'bob', 1)";
        db.execute_batch(sql).unwrap();
    });
    let failed = refusal(scene.write("alice", "1", Action::Create, "k", row).answered);
    assert_eq!(failed.problem.code, Code::Forbidden);
    for sql in [
        "UPDATE todos SET gone = 1 WHERE id = 'k'",
        "DELETE FROM todos WHERE id = 'k'",
    ] {
        scene.world.before(|_| {});
        scene.world.before(move |db| db.execute_batch(sql).unwrap());
        let failed = refusal(scene.write("bob", "1", Action::Update, "k", "{}").answered);
        assert_eq!(failed.problem.code, Code::NotFound, "{sql}");
    }
}

#[test]
fn who_is_overtaken_again_and_again_is_told_to_come_later() {
    let scene = open(TODOS);
    scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    let overtake = |times: usize| {
        scene.world.before(|_| {});
        for _ in 0..times {
            scene.world.before(|db| {
                let sql = "UPDATE todos SET updated_at = updated_at + 1";
                db.execute_batch(sql).unwrap();
            });
        }
    };
    overtake(limits::D1_TRIES - 1);
    scene.wrote("a", "2", Action::Update, "k", r#"{"title":"y"}"#);
    overtake(limits::D1_TRIES);
    let failed = refusal(
        scene
            .write("a", "3", Action::Update, "k", r#"{"title":"z"}"#)
            .answered,
    );
    assert_eq!(failed.problem.code, Code::Unavailable);
    assert_eq!(failed.problem.retry_after_ms, Some(limits::D1_RETRY_MS));
    assert!(!failed.may_be_done);
    assert_eq!(scene.world.value("SELECT title FROM todos"), "Text(\"y\")");
}

#[test]
fn a_repeat_that_runs_beside_the_first_is_executed_once() {
    let scene = Rc::new(open(TODOS));
    let row = r#"{"id":"k","title":"x"}"#;
    scene.world.before(|_| {});
    let other = Rc::downgrade(&scene);
    scene.world.before(move |_| {
        let scene = other.upgrade().unwrap();
        assert!(!scene.wrote("a", "1", Action::Create, "k", row).repeated);
    });
    assert!(scene.wrote("a", "1", Action::Create, "k", row).repeated);
    // Of two mutations under one id, the second is refused.
    let other = Rc::downgrade(&scene);
    scene.world.before(|_| {});
    scene.world.before(move |_| {
        let scene = other.upgrade().unwrap();
        scene.wrote("a", "2", Action::Update, "k", r#"{"title":"y"}"#);
    });
    let failed = refusal(
        scene
            .write("a", "2", Action::Update, "k", r#"{"title":"z"}"#)
            .answered,
    );
    assert_eq!(failed.problem.code, Code::Conflict);
    assert_eq!(scene.world.value("SELECT title FROM todos"), "Text(\"y\")");
}

#[test]
fn two_writes_in_one_millisecond_do_not_pass_for_one() {
    let scene = Rc::new(open(TODOS));
    scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    scene.stop.set(true);
    scene.wrote("a", "2", Action::Update, "k", r#"{"title":"y"}"#);
    let other = Rc::downgrade(&scene);
    scene.world.before(|_| {});
    scene.world.before(move |_| {
        let scene = other.upgrade().unwrap();
        scene.wrote("b", "1", Action::Update, "k", r#"{"n":1}"#);
    });
    let batches = scene.world.batches.get();
    scene.wrote("a", "3", Action::Create, "k", r#"{"id":"k","title":"z"}"#);
    assert_eq!(scene.world.batches.get(), batches + 5);
}

#[test]
fn only_given_columns_are_written() {
    let create = TODOS.replace(");", "); CREATE TABLE log (what);");
    let scene = open(&format!(
        "{create} CREATE TRIGGER n AFTER UPDATE OF n ON todos BEGIN INSERT INTO log VALUES (1); END;"
    ));
    scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    // A number that no JavaScript can read.
    scene
        .world
        .run("UPDATE todos SET n = 9007199254740993; DELETE FROM log");
    scene.wrote("a", "2", Action::Update, "k", r#"{"title":"y"}"#);
    assert_eq!(
        scene.world.value("SELECT n FROM todos"),
        "Integer(9007199254740993)"
    );
    assert_eq!(scene.world.value("SELECT count(*) FROM log"), "Integer(0)");
}

#[test]
fn what_the_database_makes_of_a_row_is_what_is_told() {
    let create = TODOS.replace("done INTEGER", "done INTEGER DEFAULT 1");
    let scene = open(&create.replace("n NUMERIC", "n AS (length(title))"));
    let row = scene
        .wrote(
            "a",
            "1",
            Action::Create,
            "k",
            r#"{"id":"k","title":"four"}"#,
        )
        .row;
    let row = row.unwrap();
    assert!(
        row.contains(r#""done":true"#) && row.contains(r#""n":4"#),
        "{row}"
    );
    let failed = refusal(
        scene
            .write("a", "2", Action::Update, "k", r#"{"n":1}"#)
            .answered,
    );
    assert_eq!(failed.problem.field.as_deref(), Some("n"));
    scene.wrote(
        "a",
        "3",
        Action::Create,
        "k",
        r#"{"id":"k","title":"five!"}"#,
    );
    // A trigger that makes a row which cannot be told.
    scene.world.run(
        "CREATE TRIGGER t AFTER UPDATE OF title ON todos BEGIN UPDATE todos SET tags = '{'; END",
    );
    let done = scene.write("a", "4", Action::Update, "k", r#"{"title":"x"}"#);
    assert!(done.log.first().unwrap().contains("tags"), "{:?}", done.log);
    let failed = refusal(done.answered);
    assert!(failed.may_be_done && failed.problem.code == Code::Internal);
    // Nobody sees it, and so nobody writes it.
    let failed = refusal(scene.write("a", "5", Action::Update, "k", "{}").answered);
    assert_eq!(failed.problem.code, Code::NotFound);
    let failed = refusal(
        scene
            .write("a", "5", Action::Create, "k", r#"{"id":"k","title":"x"}"#)
            .answered,
    );
    assert_eq!(failed.problem.code, Code::Forbidden);
}

#[test]
fn a_row_holds_at_its_bound_and_not_past_it() {
    let scene = Scene::with_columns(TODOS, "", r#""columns":["title"]"#);
    let bytes = scene.row_bytes - r#"{"id":"k","title":""}"#.len();
    let row = |more: usize| format!(r#"{{"id":"k","title":"{}"}}"#, "x".repeat(bytes + more));
    let told = scene.wrote("a", "1", Action::Create, "k", &row(0));
    assert_eq!(told.row.unwrap().len(), scene.row_bytes);
    let failed = refusal(scene.write("a", "2", Action::Create, "k", &row(1)).answered);
    assert_eq!(failed.problem.field.as_deref(), Some("data"));
}

#[test]
fn keys_may_be_whole_numbers() {
    let scene = open(&TODOS.replace("id TEXT", "id INTEGER"));
    let row = scene
        .wrote("a", "1", Action::Create, "7", r#"{"id":"7","title":"x"}"#)
        .row;
    assert!(row.unwrap().starts_with(r#"{"id":"7","#));
    scene.wrote("a", "2", Action::Update, "7", r#"{"title":"y"}"#);
    for key in ["07", "7.0", "seven", "-0", "9007199254740992", "+7", " 7"] {
        let data = format!(r#"{{"id":"{key}","title":"x"}}"#);
        let failed = refusal(scene.write("a", "3", Action::Create, key, &data).answered);
        assert_eq!(failed.problem.field.as_deref(), Some("id"), "{key}");
        for action in [Action::Update, Action::Delete] {
            let failed = refusal(scene.write("a", "3", action, key, "{}").answered);
            assert_eq!(failed.problem.code, Code::NotFound, "{key}");
        }
    }
    let most = "9007199254740991";
    let data = format!(r#"{{"id":"{most}","title":"x"}}"#);
    scene.wrote("a", "4", Action::Create, most, &data);
    scene.wrote("a", "5", Action::Delete, "7", "");
    assert_eq!(
        scene
            .world
            .value("SELECT count(*) FROM todos WHERE gone IS NOT NULL"),
        "Integer(1)"
    );
}

#[test]
fn times_may_be_texts() {
    let create = TODOS
        .replace("updated_at INTEGER", "updated_at TEXT")
        .replace("gone INTEGER", "gone DATETIME");
    let scene = open(&create);
    scene.wrote("a", "1", Action::Create, "k", r#"{"id":"k","title":"x"}"#);
    scene.stop.set(true);
    scene.wrote("a", "2", Action::Update, "k", r#"{"title":"y"}"#);
    scene.wrote("a", "3", Action::Delete, "k", "");
    let value = scene
        .world
        .value("SELECT updated_at || ' ' || gone FROM todos");
    assert_eq!(
        value,
        "Text(\"2023-11-14T22:13:20.003Z 2023-11-14T22:13:20.001Z\")"
    );
}

#[test]
fn records_outlive_two_days_and_are_swept_then() {
    let scene = open(TODOS);
    let row = r#"{"id":"k","title":"x"}"#;
    let records = limits::D1_SWEPT + 2;
    for nth in 0..records {
        scene.wrote("a", &format!("old {nth}"), Action::Create, "k", row);
    }
    let count = || scene.world.value("SELECT count(*) FROM tidewire_outcomes");
    let day = limits::DAY_MS;
    let start = scene.clock.get();
    // To the end of the second day after.
    scene
        .clock
        .set((start / day + limits::D1_RECORD_DAYS + 1) * day - 2);
    assert!(scene.wrote("a", "old 0", Action::Create, "k", row).repeated);
    scene
        .clock
        .set((start / day + limits::D1_RECORD_DAYS + 1) * day);
    assert!(!scene.wrote("a", "old 0", Action::Create, "k", row).repeated);
    assert_eq!(
        count(),
        format!("Integer({})", records + 1 - limits::D1_SWEPT)
    );
    scene.wrote("a", "new", Action::Create, "k", row);
    assert_eq!(count(), "Integer(2)");
    // A machine whose clock is behind finds it all the same.
    scene.clock.set(scene.clock.get() - day);
    assert!(scene.wrote("a", "new", Action::Create, "k", row).repeated);
}

#[test]
fn nothing_is_written_without_a_place_for_records() {
    let scene = open(TODOS);
    scene.world.run("DROP TABLE tidewire_outcomes");
    scene.look();
    let done = scene.write("a", "1", Action::Create, "k", r#"{"id":"k"}"#);
    assert!(done.log[0].contains("tidewire_outcomes"), "{:?}", done.log);
    assert_eq!(refusal(done.answered).problem, not_set_up());
}
