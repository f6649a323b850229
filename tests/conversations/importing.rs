//! Import: a space from a file, all of it or nothing.

use serde_json::{Value, json};
use tidewire::{Call, limits};

use super::exporting::{content, copy, put};
use super::world::World;
use super::world::readers::reads;
use super::{blame, code, ids};

/// A world whose space holds a bit of everything, and its export.
fn source() -> (World, String) {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1", "title": "milk" }));
    w.create(
        alice,
        "m2",
        "notes",
        json!({ "id": "n1", "ownerId": "alice" }),
    );
    w.create(alice, "m3", "doc:1", json!({ "id": "e1" }));
    w.update(alice, "m4", "doc:1", json!({ "id": "e1", "x": 1 }));
    w.delete(alice, "m5", "doc:1", "e1");
    w.call(Call::Disconnect, json!({ "identity": "mallory" }));
    w.advance(1_000);
    let file = w.export();
    (w, file)
}

/// The first line of a file.
const HEADER: &str = "{\"tidewire\":1,\"space\":\"global\",\"epoch\":\"abc\",\"at\":1}\n";

fn empty(w: &World) -> World {
    let mut empty = World::new();
    empty.now = w.now;
    empty
}

/// The file with a text in place of another, and with the checksum of what that makes.
fn forged(file: &str, old: &str, new: &str) -> String {
    assert!(file.contains(old), "{old}");
    signed(&file.replacen(old, new, 1))
}

/// Where a file's last line begins.
fn end_of(file: &str) -> usize {
    file.trim_end().rfind('\n').unwrap() + 1
}

/// The file with the right count and checksum for its lines.
fn signed(file: &str) -> String {
    use sha2::Digest as _;
    let (body, end) = file.split_at(end_of(file));
    let mut end: Value = serde_json::from_str(end).unwrap();
    let hash = sha2::Sha256::digest(body);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    end["checksum"] = json!(hex);
    end["lines"] = json!(body.lines().count());
    format!("{body}{end}\n")
}

/// A file of a header, these lines, and an end.
fn file_of(lines: &[Value]) -> String {
    let header = json!({ "tidewire": 1, "space": "x", "epoch": "abc", "at": 1 });
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let end = json!({ "end": true, "seq": 1_000, "clock": 1_000, "lines": 0, "checksum": "" });
    signed(&format!("{header}\n{lines}{end}\n"))
}

fn row(channel: &str, key: &str, seq: u64) -> Value {
    json!({ "channel": channel, "key": key, "seq": seq, "at": 1, "data": { "id": key } })
}

/// The space is as if nobody had ever asked it for anything.
#[track_caller]
fn assert_untouched(w: &mut World) {
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM versions"), 0);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM refusals"), 0);
    assert_eq!(w.stats()["seq"], 0);
    let alice = w.user("alice");
    assert_eq!(ids(&w.subscribe(alice, "todos")), [""; 0]);
    w.drop(alice);
}

#[test]
fn a_copy_has_the_rows_authors_times_audiences_and_events_of_its_source() {
    let (mut w, file) = source();
    let mut copy = copy(&w, &file);
    assert_eq!(content(&copy.export()), content(&file));
    for w in [&mut w, &mut copy] {
        let (alice, bob) = (w.user("alice"), w.user("bob"));
        let subscribe = json!({ "type": "subscribe", "id": "s", "channel": "todos", "meta": true });
        let todos = w.ask(alice, subscribe);
        assert_eq!(todos["data"], json!([{ "id": "k1", "title": "milk" }]));
        assert_eq!(todos["meta"]["k1"]["by"], "alice");
        assert_eq!(ids(&w.subscribe(alice, "notes")), ["n1"]);
        assert_eq!(ids(&w.subscribe(bob, "notes")), [""; 0]);
        w.drop(alice);
        w.drop(bob);
    }
    // The log goes on where it ended.
    put(&mut copy, "todos", "create", "k2", &json!({}));
    assert_eq!(copy.stats()["seq"], 6);
    let alice = copy.user("alice");
    let event = copy.create(alice, "m", "doc:1", json!({ "id": "e2" }));
    assert_eq!(event["type"], "ack");
    assert_eq!(
        copy.sqlite.number("SELECT nth FROM rows WHERE key = 'e2'"),
        4
    );
}

#[test]
fn a_copy_is_a_new_epoch_so_no_cursor_of_before_resumes() {
    let (mut w, file) = source();
    let alice = w.user("alice");
    let before = w.subscribe(alice, "todos");
    let mut copy = copy(&w, &file);
    assert_ne!(copy.stats()["epoch"], w.stats()["epoch"]);
    copy.sleep();
    assert_eq!(copy.stats()["seq"], 5);
    let alice = copy.user("alice");
    let resumed = copy.resume(alice, "todos", &before["cursor"], &before["view"]);
    assert_eq!(resumed["mode"], "full");
}

#[test]
fn refused_tokens_stay_refused() {
    let (w, file) = source();
    let mut copy = copy(&w, &file);
    let issued = tidewire::Millis(w.now.0 - 1_000);
    assert_eq!(copy.session("mallory", issued).0, 401);
    assert_eq!(copy.session("alice", issued).0, 200);
    copy.advance(limits::REFUSAL_MS);
    copy.ring();
    assert_eq!(copy.sqlite.number("SELECT count(*) FROM refusals"), 0);
}

#[test]
fn only_a_space_that_was_never_written_takes_an_import() {
    let (w, file) = source();
    let mut written = empty(&w);
    put(&mut written, "todos", "create", "k", &json!({}));
    put(&mut written, "todos", "delete", "k", &json!({}));
    let (status, answer) = written.import(&file);
    assert_eq!((status, code(&answer)), (409, "conflict"));
    let mut refusing = empty(&w);
    refusing.call(Call::Disconnect, json!({ "identity": "eve" }));
    assert_eq!(refusing.import(&file).0, 409);
    let mut copied = copy(&w, &file);
    assert_eq!(
        copied.import(&file).0,
        200,
        "the same again, whose answer may be lost"
    );
    assert_eq!(content(&copied.export()), content(&file));
    put(&mut copied, "todos", "create", "k9", &json!({}));
    assert_eq!(copied.import(&file).0, 409);
}

#[test]
fn until_all_is_in_the_space_opens_to_nobody() {
    let (w, file) = source();
    let mut w = empty(&w);
    let (early, half) = (w.user("alice"), file.find("{\"refused\"").unwrap());
    let lines = file[..half].lines().count() as u64;
    let (status, answer) = w.import(&file[..half]);
    assert_eq!(
        (status, answer),
        (200, json!({ "lines": lines, "done": false }))
    );
    assert_eq!(w.closed(early), Some(4000));
    for asleep in [false, true] {
        if asleep {
            w.sleep();
        }
        let refused = w.connect_until(Some("alice"), &[], None).unwrap_err();
        assert_eq!(refused.status, 503);
        assert!(refused.body.contains("being imported"), "{}", refused.body);
        assert_eq!(w.call(Call::Epoch, json!({})).0, 503);
        assert_eq!(w.session("alice", w.now).0, 503);
        assert_eq!(w.presence("open").0, 503);
        assert_eq!(w.export_page("").unwrap_err().status, 503);
        assert_eq!(w.doctor("").0, 503);
        assert_eq!(w.stats()["space"], "global");
    }
    let (status, answer) = w.import_at(lines + 1, &file[half..]);
    assert_eq!((status, &answer["done"]), (200, &json!(true)), "{answer}");
    assert_eq!(answer["epoch"], w.stats()["epoch"]);
    assert_eq!(content(&w.export()), content(&file));
}

#[test]
fn an_import_goes_on_line_by_line_also_after_sleep_and_skips_what_is_in() {
    let (w, file) = source();
    let mut w = empty(&w);
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    for (index, line) in lines.iter().enumerate() {
        let number = index as u64 + 1;
        let (status, answer) = w.import_at(number, line);
        assert_eq!(
            (status, &answer["lines"]),
            (200, &json!(number)),
            "{answer}"
        );
        if number < lines.len() as u64 {
            w.sleep();
            let (status, answer) = w.import_at(number + 2, line);
            assert_eq!(status, 409);
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(
                message.ends_with(&format!("at line {}", number + 1)),
                "{message}"
            );
            // A part that was cut off comes again from its first line.
            if index >= 1 {
                let part = lines[1..=index].concat();
                assert_eq!(w.import_at(2, &part).1["lines"], number);
            }
        }
    }
    assert_eq!(content(&w.export()), content(&file));
    assert_eq!(w.import_at(2, lines[1]).0, 409, "no import is under way");
    assert_eq!(w.import_at(0, lines[0]).0, 400);
}

#[test]
fn line_1_begins_anew() {
    let (w, file) = source();
    let mut w = empty(&w);
    let half = file.find("{\"refused\"").unwrap();
    w.import(&file_of(&[row("todos", "other", 1)])[..100]);
    assert_eq!(w.import(&file[..half]).0, 200);
    assert_eq!(w.import(&file).0, 200);
    assert_eq!(content(&w.export()), content(&file));
}

#[test]
fn a_damaged_file_leaves_the_space_empty_and_names_the_line() {
    let (w, file) = source();
    let cut = file.lines().count();
    let without_line = |n: usize| {
        let lines = file.split_inclusive('\n').enumerate();
        lines
            .filter(|(at, _)| *at != n)
            .map(|(_, line)| line)
            .collect::<String>()
    };
    for (damaged, line) in [
        (file.replacen("milk", "silk", 1), cut),
        (file.replacen("milk", "mil", 1), cut),
        (without_line(0), 1),
        (without_line(1), cut - 1),
        (without_line(cut - 2), cut - 1),
        (file.replacen("\"checksum\":\"", "\"checksum\":\"0", 1), cut),
        (file.replacen("{\"channel\"", "{\"chanel\"", 1), 2),
        (file.replacen("\n{\"channel\"", "\n\n{\"channel\"", 1), 2),
        (file.replacen('\n', "\n{\n", 1), 2),
        (format!("{file}{{}}\n"), cut + 1),
        (String::new(), 1),
    ] {
        let mut w = empty(&w);
        let (status, answer) = w.import(&damaged);
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("line {line}: ")), "{message}");
        assert!(!message.contains("milk"), "{message}");
        assert_untouched(&mut w);
        // And takes the right one.
        assert_eq!(w.import(&file).0, 200);
    }
}

#[test]
fn a_damaged_part_takes_back_the_parts_before_it() {
    let (w, file) = source();
    let mut w = empty(&w);
    let half = file.find("{\"refused\"").unwrap();
    let lines = file[..half].lines().count() as u64;
    assert_eq!(w.import(&file[..half]).0, 200);
    assert!(w.sqlite.number("SELECT count(*) FROM rows") > 0);
    w.sleep();
    assert_eq!(w.import_at(lines + 1, "{}\n").0, 400);
    assert_untouched(&mut w);
    w.sleep();
    assert_untouched(&mut w);
}

#[test]
fn lines_that_no_export_holds_are_refused_even_with_the_right_checksum() {
    let (w, _) = source();
    let future = w.now.0 + limits::IMPORT_AHEAD_MS;
    let at = |mut row: Value, at: u64| {
        row["at"] = json!(at);
        row
    };
    let refusal = |ends: u64| json!({ "refused": "a", "until": 1, "ends": ends });
    let most = future + limits::REFUSAL_MS;
    for (lines, field) in [
        (vec![row("a", "k", 2), row("a", "l", 2)], "seq"),
        (
            vec![row("a", "k", 2), row("b", "k", 3), row("a", "l", 1)],
            "seq",
        ),
        (vec![at(row("a", "k", 1), 5), at(row("a", "l", 2), 4)], "at"),
        (vec![at(row("a", "k", 1), future + 1)], "at"),
        (vec![row("a", "k", 1_001)], "seq"),
        (vec![at(row("a", "k", 1), 1_001)], "seq"),
        (vec![refusal(most + 1)], "ends"),
    ] {
        let mut w = empty(&w);
        let (status, answer) = w.import(&file_of(&lines));
        assert_eq!(status, 400, "{lines:?}");
        assert_eq!(blame(&answer), ("invalid", field), "{lines:?}");
        assert_untouched(&mut w);
    }
    let fine = [row("a", "k", 1_000), row("b", "k", 999), refusal(most)];
    assert_eq!(empty(&w).import(&file_of(&fine)).0, 200);
    let late = forged(
        &file_of(&fine),
        "\"clock\":1000",
        &format!("\"clock\":{future}"),
    );
    assert_eq!(empty(&w).import(&late).0, 200);
    let late = forged(&late, &format!("{future}"), &format!("{}", future + 1));
    assert_eq!(blame(&empty(&w).import(&late).1), ("invalid", "clock"));
}

#[test]
fn an_old_version_may_not_be_newer_than_the_end() {
    let mut w = World::new();
    let mut old = row("doc:1", "k", 1_001);
    (old["nth"], old["old"]) = (json!(1), json!(true));
    assert_eq!(blame(&w.import(&file_of(&[old])).1), ("invalid", "seq"));
}

#[test]
fn rows_of_any_age_and_limit_are_taken_up_to_the_contracts_bound() {
    let bytes = |bytes: usize| {
        let mut row = row("todos", "k", 1);
        let rest = bytes - row["data"].to_string().len() - r#","t":"""#.len();
        row["data"]["t"] = json!("x".repeat(rest));
        file_of(&[row])
    };
    let mut w = World::with_limits(&json!({ "rowBytes": 300 }));
    assert_eq!(w.import(&bytes(limits::ROW_BYTES)).0, 200);
    let mut w = World::new();
    assert_eq!(
        blame(&w.import(&bytes(limits::ROW_BYTES + 1)).1),
        ("invalid", "data")
    );
}

#[test]
fn a_full_space_takes_no_more_and_is_empty_again() {
    let mut w = World::with_limits(&json!({ "storageBytes": 1_000_000 }));
    let large = |n: u64| {
        let mut row = row("todos", &format!("k{n}"), n);
        row["data"]["t"] = json!("x".repeat(200_000));
        row
    };
    let rows: Vec<Value> = (1..=6).map(large).collect();
    let (status, answer) = w.import(&file_of(&rows));
    assert_eq!((status, code(&answer)), (503, "unavailable"));
    assert_untouched(&mut w);
    assert_eq!(w.import(&file_of(&rows[..3])).0, 200);
}

#[test]
fn storage_that_fails_leaves_the_import_as_it_was_before_the_piece() {
    let (w, file) = source();
    let half = file.find("{\"refused\"").unwrap();
    let lines = file[..half].lines().count() as u64;
    for statement in 0.. {
        let mut w = empty(&w);
        w.import(&file[..half]);
        w.sqlite.fail_after(statement);
        let (status, _) = w.import_at(lines + 1, &file[half..]);
        if w.sqlite.spared() {
            assert_eq!(status, 200);
            assert!(statement > 5);
            break;
        }
        assert_eq!(status, 503, "{statement}");
        assert_eq!(w.import_at(lines + 1, &file[half..]).0, 200, "{statement}");
        assert_eq!(content(&w.export()), content(&file));
    }
}

#[test]
fn a_crash_in_the_middle_leaves_an_import_that_goes_on() {
    let (w, file) = source();
    let half = file.find("{\"refused\"").unwrap();
    let lines = file[..half].lines().count() as u64;
    let mut w = empty(&w);
    w.crash_after = Some(1);
    assert!(w.try_import(1, &file[..half]).is_none());
    assert_eq!(
        w.connect_until(Some("a"), &[], None).unwrap_err().status,
        503
    );
    assert_eq!(w.import_at(lines + 1, &file[half..]).0, 200);
    assert_eq!(content(&w.export()), content(&file));
}

#[test]
fn nothing_is_trimmed_until_all_is_in_and_then_by_the_rules_of_the_space() {
    let mut w = World::new();
    w.advance(1_000);
    let events: Vec<Value> = (1..=5)
        .map(|n| {
            let mut event = row("news", &format!("e{n}"), n);
            event["nth"] = json!(n);
            event
        })
        .collect();
    let file = file_of(&events);
    let half = end_of(&file);
    w.import(&file[..half]);
    w.advance(8 * limits::DAY_MS);
    assert!(!w.ring());
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 5);
    assert_eq!(w.import_at(7, &file[half..]).0, 200);
    w.advance(60_000);
    assert!(w.ring());
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 3);
}

#[test]
fn rows_of_a_channel_without_a_rule_come_along() {
    let mut w = World::new();
    assert_eq!(w.import(&file_of(&[row("unruled", "k", 1)])).0, 200);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 1);
}

#[test]
fn a_file_of_another_format_is_refused_by_its_version() {
    let (w, file) = source();
    let mut w = empty(&w);
    let other = forged(&file, "{\"tidewire\":1", "{\"tidewire\":2");
    let (status, answer) = w.import(&other);
    assert_eq!((status, code(&answer)), (400, "unsupported_version"));
}

#[test]
fn the_last_piece_of_an_import_may_come_twice() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    let file = w.export();
    let mut other = World::new();
    other.now = w.now;
    assert_eq!(other.import_at(1, &file).0, 200);
    // The answer was lost, and `persistently` asks again.
    let (status, body) = other.import_at(1, &file);
    assert_eq!(status, 200, "{body}");
}

#[test]
fn an_abandoned_import_does_not_ring_every_minute() {
    let mut w = World::new();
    assert_eq!(w.import_at(1, HEADER).0, 200);
    w.advance(8 * limits::DAY_MS);
    let mut rang = 0;
    for _ in 0..60 {
        w.advance(60_000);
        rang += u64::from(w.ring());
    }
    assert!(rang < 5, "rang {rang} times in an hour");
}

#[test]
fn readers_of_an_empty_space_end_when_an_import_begins() {
    let mut w = World::new();
    let at = w.page(&reads("bob", "todos")).1;
    let waits = w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
    let streams = w.stream(&reads("bob", "todos"));
    let (status, body) = w.import_at(1, HEADER);
    assert_eq!(status, 200, "{body}");
    w.advance(60_000);
    w.ring_readers();
    assert!(
        w.answer(waits).is_some(),
        "the waiting reader is never answered"
    );
    assert!(w.reader_ended(streams), "the stream is never ended");
}
