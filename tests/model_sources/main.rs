//! The model test of channels whose rows live elsewhere: random histories of clients, writers,
//! publishers, an app that writes behind the engine's back, time and failures, and of a home that
//! answers late, twice, out of order, wrongly or never.
//!
//! *Between question and answer no change is lost, doubled or reordered, and nothing forbidden is
//! shown.*
//!
//! What a client gets at which moment depends on when the home did what it was asked for, so the
//! oracle does not foresee every frame as that of `tests/model/` does. It holds each frame against
//! what its receiver may ever see, against what it knew before, and against what it asked for; and
//! in the end everybody's copy against the home. It is played, cut down and kept as that one.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used
)]

mod client;
#[path = "../model/coverage.rs"]
mod coverage;
mod game;
#[path = "../model/marks.rs"]
mod marks;
mod operate;
mod presence;
mod read;
#[path = "../model/rng.rs"]
mod rng;
#[path = "../model/run.rs"]
mod run;
mod settle;
#[path = "../model/shrink.rs"]
mod shrink;
mod source;
mod step;
mod truth;
#[path = "../world/mod.rs"]
mod world;
mod write;

use run::Plan;

/// What a run of so many histories comes across at the least: a quarter of what it usually does.
const LEAST: &[(&str, u64)] = &[
    ("acks", 1000),
    ("alarms", 50),
    ("answered out of order", 300),
    ("answers after a late", 50),
    ("answers long after they were true", 500),
    ("answers that nobody waits for", 100),
    ("authorizations", 400),
    ("broken", 50),
    ("caught up", 3000),
    ("channel-changes", 1000),
    ("channel-resets", 50),
    ("closed", 500),
    ("connects", 1000),
    ("copies like the home", 500),
    ("crashes at the end of a turn", 50),
    ("crashes before a close", 5),
    ("crashes before a frame", 20),
    ("crashes before a save", 30),
    ("crashes before a stream's event", 3),
    ("crashes before a turn", 60),
    ("crashes", 100),
    ("deleted keys on pages", 400),
    ("deltas", 4000),
    ("doubtful", 30),
    ("epochs", 10),
    ("fetches of later pages", 1000),
    ("fetches since a time", 1000),
    ("fetches", 6000),
    ("full pages", 3000),
    ("given up", 100),
    ("jumps ahead by days", 40),
    ("jumps back by days", 60),
    ("jumps back by minutes and hours", 40),
    ("jumps back by seconds", 60),
    ("late reads", 40),
    ("late writes", 50),
    ("live copies like the home", 29000),
    ("live creates", 500),
    ("live deletes", 300),
    ("live updates", 300),
    ("lost by a crash, executed", 100),
    ("lost by a crash, not executed", 100),
    ("mutations", 1000),
    ("pages with more", 1000),
    ("pictures of who is present", 500),
    ("posts", 400),
    ("presence told of who goes", 5),
    ("presence told of who moves", 30),
    ("presence", 150),
    ("publishes", 400),
    ("raced by the app", 100),
    ("reads answered", 6000),
    ("reads lost", 30),
    ("refusals", 300),
    ("refused", 50),
    ("repeats of what is under way", 40),
    ("repeats that the home knew", 20),
    ("replays", 200),
    ("resets", 40),
    ("sleeps between two turns", 1500),
    ("sleeps", 200),
    ("storage failures", 50),
    ("streams that ended", 10),
    ("subscriptions behind a question", 50),
    ("subscriptions refused", 100),
    ("told of changes outside", 400),
    ("topics of live sessions", 50),
    ("turns that somebody waits over", 1800),
    ("unclear refusals", 200),
    ("unscoped", 40),
    ("unsubscribes", 50),
    ("waits answered", 60),
    ("writes answered", 1000),
    ("writes lost", 100),
    ("writes outside", 300),
    ("writes", 2000),
    ("wrong answers", 20),
];

#[test]
fn between_question_and_answer_nothing_is_lost_doubled_or_reordered() {
    run::run(&Plan {
        histories: 300,
        steps: 250,
        least: LEAST,
        kept: (include_str!("seeds.txt"), "tests/model_sources/seeds.txt"),
    });
}
