//! The model test: random histories of clients, publishers, operators, time and failures, held
//! against an oracle that knows the contract and nothing of the engine.
//!
//! *Every permitted change exactly once and in order, and nothing forbidden, not even a key.*
//!
//! `MODEL_HISTORIES`, `MODEL_STEPS` and `MODEL_SEED` change how many, how long and which. A
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
mod operate;
mod oracle;
mod page;
mod presence;
mod publish;
mod renew;
mod rng;
mod rules;
mod settle;
mod shrink;
mod step;
mod trim;
#[path = "../world/mod.rs"]
mod world;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use coverage::Coverage;

const HISTORIES: u64 = 240;
const STEPS: usize = 220;

/// What a run of so many histories comes across at the least: far below what it usually does,
/// far above nothing.
const LEAST: [(&str, u64); 62] = [
    ("alarms", 50),
    ("batches", 100),
    ("batches in parts", 5),
    ("batches refused as a whole", 50),
    ("caught up", 100),
    ("channels closed by other topics", 5),
    ("crashes", 50),
    ("crashes in mid-fan-out", 3),
    ("creates over hidden rows", 10),
    ("deleted while away", 20),
    ("deletes replayed", 30),
    ("delta", 100),
    ("disconnects", 10),
    ("edits replayed", 200),
    ("epochs", 10),
    ("events trimmed by age", 50),
    ("events trimmed by count", 80),
    ("expired", 50),
    ("expired asleep", 5),
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
    ("keys of deleted events", 10),
    ("keys of trimmed events", 3),
    ("legacy delete while away", 10),
    ("legacy delta", 20),
    ("move-in live", 50),
    ("move-out live", 50),
    ("move-out while away", 20),
    ("mutations", 700),
    ("older writes", 5),
    ("page after changes in between", 20),
    ("pages", 100),
    ("presence between two pages", 50),
    ("presence ended between two pages", 3),
    ("presence refused", 100),
    ("presence told of who goes", 50),
    ("presence told of who moves", 200),
    ("publishes", 1000),
    ("reborn for others", 50),
    ("reborn for others while away", 5),
    ("refused tokens", 10),
    ("renewals", 100),
    ("repeats after reconnecting", 20),
    ("replays", 40),
    ("replays of what is out of sight", 5),
    ("resets", 50),
    ("rows gained by other topics", 20),
    ("rows lost by other topics", 20),
    ("signals", 50),
    ("sleeps with clients", 100),
    ("storage failures", 50),
    ("topics of live sessions", 20),
    ("writers out of sight", 10),
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// Plays a history. When it fails: its seed, and what is left of it.
fn try_history(seed: u64, length: usize, coverage: &mut Coverage) -> Result<(), String> {
    let steps = step::history(seed, length);
    if let Ok(seen) = shrink::play(&steps) {
        coverage.add(&seen);
        return Ok(());
    }
    let (steps, why) = shrink::shrink(steps);
    let lines: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    Err(format!(
        "history {seed} {length} fails (a line for tests/model/seeds.txt); cut down to {} \
         steps:\n{}\n\n{why}",
        steps.len(),
        lines.join("\n")
    ))
}

/// The histories of `seeds.txt`: seed and length.
fn kept() -> Vec<(u64, usize)> {
    let lines = include_str!("seeds.txt").lines();
    let read = |line: &str| {
        let (seed, length) = line.split_once(' ').unwrap();
        (seed.parse().unwrap(), length.parse().unwrap())
    };
    lines
        .filter(|line| !line.starts_with('#'))
        .map(read)
        .collect()
}

#[test]
fn every_permitted_change_once_and_nothing_forbidden() {
    shrink::quiet();
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let base = setting("MODEL_SEED").unwrap_or(clock * 1_000_000);
    let histories = setting("MODEL_HISTORIES").unwrap_or(HISTORIES);
    let steps = setting("MODEL_STEPS").map_or(STEPS, |steps| steps as usize);
    println!("MODEL_SEED={base} MODEL_HISTORIES={histories} MODEL_STEPS={steps}");
    for (seed, length) in kept() {
        try_history(seed, length, &mut Coverage::default()).unwrap_or_else(|why| panic!("{why}"));
    }
    let next = AtomicU64::new(0);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= histories {
                return Ok(coverage);
            }
            try_history(base.wrapping_add(place), steps, &mut coverage)
                .inspect_err(|_| next.store(histories, Ordering::Relaxed))?;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ends: Vec<Result<Coverage, String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let mut coverage = Coverage::default();
    for end in ends {
        coverage.add(&end.unwrap_or_else(|why| panic!("MODEL_SEED={base}\n{why}")));
    }
    for (what, count) in &coverage.0 {
        println!("{count:>8} {what}");
    }
    if histories >= HISTORIES && steps >= STEPS {
        for (what, least) in LEAST {
            let count = coverage.count(what);
            assert!(
                count >= least,
                "only {count} of {least}: {what} (MODEL_SEED={base})"
            );
        }
    }
}
