//! Answers of a source that are larger than a page: the rest is kept for the pages after it, not for ever.

use serde_json::{Value, json};
use tidewire::limits;

use super::code;
use super::fetching::{home_of, page, resume, subscribe};
use super::ids;
use super::world::World;

#[test]
fn an_answer_larger_than_a_page_is_kept_for_the_pages_after_it() {
    let mut w = home_of(5);
    w.home.greedy = true;
    let alice = w.user("alice");
    let mut page = w.ask(alice, subscribe(2));
    let mut seen: Vec<String> = ids(&page).into_iter().map(str::to_owned).collect();
    while page["more"] == true {
        page = w.ask(alice, resume(&page, 2));
        assert_eq!(page["mode"], "delta");
        seen.extend(ids(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["k0", "k1", "k2", "k3", "k4"]);
    assert_eq!(w.home.fetches, 1);
}

#[test]
fn a_reader_whose_rest_was_forgotten_begins_anew() {
    let mut w = home_of(3);
    w.home.greedy = true;
    let alice = w.user("alice");
    let first = w.ask(alice, subscribe(2));
    w.sleep();
    w.advance(1);
    let anew = w.ask(alice, resume(&first, 2));
    assert_eq!(
        (&anew["mode"], ids(&anew)),
        (&json!("full"), vec!["k0", "k1"])
    );
    assert_eq!(w.home.fetches, 2);
    // And one that asks for the same page twice, once it was given.
    let last = w.ask(alice, resume(&anew, 2));
    assert_eq!(ids(&last), ["k2"]);
    assert_eq!(w.ask(alice, resume(&anew, 2))["mode"], "full");
}

#[test]
fn what_is_left_of_answers_is_bounded_and_nobody_is_robbed_of_it() {
    const ROW: usize = 256 * 1024;
    let full: Vec<Value> = (0..32)
        .map(|row| {
            let id = format!("k{row:02}");
            let empty = json!({ "id": id, "t": "" }).to_string().len() + id.len();
            let empty = empty + limits::LEFTOVER_OVERHEAD;
            json!({ "id": id, "t": "x".repeat(ROW - empty) })
        })
        .collect();
    assert_eq!(limits::LEFTOVERS_BYTES, 4 * 32 * ROW);
    for past in [false, true] {
        let mut w = World::elsewhere_with(&json!({ "maxConcurrentDeltas": 1_000 }));
        w.slow = true;
        let mut readers = Vec::new();
        for reader in 0..4 {
            let conn = w.user(&format!("user-{reader}"));
            w.send(conn, subscribe(500));
            let (ask, _) = w.look();
            w.answered(ask, page(&full, None));
            readers.push((conn, w.one(conn)));
        }
        if past {
            let conn = w.user("one more");
            w.send(conn, subscribe(1));
            let (ask, _) = w.look();
            let tiny: Vec<Value> = ["a", "b"].iter().map(|id| json!({ "id": id })).collect();
            w.answered(ask, page(&tiny, None));
            assert_eq!(code(&w.one(conn)), "unavailable");
            // Whoever has not asked for long has left its room.
            w.advance(limits::LEFTOVER_MS);
            w.send(conn, subscribe(1));
            let (ask, _) = w.look();
            w.answered(ask, page(&tiny, None));
            assert_eq!(w.one(conn)["more"], true);
        }
        let asks = |w: &mut World, at: usize| {
            let (conn, first) = &readers[at];
            w.send(*conn, resume(first, 500));
            let asked = !w.questions.is_empty();
            w.questions.clear();
            asked
        };
        assert_eq!((asks(&mut w, 0), asks(&mut w, 1)), (past, past));
    }
}
