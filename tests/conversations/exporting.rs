//! Export: what is in the file, and that it is the state at its end whatever happens meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire::{Call, Publisher, limits};

use super::world::World;

/// The lines of a file, parsed.
pub(super) fn lines(file: &str) -> Vec<Value> {
    assert!(file.ends_with('\n'));
    let line = |line: &str| serde_json::from_str(line).unwrap();
    file.lines().map(line).collect()
}

/// The lines of rows, without the header, refusals and the end.
fn rows(file: &str) -> Vec<Value> {
    let mut lines = lines(file);
    lines.retain(|line| line["channel"].is_string());
    lines
}

/// What a file says of the space in the end: header and end differ between a space and its copy.
pub(super) fn content(file: &str) -> Vec<Value> {
    let mut lines = lines(file);
    let [header, .., end] = lines.as_mut_slice() else {
        panic!("a file has two lines at the least");
    };
    for field in ["epoch", "at"] {
        assert!(header.as_object_mut().unwrap().remove(field).is_some());
    }
    assert!(end.as_object_mut().unwrap().remove("checksum").is_some());
    lines
}

pub(super) fn put(w: &mut World, channel: &str, action: &str, key: &str, data: &Value) {
    let body = json!({
        "channel": channel, "action": action, "key": key, "data": data, "to": ["user:a", "b"]
    });
    let (status, answer) = w.broadcast(body);
    assert_eq!(status, 200, "{answer}");
}

/// A copy of a space: the file, imported into a world of its own.
#[track_caller]
pub(super) fn copy(w: &World, file: &str) -> World {
    let mut copy = World::new();
    copy.now = w.now;
    let (status, answer) = copy.import(file);
    assert_eq!((status, &answer["done"]), (200, &json!(true)), "{answer}");
    copy
}

#[test]
fn a_file_has_a_header_all_rows_and_an_end_that_proves_them() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1", "n": 1 }));
    put(&mut w, "notes", "create", "n1", &json!({ "x": "\n" }));
    let at = w.now.0;
    let file = w.export();
    let [header, note, todo, end] = lines(&file).try_into().unwrap();
    let epoch = w.stats()["epoch"].clone();
    let expected = json!({ "tidewire": 1, "space": "global", "epoch": epoch, "at": at });
    assert_eq!(header, expected);
    let expected = json!({
        "channel": "notes", "key": "n1", "seq": 2, "at": at, "to": ["b", "user:a"],
        "data": { "id": "n1", "x": "\n" }
    });
    assert_eq!(note, expected);
    let expected = json!({
        "channel": "todos", "key": "k1", "seq": 1, "at": at, "by": "alice",
        "data": { "id": "k1", "n": 1 }
    });
    assert_eq!(todo, expected);
    assert_eq!((&end["seq"], &end["lines"]), (&json!(2), &json!(3)));
    assert_eq!(end["clock"], at);
    let before = file.rfind("{\"end\"").unwrap();
    let sum = sha256(&file[..before]);
    assert_eq!(end["checksum"], sum);
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_space_that_was_never_written_makes_a_file_of_two_lines() {
    let mut w = World::new();
    assert_eq!(lines(&w.export()).len(), 2);
}

#[test]
fn what_was_deleted_before_is_left_out() {
    let mut w = World::new();
    put(&mut w, "todos", "create", "k", &json!({}));
    put(&mut w, "todos", "delete", "k", &json!({}));
    assert_eq!(lines(&w.export()).len(), 2);
    assert_eq!(lines(&w.export())[1]["seq"], 2);
}

#[test]
fn a_line_end_inside_a_row_ends_no_line() {
    let mut w = World::new();
    let body =
        "{\"channel\":\"todos\",\"action\":\"create\",\"key\":\"k\",\"data\":{\"x\":[1,\r\n2]}}";
    assert_eq!(w.publish_text(Call::Broadcast, body, None).0, 200);
    let file = w.export();
    assert_eq!(rows(&file)[0]["data"]["x"], json!([1, 2]));
    assert_eq!(content(&copy(&w, &file).export()), content(&file));
}

#[test]
fn edits_deletes_and_numbers_of_events_are_in_the_file() {
    let mut w = World::new();
    let alice = w.user("alice");
    for n in 1..=2 {
        w.create(
            alice,
            &format!("c{n}"),
            "doc:1",
            json!({ "id": format!("e{n}") }),
        );
    }
    w.update(alice, "u", "doc:1", json!({ "id": "e1", "x": 1 }));
    w.delete(alice, "d", "doc:1", "e2");
    let gist = |line: &Value| {
        (
            line["seq"].clone(),
            line["nth"].clone(),
            line["old"] == true,
        )
    };
    let seen: Vec<_> = rows(&w.export()).iter().map(gist).collect();
    let expected = [(1, true), (2, true), (3, false), (4, false)];
    assert_eq!(seen, expected.map(|(n, old)| (json!(n), json!(n), old)));
}

#[test]
fn a_page_is_bounded_by_lines_and_by_bytes() {
    let mut w = World::new();
    for n in 0..limits::EXPORT_PAGE_ROWS + 100 {
        put(&mut w, "todos", "create", &format!("k{n:05}"), &json!({}));
    }
    let (at, page) = w.export_page("").unwrap();
    assert_eq!(page.lines().count(), limits::EXPORT_PAGE_ROWS);
    let (end, rest) = w.export_page(&at).unwrap();
    assert_eq!((end.as_str(), rest.lines().count()), ("", 102));

    let mut w = World::new();
    let large = "x".repeat(200 * 1024);
    for n in 0..10 {
        put(
            &mut w,
            "todos",
            "create",
            &format!("k{n}"),
            &json!({ "t": large }),
        );
    }
    let (at, page) = w.export_page("").unwrap();
    let most = limits::EXPORT_PAGE_BYTES + limits::EXPORT_LINE_BYTES;
    assert!(
        (limits::EXPORT_PAGE_BYTES..most).contains(&page.len()),
        "{}",
        page.len()
    );
    assert!(!at.is_empty());
}

#[test]
fn many_channels_are_walked_in_bounded_steps_too() {
    let mut w = World::new();
    let events = |n: usize| {
        let event = |n| json!({ "channel": format!("chat:{n}"), "action": "create", "key": "k", "data": {} });
        json!({ "events": (n..n + 500).map(event).collect::<Vec<_>>() })
    };
    for n in [0, 500, 1000] {
        assert_eq!(w.broadcast_batch(events(n)).0, 200);
    }
    let (at, page) = w.export_page("").unwrap();
    assert!(!at.is_empty() && page.lines().count() < limits::EXPORT_PAGE_ROWS);
    assert_eq!(rows(&w.export()).len(), 1_500);
}

#[test]
fn only_the_publish_key_itself_exports_imports_and_asks_the_doctor() {
    let mut w = World::new();
    let file = w.export();
    w.publisher = Publisher::Named("ops".into());
    assert_eq!(w.export_page("").unwrap_err().status, 403);
    assert_eq!(w.import(&file).0, 403);
    assert_eq!(w.doctor("").0, 403);
}

#[test]
fn a_walk_ends_with_the_log_that_it_began_in_and_text_that_is_none_is_refused() {
    let mut w = World::new();
    for n in 0..limits::EXPORT_PAGE_ROWS {
        put(&mut w, "todos", "create", &format!("k{n}"), &json!({}));
    }
    let (at, _) = w.export_page("").unwrap();
    for bad in ["x", "{}", "[]", &at.replace(" todos", "zz todos")] {
        assert_eq!(w.export_page(bad).unwrap_err().status, 400, "{bad}");
    }
    w.call(Call::Epoch, json!({}));
    let refused = w.export_page(&at).unwrap_err();
    assert_eq!(refused.status, 409);
}

#[test]
fn an_export_outlives_sleep_between_its_pages() {
    let mut w = World::new();
    for n in 0..3 * limits::EXPORT_PAGE_ROWS {
        put(&mut w, "todos", "create", &format!("k{n}"), &json!({}));
    }
    let asleep = w.export_while(World::sleep);
    assert_eq!(asleep, w.export());
}

#[test]
fn refusals_and_removals_that_have_not_ended_are_in_the_file() {
    let mut w = World::new();
    w.call(Call::Disconnect, json!({ "identity": "mallory" }));
    w.call(
        Call::Topics,
        json!({ "identity": "bob", "remove": ["team:a"] }),
    );
    let [_, mallory, bob, _] = lines(&w.export()).try_into().unwrap();
    let (until, ends) = (w.now.0, w.now.0 + limits::REFUSAL_MS);
    let expected = json!({ "refused": "mallory", "until": until, "ends": ends });
    assert_eq!(mallory, expected);
    let expected = json!({ "refused": "bob", "topic": "team:a", "until": until, "ends": ends });
    assert_eq!(bob, expected);
    w.advance(limits::REFUSAL_MS);
    assert_eq!(lines(&w.export()).len(), 2);
}

/// What happens between two pages.
#[derive(Debug, Clone)]
struct Write {
    channel: u8,
    key: u8,
    delete: bool,
    large: bool,
}

fn write() -> impl Strategy<Value = Write> {
    (0u8..6, 0u8..12, any::<bool>(), any::<bool>()).prop_map(|(channel, key, delete, large)| {
        Write {
            channel,
            key,
            delete,
            large,
        }
    })
}

fn perform(w: &mut World, write: &Write, n: &mut u32) {
    const CHANNELS: [&str; 6] = ["todos", "feed", "notes", "doc:1", "doc:2", "chat:1"];
    let channel = CHANNELS[usize::from(write.channel)];
    // Events that cannot be edited come under ever new keys.
    *n += 1;
    let key = match channel {
        "chat:1" => format!("e{n}"),
        _ => format!("k{}", write.key),
    };
    let text = if write.large {
        "x".repeat(150_000)
    } else {
        String::new()
    };
    let body = json!({
        "channel": channel, "key": key, "to": ["user:a"],
        "action": if write.delete && channel != "chat:1" { "delete" } else { "update" },
        "data": { "n": *n, "t": text }
    });
    w.broadcast(body);
    w.advance(1);
}

/// The live rows, and all events, as a reader of the file finds them.
fn state(file: &str) -> BTreeMap<(String, String, u64), Value> {
    let mut latest = BTreeMap::new();
    for row in rows(file) {
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        let event = row["nth"].as_u64();
        let at = (
            text("channel"),
            text("key"),
            event.map_or(0, |_| row["seq"].as_u64().unwrap()),
        );
        match (event, row["data"].is_null()) {
            (None, true) => _ = latest.remove(&at),
            (Some(_), _) | (None, false) => _ = latest.insert(at, row),
        }
    }
    for row in latest.values_mut() {
        row.as_object_mut().unwrap().remove("old");
    }
    latest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn an_export_is_the_state_at_its_end_whatever_is_written_meanwhile(
        before in proptest::collection::vec(write(), 30..80),
        meanwhile in proptest::collection::vec(proptest::collection::vec(write(), 0..12), 0..12),
    ) {
        let mut w = World::new();
        let mut n = 0;
        for write in &before {
            perform(&mut w, write, &mut n);
        }
        let mut meanwhile = meanwhile.iter();
        let file = w.export_while(|w| {
            for write in meanwhile.next().into_iter().flatten() {
                perform(w, write, &mut n);
            }
        });
        let still = w.export();
        prop_assert_eq!(state(&file), state(&still));
        // And the copy holds what the source does, to the last version of every event.
        let mut copied = copy(&w, &file);
        prop_assert_eq!(content(&copied.export()), content(&still));
        copied.sleep();
        prop_assert_eq!(content(&copied.export()), content(&still));
    }
}
