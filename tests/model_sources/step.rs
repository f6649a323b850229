//! The steps of a history. Each says what it is about in small numbers that mean something in any
//! state, so that a history stays playable when steps are taken out of it.

use super::rng::Rng;
use super::world::World;
use serde_json::json;

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// Where everybody sees everything, where a field says who sees a row, where the source says so.
pub(crate) const CHANNELS: [&str; 3] = ["todos", "notes", "team:x"];
pub(crate) const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
pub(crate) const TEAMS: [&str; 3] = ["a", "b", "c"];

/// A world with these channels, where questions are not paced.
pub(crate) fn world() -> World {
    let limits = json!({ "minIntervalMs": 0, "maxConcurrentDeltas": 1_000 });
    let source = json!({ "handler": "home", "authorize": false });
    let channels = json!({
        "todos": { "read": "user", "write": "user", "source": { "handler": "home" } },
        "notes": {
            "read": "user", "write": "user", "scope": { "field": "ownerId" }, "source": source
        },
        "team:*": { "read": "user", "write": "user", "presence": true, "source": source }
    });
    let limits = limits.to_string();
    let config = super::world::config_with(&channels, &[("SYNC_LIMITS", &limits)]);
    let mut world = World::with_config(config);
    world.slow = true;
    world
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One change that somebody asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) channel: &'static str,
    pub(crate) action: Action,
    pub(crate) key: u64,
    /// Whom the scoping field names, as bits; an update without any leaves it as it is.
    pub(crate) scope: u64,
}

/// How a source answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// As it is.
    Truth,
    /// It does not know who may see what it wrote.
    Unscoped,
    /// It has done it, and cannot say so.
    Lost,
    /// It has not done it, and does not know.
    Doubt,
    /// It has not done it.
    Broken,
    /// It forbids it.
    Refused,
    /// It says what it was not asked for.
    Wrong,
}

/// What a client does about its presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Be {
    Here,
    Watching,
    Gone,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Connect {
        client: usize,
        resume: bool,
    },
    Leave {
        client: usize,
    },
    Subscribe {
        client: usize,
        channel: &'static str,
        from_nothing: bool,
        limit: u64,
    },
    Unsubscribe {
        client: usize,
        channel: &'static str,
    },
    /// Asks until everything is there; the home answers at once.
    CatchUp {
        client: usize,
        limit: u64,
    },
    Mutate {
        client: usize,
        item: Item,
    },
    /// An earlier mutation of the same identity once more.
    Repeat {
        client: usize,
        back: usize,
    },
    /// Mutations over HTTP: new ones, and perhaps an earlier one.
    Post {
        identity: &'static str,
        items: Vec<Item>,
        back: Option<usize>,
    },
    /// The app writes a row and publishes it.
    Publish {
        item: Item,
    },
    /// The app writes a row and tells nobody yet.
    Outside {
        item: Item,
    },
    /// The app tells that a channel has changed outside.
    Tell {
        channel: &'static str,
    },
    Reset {
        channel: &'static str,
    },
    Epoch,
    Topics {
        identity: &'static str,
        add: u64,
        remove: u64,
    },
    /// The home does what it was asked for; nobody knows yet.
    Execute {
        nth: usize,
    },
    Answer {
        nth: usize,
        how: How,
    },
    /// The time of a question's source is over.
    Late {
        nth: usize,
    },
    /// An answer comes that has come before, or whose question was given up.
    Again {
        back: usize,
    },
    Sleep,
    /// The object crashes at the n-th effect from now.
    Crash {
        effects: u32,
    },
    /// The n-th statement of the next input fails.
    Fail {
        statements: u32,
    },
    Advance {
        ms: u64,
    },
    JumpBack {
        ms: u64,
    },
    /// Somebody does something about its presence.
    Be {
        client: usize,
        how: Be,
    },
    /// The object sleeps after each of its turns from here on, or no more.
    Drowsy {
        on: bool,
    },
    Ring,
}

fn item(rng: &mut Rng) -> Item {
    Item {
        channel: rng.pick(&CHANNELS),
        action: rng.weighted(&[
            (9, Action::Create),
            (5, Action::Update),
            (3, Action::Delete),
        ]),
        key: rng.below(4),
        scope: rng.weighted(&[(4, 0), (5, 1), (3, 2), (3, 3), (2, 4), (1, 5), (1, 7)]),
    }
}

fn limit(rng: &mut Rng) -> u64 {
    rng.weighted(&[(3, 1), (3, 2), (4, 500)])
}

/// The newest choice of steps. A history that was found with an earlier one is made with that.
pub(crate) const CHOICE: u32 = 2;

pub(crate) fn history(seed: u64, length: usize, choice: u32) -> Vec<Step> {
    let mut rng = Rng(seed);
    let calm = rng.percent(50);
    // Of chance of its own, so that the other steps of a seed stay as they were.
    let mut chance = Rng(!seed);
    let mut steps = Vec::new();
    for _ in 0..length {
        if rng.percent(2) {
            scene(&mut rng, &mut steps);
        }
        if choice > 1 && chance.percent(10) {
            let more = other(&mut chance).into_iter();
            steps.extend(more.filter(|step| !calm || !step.heals()));
        }
        steps.extend(Some(one(&mut rng)).filter(|step| !calm || !step.heals()));
    }
    steps
}

/// What no step of `one` does.
fn other(rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    let step = match rng.below(100) {
        0..40 => Step::Subscribe {
            client: 9,
            channel: rng.pick(&CHANNELS),
            from_nothing: rng.percent(5),
            limit: limit(rng),
        },
        40..80 => Step::Be {
            client: rng.below(6) as usize,
            how: rng.weighted(&[(6, Be::Here), (2, Be::Watching), (2, Be::Gone)]),
        },
        80..88 => Step::Drowsy {
            on: rng.percent(50),
        },
        88..94 => Step::JumpBack {
            ms: rng.pick(&[5 * MINUTE, 3 * HOUR, DAY, 8 * DAY]),
        },
        94..95 => Step::Advance { ms: 8 * DAY },
        // The object crashes as it ends what is open.
        _ => {
            let client = 7 + rng.below(3) as usize;
            steps.extend([
                Step::CatchUp { client, limit: 500 },
                Step::Subscribe {
                    client,
                    channel: "notes",
                    from_nothing: false,
                    limit: 500,
                },
                Step::Answer {
                    nth: LAST,
                    how: How::Truth,
                },
                Step::Crash {
                    effects: rng.below(5) as u32,
                },
            ]);
            match rng.percent(50) {
                true => Step::Epoch,
                false => Step::Topics {
                    identity: rng.pick(&PEOPLE),
                    add: rng.below(8),
                    remove: rng.below(8),
                },
            }
        }
    };
    steps.push(step);
    steps
}

/// The last of the questions that wait.
pub(crate) const LAST: usize = usize::MAX;

/// Somebody writes while another is live, and something happens that seldom meets it by chance.
fn scene(rng: &mut Rng, steps: &mut Vec<Step>) {
    let (client, other) = (rng.below(6) as usize, rng.below(6) as usize);
    let catch_up = |client| Step::CatchUp { client, limit: 500 };
    let item = item(rng);
    let beside = Item {
        action: rng.pick(&[Action::Create, Action::Delete]),
        scope: rng.below(8),
        ..item
    };
    let answer = |how| Step::Answer { nth: LAST, how };
    steps.extend([catch_up(client), catch_up(other)]);
    let writes = [Step::Mutate { client, item }, Step::Execute { nth: LAST }];
    match rng.below(4) {
        // The app writes the same row meanwhile.
        0 => {
            steps.extend(writes);
            match rng.percent(50) {
                true => steps.push(Step::Publish { item: beside }),
                false => steps.extend([
                    Step::Outside { item: beside },
                    Step::Tell {
                        channel: item.channel,
                    },
                ]),
            }
            steps.push(answer(How::Truth));
        }
        // Storage fails when the answer is lost.
        1 => {
            steps.extend(writes);
            let statements = rng.below(4) as u32;
            steps.extend([Step::Fail { statements }, answer(How::Lost)]);
        }
        // The memory is lost, once or twice.
        2 => {
            steps.extend(writes);
            steps.extend(vec![Step::Sleep; 1 + rng.below(2) as usize]);
        }
        // The row is others' by now.
        _ => steps.extend([
            Step::Outside { item: beside },
            Step::Tell {
                channel: item.channel,
            },
            catch_up(other),
            Step::Mutate { client, item },
            answer(How::Truth),
        ]),
    }
    steps.push(catch_up(client));
}

impl Step {
    /// Whether it has everyone ask again, or may: whatever was lost before is found then. Half of the
    /// histories do without, so that what is lost stays lost.
    fn heals(&self) -> bool {
        match self {
            Self::Outside { .. } | Self::Tell { .. } | Self::Reset { .. } => true,
            Self::Epoch | Self::Topics { .. } => true,
            Self::Publish { item } => item.channel != "todos",
            Self::Answer { how, .. } => matches!(how, How::Unscoped | How::Lost | How::Doubt),
            Self::Advance { ms } => (MINUTE..7 * DAY).contains(ms),
            _ => false,
        }
    }
}

fn one(rng: &mut Rng) -> Step {
    let client = rng.below(9) as usize;
    let channel = rng.pick(&CHANNELS);
    let nth = rng.weighted(&[(5, 0), (2, 1), (1, 2), (1, 3)]);
    match rng.below(1000) {
        0..60 => Step::Connect {
            client,
            resume: rng.percent(70),
        },
        60..180 => Step::Subscribe {
            client,
            channel,
            from_nothing: rng.percent(15),
            limit: limit(rng),
        },
        180..188 => Step::Unsubscribe { client, channel },
        188..212 => Step::CatchUp {
            client,
            limit: limit(rng),
        },
        212..228 => Step::Leave { client },
        228..400 => Step::Mutate {
            client,
            item: item(rng),
        },
        400..450 => Step::Repeat {
            client,
            back: rng.below(3) as usize,
        },
        450..480 => Step::Post {
            identity: rng.pick(&PEOPLE),
            items: (0..rng.below(3)).map(|_| item(rng)).collect(),
            back: rng.percent(50).then(|| rng.below(3) as usize),
        },
        480..520 => Step::Publish { item: item(rng) },
        520..545 => Step::Outside { item: item(rng) },
        545..565 => Step::Tell { channel },
        565..569 => Step::Reset { channel },
        569..571 => Step::Epoch,
        571..577 => Step::Topics {
            identity: rng.pick(&PEOPLE),
            add: rng.below(8),
            remove: rng.below(8),
        },
        577..640 => Step::Execute { nth },
        640..900 => Step::Answer {
            nth,
            how: rng.weighted(&[
                (70, How::Truth),
                (4, How::Unscoped),
                (5, How::Lost),
                (3, How::Doubt),
                (4, How::Broken),
                (4, How::Refused),
                (1, How::Wrong),
            ]),
        },
        900..915 => Step::Late { nth },
        915..925 => Step::Again {
            back: rng.below(6) as usize,
        },
        925..930 => Step::Sleep,
        930..936 => Step::Crash {
            effects: rng.below(6) as u32,
        },
        936..942 => Step::Fail {
            statements: rng.below(10) as u32,
        },
        942..962 => Step::Advance {
            ms: rng.weighted(&[
                (10, 1_000),
                (6, MINUTE + 1_000),
                (3, HOUR),
                (1, DAY),
                (1, 7 * DAY + HOUR),
            ]),
        },
        962..966 => Step::JumpBack { ms: 9_973 },
        _ => Step::Ring,
    }
}
