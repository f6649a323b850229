//! Bounds of the whole object: attachments, subscriptions, what one turn sends, what one legacy
//! client is sent, and bounds that are set lower.

use serde_json::{Value, json};
use tidewire::{
    Channel, ChannelPass, ConnId, Grant, Identity, Millis, Session, SessionId, Subscription, limits,
};

use super::world::{World, token};
use super::{blame, code};

/// A user's session, or nobody's, whose attachment has so many bytes.
fn session(user: Option<&str>, bytes: usize) -> Session {
    let with = |context: usize| {
        let grant = Grant {
            identity: user.map(|user| Identity::parse(user).unwrap()),
            context: Some("c".repeat(context).into()),
            ..Grant::default()
        };
        Session::new(SessionId::parse("somebody").unwrap(), grant)
    };
    let around = with(1_000).encode().unwrap().len() - 1_000;
    with(bytes - around)
}

/// Lets the object find so many connections on waking, with attachments of so many bytes each.
fn crowd(w: &mut World, from: u32, count: u32, bytes: usize) {
    crowd_of(w, None, from, count, bytes);
}

fn crowd_of(w: &mut World, user: Option<&str>, from: u32, count: u32, bytes: usize) {
    let attachment = session(user, bytes).encode().unwrap();
    assert_eq!(attachment.len(), bytes);
    let found = (0..count).map(|i| (ConnId(1_000_000 + from + i), Some(attachment.clone())));
    assert_eq!(w.engine.wake(false, found), []);
}

#[test]
fn all_attachments_have_32_mib_and_the_largest_must_still_fit() {
    let most = limits::ATTACHMENTS_BYTES / limits::ATTACHMENT_BYTES;
    for (more, fits) in [(0, true), (1, false)] {
        let mut w = World::new();
        crowd(&mut w, 0, most as u32 - 2, limits::ATTACHMENT_BYTES);
        crowd(&mut w, 10_000, 1, 8_000);
        crowd(&mut w, 20_000, 1, limits::ATTACHMENT_BYTES - 8_000 + more);
        let answer = w.connect_until(None, &[], None);
        assert_eq!(answer.is_ok(), fits);
        if let Err(reply) = answer {
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!((reply.status, code(&body)), (503, "unavailable"));
            // Who leaves makes room.
            crowd(&mut w, 20_000, 1, 2_000);
            assert!(w.connect_until(None, &[], None).is_ok());
        }
    }
}

#[test]
fn a_subscription_fits_into_all_attachments_or_is_refused() {
    for (more, fits) in [(0, true), (1, false)] {
        let mut w = World::new();
        let alice = w.user("alice");
        let mut left = limits::ATTACHMENTS_BYTES - w.attachment_bytes(alice) - "todos".len() + more;
        let full = left / limits::ATTACHMENT_BYTES - 1;
        crowd(&mut w, 0, full as u32, limits::ATTACHMENT_BYTES);
        left -= full * limits::ATTACHMENT_BYTES;
        crowd(&mut w, 10_000, 1, left / 2);
        crowd(&mut w, 20_000, 1, left - left / 2);
        let answer = w.subscribe(alice, "todos");
        assert_eq!(answer["type"] == "snapshot", fits, "{answer}");
        if fits {
            assert_eq!(
                w.subscribe(alice, "todos")["type"],
                "snapshot",
                "again needs no room"
            );
        } else {
            assert_eq!(
                (code(&answer), &answer["error"]["retryable"]),
                ("unavailable", &json!(true))
            );
        }
    }
}

#[test]
fn the_attachments_of_an_identity_have_a_quarter_of_the_room() {
    for (more, fits) in [(0, true), (1, false)] {
        let mut w = World::new();
        let (alice, bob) = (w.user("alice"), w.user("bob"));
        let own = w.attachment_bytes(alice) + "todos".len();
        let left = limits::ATTACHMENTS_PER_IDENTITY - own + more;
        let full = left / limits::ATTACHMENT_BYTES - 1;
        crowd_of(
            &mut w,
            Some("alice"),
            0,
            full as u32,
            limits::ATTACHMENT_BYTES,
        );
        let rest = left - full * limits::ATTACHMENT_BYTES;
        crowd_of(&mut w, Some("alice"), 10_000, 1, rest / 2);
        crowd_of(&mut w, Some("alice"), 20_000, 1, rest - rest / 2);
        let answer = w.subscribe(alice, "todos");
        match fits {
            true => assert_eq!(answer["type"], "snapshot"),
            false => assert_eq!(code(&answer), "unavailable"),
        }
        assert_eq!(w.subscribe(bob, "todos")["type"], "snapshot");
    }
}

#[test]
fn a_space_has_200000_subscriptions_and_no_more() {
    let mut w = World::new();
    let alice = w.live("alice", "notes");
    let mut many = session(None, 2_000);
    for i in 0..1_000 {
        let channel = Channel::parse(&format!("c{i}")).unwrap();
        many.subscriptions.insert(channel, Subscription::default());
    }
    let mut crowd = |from: u32, count: usize, each: usize| {
        let mut few = many.clone();
        while few.subscriptions.len() > each {
            let first = few.subscriptions.keys().next().cloned();
            few.subscriptions.remove(&first.unwrap());
        }
        let attachment = few.encode().unwrap();
        let found =
            (from..from + count as u32).map(|i| (ConnId(1_000_000 + i), Some(attachment.clone())));
        assert_eq!(w.engine.wake(false, found), []);
    };
    crowd(0, limits::SUBSCRIPTIONS_OF_SPACE / 1_000 - 1, 1_000);
    crowd(10_000, 1, 998);
    assert_eq!(
        w.stats()["subscriptions"],
        limits::SUBSCRIPTIONS_OF_SPACE - 1
    );
    assert_eq!(w.subscribe(alice, "todos")["type"], "snapshot");
    let past = w.subscribe(alice, "open");
    assert_eq!(
        (code(&past), &past["error"]["retryable"]),
        ("unavailable", &json!(true))
    );
    assert_eq!(
        w.subscribe(alice, "notes")["type"],
        "snapshot",
        "again needs no room"
    );
    w.send(alice, json!({ "type": "unsubscribe", "channel": "notes" }));
    assert_eq!(w.subscribe(alice, "open")["type"], "snapshot");
}

#[test]
fn a_session_takes_what_an_attachment_holds_and_not_a_byte_more() {
    let room = limits::ATTACHMENT_BYTES - limits::ATTACHMENT_OVERHEAD - limits::PRESENCE_ROOM;
    let mut session = session(None, 9_000);
    let pass = ChannelPass {
        until: Millis(limits::SAFE_INTEGER),
        write: true,
    };
    let how = Subscription {
        meta: true,
        pass: Some(pass),
    };
    // What a subscription takes beside its name, at most.
    let overhead = 14;
    let left = |session: &Session| room - session.encode().unwrap().len() - overhead;
    let name = |i: usize, bytes: usize| Channel::parse(&format!("{i:0bytes$}")).unwrap();
    for i in 0.. {
        if left(&session) <= limits::CHANNEL_BYTES {
            break;
        }
        session.subscriptions.insert(name(i, 32), how);
    }
    let (at, past) = (name(0, left(&session)), name(0, left(&session) + 1));
    assert!(session.has_room_for(&at, limits::SUBSCRIPTIONS));
    assert!(!session.has_room_for(&past, limits::SUBSCRIPTIONS));
    session.subscriptions.insert(at, how);
    assert!(session.encode().unwrap().len() <= room);
}

#[test]
fn one_turn_sends_16_mib_and_puts_off_the_rest() {
    // A page and the number of its receiver take exactly the 64th part of a turn's bytes, or one
    // byte more.
    let page_bytes = limits::TURN_OUT_BYTES / 64 - size_of::<ConnId>();
    for (more, pages) in [(0, 65), (1, 64)] {
        let mut w = World::without_backpressure();
        let row = |bytes: usize| {
            json!({
                "channel": "feed", "action": "create", "key": "k", "data": { "t": "x".repeat(bytes) }
            })
        };
        let subscribe = json!({ "type": "subscribe", "channel": "feed" });
        w.broadcast(row(100_000));
        let nobody = w.nobody();
        w.send(nobody, subscribe.clone());
        let around = w.sent_bytes - 100_000;
        assert_eq!(w.broadcast(row(page_bytes + more - around)).0, 200);
        w.messages(nobody);
        w.send(nobody, Value::Array(vec![subscribe; 70]));
        let live = w
            .messages(nobody)
            .iter()
            .filter(|page| page["more"] == false)
            .count();
        assert_eq!(live, pages);
    }
}

/// Writes rows of so many bytes each into a channel, behind the engine's back.
fn rows(w: &mut World, count: usize, bytes: usize, audience: &str) {
    w.sqlite.execute(&format!(
        "DELETE FROM rows;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO rows (channel, key, seq, data, audience, author, at, lost)
         SELECT 'feed', 'k' || i, i, '\"' || substr(hex(zeroblob({bytes})), 3, {bytes} - 2) || '\"',
            {audience}, NULL, 0, NULL FROM n"
    ));
    w.sleep();
}

fn snapshot(w: &mut World) -> (usize, Value) {
    let legacy = w.connect(None, &[]);
    w.send(legacy, json!({ "type": "subscribe", "channel": "feed" }));
    let first = w.messages(legacy).remove(0);
    (w.sent_bytes, first)
}

#[test]
fn a_legacy_client_gets_32_mib_at_once_and_no_more() {
    let mut w = World::new();
    let count = 128;
    let bytes = limits::LEGACY_SNAPSHOT_BYTES / count - 200;
    rows(&mut w, count, bytes, "NULL");
    let (sent, first) = snapshot(&mut w);
    assert_eq!(first["type"], "snapshot");
    let left = limits::LEGACY_SNAPSHOT_BYTES - sent;
    for (more, fits) in [(0, true), (1, false)] {
        rows(&mut w, count, bytes, "NULL");
        w.sqlite.execute(&format!(
            "UPDATE rows SET data = '\"' || substr(hex(zeroblob({0})), 3, {0} - 2) || '\"'
             WHERE seq = 1",
            bytes + left + more
        ));
        let (sent, first) = snapshot(&mut w);
        assert_eq!(first["type"] == "snapshot", fits, "{}", first["error"]);
        assert_eq!(sent == limits::LEGACY_SNAPSHOT_BYTES, fits);
        assert!(fits || first["id"] == "subscribe");
    }
}

#[test]
fn a_legacy_client_may_have_100000_rows_looked_at_and_no_more() {
    let mut w = World::new();
    for (more, answer) in [(0, "snapshot"), (1, "reject")] {
        rows(
            &mut w,
            limits::LEGACY_SNAPSHOT_ROWS + more,
            10,
            "'[\"user:carol\"]'",
        );
        assert_eq!(snapshot(&mut w).1["type"], answer);
    }
}

#[test]
fn rounds_of_trimming_rows_are_a_day_apart_at_least() {
    let delete = |w: &mut World, key: &str| {
        for action in ["create", "delete"] {
            let change = json!({ "channel": "feed", "action": action, "key": key, "data": {} });
            assert_eq!(w.broadcast(change).0, 200);
        }
    };
    let day = limits::ROWS_SWEEP_PAUSE_MS;
    for later in [60_000, day - 60_000, day, day + 60_000] {
        let mut w = World::new();
        // The round that a new space has coming is long over then.
        w.advance(3 * day);
        delete(&mut w, "a");
        w.advance(later);
        delete(&mut w, "b");
        let first = w.now.plus(limits::RETENTION_MS - later);
        while w.now < first {
            w.now = w.alarm.unwrap();
            assert!(w.ring());
        }
        while w
            .alarm
            .is_some_and(|at| at < w.now.plus(limits::ALARM_GRAIN_MS))
        {
            w.now = w.alarm.unwrap();
            w.ring();
        }
        let rows = w.sqlite.number("SELECT count(*) FROM rows");
        let waits = w.alarm.unwrap().0 - w.now.0;
        assert_eq!(rows, 1, "{later}");
        assert!(
            waits >= day && waits <= day.max(later) + limits::ALARM_GRAIN_MS,
            "{later} {waits}"
        );
    }
}

#[test]
fn what_is_set_lower_holds_at_its_bound_and_is_told() {
    let set = json!({ "frameBytes": 1_024, "rowBytes": 256, "subscriptions": 2 });
    let mut w = World::with_limits(&set);
    let alice = w.connect(Some("alice"), &[]);
    let welcome = w.ask(alice, json!({ "type": "hello", "v": 1 }));
    for (name, value) in set.as_object().unwrap() {
        assert_eq!(&welcome["limits"][name], value, "{name}");
    }
    for channel in ["todos", "notes"] {
        assert_eq!(w.subscribe(alice, channel)["type"], "snapshot");
    }
    assert_eq!(code(&w.subscribe(alice, "open")), "too_many_subscriptions");
    let row = |bytes: usize| {
        let blank = json!({ "id": "k", "t": "" }).to_string().len();
        json!({ "id": "k", "t": "x".repeat(bytes - blank) })
    };
    assert_eq!(w.create(alice, "m1", "todos", row(256))["type"], "ack");
    assert_eq!(
        blame(&w.create(alice, "m2", "todos", row(257))),
        ("invalid", "data")
    );
    let change =
        |data: Value| json!({ "channel": "todos", "action": "create", "key": "k", "data": data });
    assert_eq!(w.broadcast(change(row(256))).0, 200);
    assert_eq!(blame(&w.broadcast(change(row(257))).1), ("invalid", "data"));
    w.messages(alice);
    let ping = |bytes: usize| format!("{}{}", r#"{"type":"ping"}"#, " ".repeat(bytes - 15));
    w.send_text(alice, &ping(1_024));
    assert_eq!(w.one(alice), "pong");
    w.send_text(alice, &ping(1_025));
    assert_eq!(code(&w.one(alice)), "frame_too_large");
    assert_eq!(w.closed(alice), Some(4502));
}

#[test]
fn tokens_of_channels_that_one_is_live_on_already_need_room_too() {
    let mut w = super::passes::world();
    let alice = w.user("alice");
    let names: Vec<String> = (0..900).map(|i| format!("desk:{i:03}")).collect();
    for name in &names {
        assert_eq!(w.subscribe(alice, name)["type"], "snapshot");
    }
    let bound = limits::ATTACHMENT_BYTES - limits::ATTACHMENT_OVERHEAD - limits::PRESENCE_ROOM;
    let far = limits::SAFE_INTEGER / 1_000;
    let mut refused = 0;
    for exp in [w.now.0 / 1_000 + 60, far] {
        w.advance(limits::BURST_SECONDS * 1_000);
        for name in &names {
            let token = token(&json!({ "channel": name, "exp": exp }));
            let answer = super::passes::enter(&mut w, alice, name, &token);
            assert!(w.attachment_bytes(alice) <= bound);
            if answer["type"] == "reject" {
                assert_eq!(code(&answer), "too_many_subscriptions");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    // What it had is as it was, and can be asked for again.
    let last = &names[899];
    assert_eq!(w.subscribe(alice, last)["type"], "snapshot");
    let change = json!({ "channel": last, "action": "create", "key": "k", "data": {} });
    assert_eq!(w.broadcast(change).1["receivers"], 1);
}
