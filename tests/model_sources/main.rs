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
const LEAST: [(&str, u64); 60] = [
    ("acks", 500),
    ("alarms", 40),
    ("answered out of order", 200),
    ("answers after a late", 40),
    ("answers long after they were true", 200),
    ("answers that nobody waits for", 100),
    ("authorizations", 200),
    ("broken", 50),
    ("caught up", 1000),
    ("channel-changes", 300),
    ("channel-resets", 40),
    ("closed", 200),
    ("connects", 500),
    ("copies like the home", 500),
    ("crashes", 50),
    ("deleted keys on pages", 100),
    ("deltas", 2000),
    ("doubtful", 20),
    ("epochs", 10),
    ("fetches", 3000),
    ("fetches of later pages", 500),
    ("fetches since a time", 300),
    ("full pages", 2000),
    ("given up", 100),
    ("jumps back", 50),
    ("late reads", 30),
    ("late writes", 50),
    ("live creates", 400),
    ("live deletes", 100),
    ("live updates", 100),
    ("lost by a crash, executed", 40),
    ("lost by a crash, not executed", 50),
    ("mutations", 500),
    ("pages with more", 1000),
    ("posts", 300),
    ("publishes", 300),
    ("raced by the app", 10),
    ("reads answered", 3000),
    ("reads lost", 20),
    ("refusals", 100),
    ("refused", 50),
    ("repeats of what is under way", 30),
    ("repeats that the home knew", 5),
    ("replays", 100),
    ("resets", 20),
    ("sleeps", 50),
    ("storage failures", 20),
    ("streams that ended", 10),
    ("subscriptions behind a question", 30),
    ("subscriptions refused", 100),
    ("told of changes outside", 200),
    ("topics of live sessions", 40),
    ("unclear refusals", 50),
    ("unscoped", 30),
    ("unsubscribes", 30),
    ("writes", 1000),
    ("writes answered", 500),
    ("writes lost", 20),
    ("writes outside", 100),
    ("wrong answers", 10),
];

#[test]
fn between_question_and_answer_nothing_is_lost_doubled_or_reordered() {
    run::run(&Plan {
        histories: 240,
        steps: 250,
        least: &LEAST,
        kept: (include_str!("seeds.txt"), "tests/model_sources/seeds.txt"),
    });
}
