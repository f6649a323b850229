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

const LEAST: [(&str, u64); 1] = [("connects", 1)];

#[test]
fn between_question_and_answer_nothing_is_lost_doubled_or_reordered() {
    run::run(&Plan {
        histories: 240,
        steps: 250,
        least: &LEAST,
        kept: (include_str!("seeds.txt"), "tests/model_sources/seeds.txt"),
    });
}
