//! Playing a history so that its failure can be caught, and cutting it down to what it needs.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::game::Game;
use super::run::setting;
use super::step::Step;

/// For how many seconds a failing history is cut down, unless `MODEL_SHRINK_SECONDS` says so.
const PATIENCE: u64 = 15;

thread_local! {
    /// Where the last panic of this thread was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A failure is printed once, with its history, and not each time that a part of it is tried.
pub(crate) fn quiet() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string);
        PLACE.set(place.unwrap_or_default());
        if std::thread::current().name().is_some() {
            loud(info);
        }
    }));
}

/// What a panic said.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_default()
}

/// Plays a history to its end. What it came across, or what went wrong at which step.
pub(crate) fn play(steps: &[Step]) -> Result<Coverage, String> {
    let mut at = 0;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut game = Game::new();
        for step in steps {
            game.play(step);
            at += 1;
        }
        game.finish();
        game.cov
    }));
    played.map_err(|panic| {
        let last = steps
            .get(at)
            .map_or("the end".to_owned(), |step| format!("{step:?}"));
        format!("at {last}\n{}\n({})", text(panic.as_ref()), PLACE.take())
    })
}

/// Takes out of a failing history whatever it fails without, and says how it fails then.
pub(crate) fn shrink(mut steps: Vec<Step>) -> (Vec<Step>, String) {
    let begun = Instant::now();
    let patience = Duration::from_secs(setting("MODEL_SHRINK_SECONDS").unwrap_or(PATIENCE));
    let mut why = play(&steps).err().unwrap_or_default();
    let mut size = steps.len().div_ceil(2);
    loop {
        let before = steps.len();
        let mut from = 0;
        while from < steps.len() && begun.elapsed() < patience {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + size).min(steps.len()));
            match play(&fewer) {
                Err(error) => (steps, why) = (fewer, error),
                Ok(_) => from += size,
            }
        }
        let done = size == 1 && steps.len() == before;
        if done || begun.elapsed() >= patience {
            return (steps, why);
        }
        size = size.div_ceil(2);
    }
}
