//! The Rust publisher against the engine: what it asks for is what the engine does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod world;

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use tidewire::limits;
use tidewire::publisher::{Answer, Change, Post, PublishError, Publisher, Transport};
use world::World;

/// Posts to a world's engine. Loses every answer while `deaf`, breaks after `left` calls.
struct Loopback<'a> {
    world: &'a RefCell<World>,
    deaf: bool,
    left: RefCell<u32>,
}

impl<'a> Loopback<'a> {
    fn to(world: &'a RefCell<World>) -> Self {
        Self {
            world,
            deaf: false,
            left: RefCell::new(u32::MAX),
        }
    }
}

impl Transport for Loopback<'_> {
    async fn post(&self, post: Post<'_>) -> Result<Answer, String> {
        if *self.left.borrow() == 0 {
            return Err("broken".to_owned());
        }
        *self.left.borrow_mut() -= 1;
        let reply = self
            .world
            .borrow_mut()
            .try_call(post.call, post.body, post.idempotency_key);
        match reply.filter(|_| !self.deaf) {
            Some(reply) => Ok(Answer {
                status: reply.status,
                body: reply.body,
            }),
            None => Err("lost".to_owned()),
        }
    }
}

/// Runs a future that never waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the loopback waits"),
    }
}

#[test]
fn one_change_reaches_its_audience() {
    let world = RefCell::new(World::new());
    let (alice, bob) = {
        let mut w = world.borrow_mut();
        (w.live("alice", "todos"), w.live("bob", "todos"))
    };
    let publisher = Publisher::new(Loopback::to(&world));
    let change = Change::create("todos", "k", &json!({ "n": 1 })).unwrap();
    let published = run(publisher.publish(&change.clone().to(["user:alice"]), None)).unwrap();
    assert_eq!((published.seq, published.receivers), (1, 1));
    assert_eq!(
        world.borrow_mut().one(alice)["data"],
        json!({ "id": "k", "n": 1 })
    );
    assert_eq!(world.borrow_mut().messages(bob).len(), 0);
    assert_eq!(
        run(publisher.publish(&change.to_all(), None))
            .unwrap()
            .receivers,
        2
    );
}

#[test]
fn many_changes_of_many_channels_are_one_batch_and_all_or_nothing() {
    let world = RefCell::new(World::new());
    let publisher = Publisher::new(Loopback::to(&world));
    let good = [
        Change::create("todos", "k", &json!({})).unwrap(),
        Change::update("feed", "f", &json!({ "n": 1 })).unwrap(),
        Change::delete("todos", "k"),
    ];
    let published = run(publisher.publish_all(&good, None)).unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].seq, 3);
    let bad = [good[0].clone(), Change::delete("nowhere", "k")];
    let refused = run(publisher.publish_all(&bad, None)).unwrap_err();
    assert!(!refused.is_retryable());
    let PublishError::Refused {
        status,
        code,
        field,
        ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!((status, code.as_str()), (400, "unknown_channel"));
    assert_eq!(field.as_deref(), Some("events[1]"));
    assert_eq!(world.borrow_mut().stats()["seq"], 3);
}

#[test]
fn a_lost_answer_is_retried_with_the_key_and_happens_once() {
    let world = RefCell::new(World::new());
    let mut transport = Loopback::to(&world);
    transport.deaf = true;
    let change = Change::create("todos", "k", &json!({})).unwrap();
    let lost = run(Publisher::new(transport).publish(&change, Some("key"))).unwrap_err();
    assert!(lost.is_retryable() && lost.to_string().contains("idempotency key"));
    let publisher = Publisher::new(Loopback::to(&world));
    assert_eq!(run(publisher.publish(&change, Some("key"))).unwrap().seq, 1);
    assert_eq!(world.borrow_mut().stats()["seq"], 1);
}

#[test]
fn a_long_list_goes_in_parts_and_a_retry_of_the_whole_continues() {
    let world = RefCell::new(World::new());
    let changes: Vec<Change> = (0..2 * limits::BATCH_CHANGES + 1)
        .map(|i| Change::create("todos", &format!("k{i}"), &json!({})).unwrap())
        .collect();
    let transport = Loopback::to(&world);
    *transport.left.borrow_mut() = 2;
    let partly = run(Publisher::new(transport).publish_all(&changes, Some("key"))).unwrap_err();
    let PublishError::Partly {
        published,
        ref error,
    } = partly
    else {
        panic!("{partly}");
    };
    assert_eq!(published, 2 * limits::BATCH_CHANGES);
    assert!(matches!(**error, PublishError::Unknown(_)) && partly.is_retryable());
    let publisher = Publisher::new(Loopback::to(&world));
    let parts = run(publisher.publish_all(&changes, Some("key"))).unwrap();
    let seqs: Vec<u64> = parts.iter().map(|part| part.seq).collect();
    assert_eq!(seqs, [1000, 2000, 2001]);
    assert_eq!(world.borrow_mut().stats()["seq"], 2001);
}
