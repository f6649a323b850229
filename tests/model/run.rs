//! Plays many histories on all threads, those first that once failed, and demands that they came
//! across enough.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::coverage::Coverage;
use super::{shrink, step};

/// What a game is played with.
pub(crate) struct Plan {
    pub(crate) histories: u64,
    pub(crate) steps: usize,
    /// What a run of so many histories comes across at the least: far below what it usually does,
    /// far above nothing.
    pub(crate) least: &'static [(&'static str, u64)],
    /// Histories that once failed, and the file that they are in.
    pub(crate) kept: (&'static str, &'static str),
}

/// How many steps were played.
static PLAYED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// Plays a history. When it fails: its seed, and what is left of it.
fn try_history(
    plan: &Plan,
    (seed, length, choice): (u64, usize, u32),
    coverage: &mut Coverage,
) -> Result<(), String> {
    let steps = step::history(seed, length, choice);
    PLAYED.fetch_add(steps.len() as u64, Ordering::Relaxed);
    if let Ok(seen) = shrink::play(&steps) {
        coverage.add(&seen);
        return Ok(());
    }
    let (steps, why) = shrink::shrink(steps);
    let lines: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    Err(format!(
        "history {seed} {length} {choice} fails (a line for {}); cut down to {} steps:\n{}\n\n{why}",
        plan.kept.1,
        steps.len(),
        lines.join("\n")
    ))
}

/// The histories that once failed: seed, length, and the choice of steps that they were found with.
fn kept(plan: &Plan) -> Vec<(u64, usize, u32)> {
    let lines = plan.kept.0.lines();
    let read = |line: &str| {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().unwrap());
        let mut next = || words.next().unwrap();
        (next(), next() as usize, next() as u32)
    };
    lines
        .filter(|line| !line.starts_with('#'))
        .map(read)
        .collect()
}

pub(crate) fn run(plan: &Plan) {
    shrink::quiet();
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let base = setting("MODEL_SEED").unwrap_or(clock * 1_000_000);
    let histories = setting("MODEL_HISTORIES").unwrap_or(plan.histories);
    let steps = setting("MODEL_STEPS").map_or(plan.steps, |steps| steps as usize);
    println!("MODEL_SEED={base} MODEL_HISTORIES={histories} MODEL_STEPS={steps}");
    for history in kept(plan) {
        try_history(plan, history, &mut Coverage::default()).unwrap_or_else(|why| panic!("{why}"));
    }
    let next = AtomicU64::new(0);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= histories {
                return Ok(coverage);
            }
            let history = (base.wrapping_add(place), steps, step::CHOICE);
            try_history(plan, history, &mut coverage)
                .inspect_err(|_| next.store(histories, Ordering::Relaxed))?;
        }
    };
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = setting("MODEL_THREADS").map_or(most, |threads| threads as usize);
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
    println!("{:>8} steps", PLAYED.load(Ordering::Relaxed));
    for (what, count) in &coverage.0 {
        println!("{count:>8} {what}");
    }
    if histories >= plan.histories && steps >= plan.steps {
        for (what, least) in plan.least {
            let count = coverage.count(what);
            assert!(
                count >= *least,
                "only {count} of {least}: {what} (MODEL_SEED={base})"
            );
        }
    }
}
