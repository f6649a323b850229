//! The model test: random histories of clients, publishers, operators, time and failures, held
//! against an oracle that knows the contract and nothing of the engine.
//!
//! *Every permitted change exactly once and in order, and nothing forbidden, not even a key.*
//!
//! `MODEL_HISTORIES`, `MODEL_STEPS` and `MODEL_SEED` change how many, how long and which,
//! `MODEL_THREADS` on how many threads; `scripts/torture.sh model` plays a million steps. A
//! history that fails is cut down to what it needs and printed with its seed; its line belongs
//! into `seeds.txt`, which is played first in every run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used
)]

mod client;
mod connect;
mod copy;
mod coverage;
mod game;
mod http;
mod marks;
mod operate;
mod oracle;
mod page;
mod presence;
mod publish;
mod renew;
mod rng;
mod rules;
mod run;
mod settle;
mod shrink;
mod step;
mod trim;
#[path = "../world/mod.rs"]
mod world;
mod write;

use run::Plan;

const LEAST: &[(&str, u64)] = &[
    ("alarms", 50),
    ("batches in parts", 5),
    ("batches refused as a whole", 50),
    ("batches", 100),
    ("caught up", 100),
    ("changes on streams", 100),
    ("channels closed by other topics", 5),
    ("crashes at the end of a turn", 50),
    ("crashes before a close", 5),
    ("crashes before a frame", 30),
    ("crashes before a save", 25),
    ("crashes before a stream's event", 5),
    ("crashes before a turn", 50),
    ("crashes before the end of a reader", 3),
    ("crashes in mid-fan-out", 3),
    ("crashes", 50),
    ("creates over hidden rows", 10),
    ("deleted while away", 20),
    ("deletes replayed", 30),
    ("delta", 100),
    ("disconnects", 10),
    ("edits replayed", 200),
    ("epochs", 10),
    ("events trimmed by age", 50),
    ("events trimmed by count", 80),
    ("expired asleep", 5),
    ("expired", 50),
    ("full: another epoch", 10),
    ("full: another view", 50),
    ("full: events trimmed", 8),
    ("full: nothing to resume", 100),
    ("full: of the future", 10),
    ("full: reset", 10),
    ("full: trimmed", 20),
    ("hidden rows not found", 50),
    ("idempotency keys used for other content", 10),
    ("idempotent repeats", 50),
    ("ids used for other content", 5),
    ("jumps ahead by days", 100),
    ("jumps back by days", 30),
    ("jumps back by minutes and hours", 30),
    ("jumps back by seconds", 15),
    ("keys of deleted events", 10),
    ("keys of trimmed events", 3),
    ("later pages of streams", 150),
    ("legacy delete while away", 10),
    ("legacy delta", 20),
    ("move-in live", 50),
    ("move-out live", 50),
    ("move-out while away", 20),
    ("mutations over HTTP", 400),
    ("mutations", 700),
    ("older writes", 5),
    ("page after changes in between", 20),
    ("pages over HTTP", 1000),
    ("pages", 100),
    ("presence between two pages", 50),
    ("presence ended between two pages", 3),
    ("presence refused", 100),
    ("presence told of who goes", 50),
    ("presence told of who moves", 200),
    ("publishes", 1000),
    ("read up", 3000),
    ("readers cut off", 200),
    ("readers that wait", 200),
    ("reads refused", 500),
    ("reborn for others while away", 5),
    ("reborn for others", 50),
    ("refused tokens", 10),
    ("renewals", 100),
    ("repeats after reconnecting", 20),
    ("replays of what is out of sight", 5),
    ("replays", 40),
    ("resets", 50),
    ("rows gained by other topics", 20),
    ("rows lost by other topics", 20),
    ("signals", 50),
    ("sleeps between two turns", 3000),
    ("sleeps with clients", 100),
    ("storage failures", 50),
    ("streams ended with a reason", 40),
    ("streams", 1000),
    ("topics of live sessions", 20),
    ("trimmed between two pages", 5),
    ("waits answered", 20),
    ("waits ended", 15),
    ("waits in vain", 30),
    ("writers out of sight", 10),
];

#[test]
fn every_permitted_change_once_and_nothing_forbidden() {
    run::run(&Plan {
        histories: 240,
        steps: 220,
        least: LEAST,
        kept: (include_str!("seeds.txt"), "tests/model/seeds.txt"),
    });
}
