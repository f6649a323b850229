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
const LEAST: [(&str, u64); 61] = [
    ("acks", 500),
    ("alarms", 50),
    ("answered out of order", 300),
    ("answers after a late", 50),
    ("answers long after they were true", 400),
    ("answers that nobody waits for", 100),
    ("authorizations", 400),
    ("broken", 50),
    ("caught up", 2000),
    ("channel-changes", 500),
    ("channel-resets", 50),
    ("closed", 400),
    ("connects", 1000),
    ("copies like the home", 500),
    ("crashes", 100),
    ("deleted keys on pages", 200),
    ("deltas", 4000),
    ("doubtful", 30),
    ("epochs", 20),
    ("fetches", 5000),
    ("fetches of later pages", 1000),
    ("fetches since a time", 500),
    ("full pages", 3000),
    ("given up", 100),
    ("jumps back", 50),
    ("late reads", 50),
    ("late writes", 50),
    ("live copies like the home", 30000),
    ("live creates", 500),
    ("live deletes", 100),
    ("live updates", 200),
    ("lost by a crash, executed", 50),
    ("lost by a crash, not executed", 100),
    ("mutations", 1000),
    ("pages with more", 1000),
    ("posts", 500),
    ("publishes", 500),
    ("raced by the app", 30),
    ("reads answered", 5000),
    ("reads lost", 40),
    ("refusals", 200),
    ("refused", 50),
    ("repeats of what is under way", 50),
    ("repeats that the home knew", 10),
    ("replays", 200),
    ("resets", 50),
    ("sleeps", 100),
    ("storage failures", 40),
    ("streams that ended", 30),
    ("subscriptions behind a question", 50),
    ("subscriptions refused", 200),
    ("told of changes outside", 300),
    ("topics of live sessions", 50),
    ("unclear refusals", 100),
    ("unscoped", 50),
    ("unsubscribes", 50),
    ("writes", 1000),
    ("writes answered", 1000),
    ("writes lost", 50),
    ("writes outside", 200),
    ("wrong answers", 20),
];

#[test]
fn between_question_and_answer_nothing_is_lost_doubled_or_reordered() {
    run::run(&Plan {
        histories: 400,
        steps: 250,
        least: &LEAST,
        kept: (include_str!("seeds.txt"), "tests/model_sources/seeds.txt"),
    });
}
