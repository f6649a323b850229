//! The steps of a history. Each says what it is about in small numbers that mean something in any
//! state, so that a history stays playable when steps are taken out of it.

use super::rng::Rng;
use super::rules::{CHANNELS, UNKNOWN};

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// Where a subscription says that the client's copy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// It has none.
    Nothing,
    /// The copy's own cursor and view.
    Copy,
    /// The copy's cursor without a view.
    NoView,
    /// A cursor of the future.
    Future,
    /// Text that is no cursor.
    Garbage,
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

/// One change that a publisher or a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) channel: &'static str,
    pub(crate) action: Action,
    pub(crate) key: u64,
    /// Whom the scoping field names, as bits; 0 leaves it out.
    pub(crate) scope: u64,
    /// A publisher's `to`, as bits of topics; 0 is "all".
    pub(crate) to: Option<u64>,
    /// Which field is written.
    pub(crate) field: &'static str,
    /// The value of the field that orders writes.
    pub(crate) t: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Good,
    Bad,
    /// Of somebody else.
    Other,
}

/// What a client does about its presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Be {
    Here,
    Watching,
    Gone,
    /// It sends a signal.
    Waving,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Connect {
        client: usize,
        topics: u64,
        life: u64,
        resume: bool,
    },
    Subscribe {
        client: usize,
        channel: &'static str,
        from: From,
        limit: u64,
        meta: bool,
    },
    Unsubscribe {
        client: usize,
        channel: &'static str,
    },
    CatchUp {
        client: usize,
        limit: u64,
    },
    Leave {
        client: usize,
    },
    Be {
        client: usize,
        channel: &'static str,
        how: Be,
    },
    Mutate {
        client: usize,
        item: Item,
    },
    Repeat {
        client: usize,
        back: usize,
        altered: bool,
    },
    Renew {
        client: usize,
        topics: u64,
        life: u64,
        token: Token,
    },
    Publish {
        space: usize,
        items: Vec<Item>,
        key: bool,
        elsewhere: bool,
    },
    Republish {
        space: usize,
        back: usize,
        altered: bool,
    },
    /// A batch that is too large for one frame, and its rows' deletion.
    Bulk {
        space: usize,
    },
    Topics {
        space: usize,
        identity: &'static str,
        add: u64,
        remove: u64,
    },
    Disconnect {
        space: usize,
        identity: Option<&'static str>,
    },
    Reset {
        space: usize,
        channel: &'static str,
        to: Option<u64>,
    },
    Changed {
        space: usize,
        channel: &'static str,
    },
    Epoch {
        space: usize,
    },
    Sleep {
        space: usize,
    },
    /// The object crashes at the n-th effect from now.
    Crash {
        space: usize,
        effects: u32,
    },
    /// The n-th statement of the next input fails.
    Fail {
        space: usize,
        statements: u32,
    },
    Advance {
        space: usize,
        ms: u64,
    },
    JumpBack {
        space: usize,
        ms: u64,
    },
    Ring {
        space: usize,
    },
    /// The object sleeps after each of its turns from here on, or no more.
    Drowsy {
        space: usize,
        on: bool,
    },
    /// Somebody asks over HTTP: for a page, for news, or for a stream.
    Read {
        client: usize,
        channel: &'static str,
        limit: u64,
        life: u64,
    },
    /// A stream has read what it got.
    ReadOn {
        client: usize,
    },
    /// Mutations over HTTP: new ones, and perhaps an earlier one.
    Post {
        identity: &'static str,
        items: Vec<Item>,
        back: Option<usize>,
    },
}

/// As topics: those that the client usually has.
pub(crate) const USUAL: u64 = 8;

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// The clients of both spaces by their place in `Game::cast`: seven in the first, three in the
/// second.
fn client(rng: &mut Rng) -> usize {
    let spare = rng.percent(12);
    (if spare {
        7 + rng.below(3)
    } else {
        rng.below(7)
    }) as usize
}

fn space(rng: &mut Rng) -> usize {
    usize::from(rng.percent(12))
}

fn channel(rng: &mut Rng) -> &'static str {
    let weights = [5, 9, 8, 5, 5, 1, 4, 7, 5, 3, 6, 18, 5];
    match rng.percent(1) {
        true => UNKNOWN,
        false => {
            let list: Vec<_> = weights.into_iter().zip(CHANNELS).collect();
            rng.weighted(&list)
        }
    }
}

fn item(rng: &mut Rng, channel: &'static str) -> Item {
    let (create, keys) = match channel {
        "chat:1" => (95, 40),
        "news" => (95, 12),
        "talk:1" => (45, 12),
        "doc:1" => (45, 30),
        _ => (40, 6),
    };
    let action = match rng.below(100) {
        n if n < create => Action::Create,
        n if n < create + (100 - create) * 3 / 5 => Action::Update,
        _ => Action::Delete,
    };
    Item {
        channel,
        action,
        key: rng.below(keys),
        scope: rng.weighted(&[
            (4, 0),
            (6, 1),
            (3, 2),
            (2, 3),
            (2, 4),
            (1, 5),
            (1, 6),
            (1, 7),
        ]),
        to: None,
        field: rng.pick(&["v", "w"]),
        t: rng.percent(90).then(|| rng.below(20)),
    }
}

fn published(rng: &mut Rng, channel: &'static str) -> Item {
    let to = rng.percent(50).then(|| match rng.percent(25) {
        true => 0,
        false => 1 + rng.below(31),
    });
    Item {
        to,
        ..item(rng, channel)
    }
}

fn publish(rng: &mut Rng) -> Step {
    let first = channel(rng);
    let count = rng.weighted(&[(6, 1), (2, 2), (1, 3), (1, 4)]);
    let same = rng.percent(60);
    let mut items = vec![published(rng, first)];
    for _ in 1..count {
        let channel = if same { first } else { channel(rng) };
        items.push(published(rng, channel));
    }
    Step::Publish {
        space: space(rng),
        items,
        key: rng.percent(35),
        elsewhere: rng.percent(2),
    }
}

fn life(rng: &mut Rng) -> u64 {
    rng.weighted(&[(1, 10 * MINUTE), (2, 3 * HOUR), (3, 2 * DAY), (6, 40 * DAY)])
}

fn limit(rng: &mut Rng) -> u64 {
    rng.weighted(&[(3, 1), (3, 2), (2, 3), (4, 500)])
}

/// The newest choice of steps. A history that was found with an earlier one is made with that.
pub(crate) const CHOICE: u32 = 2;

pub(crate) fn history(seed: u64, length: usize, choice: u32) -> Vec<Step> {
    let mut rng = Rng(seed);
    // Of chance of its own, so that the other steps of a seed stay as they were.
    let mut present = Rng(!seed);
    let mut other = Rng(seed.rotate_left(32));
    let mut steps = Vec::new();
    for _ in 0..length {
        if present.percent(20) {
            be(&mut present, &mut steps);
        }
        if choice > 1 && other.percent(20) {
            over_http(&mut other, &mut steps);
        }
        steps.push(one(&mut rng));
    }
    steps
}

/// Something over HTTP, or one of what else no step of `one` does.
fn over_http(rng: &mut Rng, steps: &mut Vec<Step>) {
    let client = rng.weighted(&[(4, 10), (3, 11), (4, 12), (2, 13), (2, 14)]);
    let space = space(rng);
    match rng.below(100) {
        0..50 => {
            let read = Step::Read {
                client,
                channel: channel(rng),
                limit: limit(rng),
                life: life(rng),
            };
            if rng.percent(30) {
                steps.push(Step::Leave { client });
            }
            // Whoever waits needs what there is first.
            let pages = if client >= 12 { 1 + rng.below(3) } else { 1 };
            steps.extend(vec![read; pages as usize]);
        }
        50..72 => steps.push(Step::ReadOn { client }),
        72..76 => steps.push(Step::Leave { client }),
        76..90 => steps.push(Step::Post {
            identity: rng.pick(&PEOPLE),
            items: (0..rng.below(3))
                .map(|_| {
                    let channel = channel(rng);
                    item(rng, channel)
                })
                .collect(),
            back: rng.percent(50).then(|| rng.below(3) as usize),
        }),
        90..94 => {
            let on = rng.percent(40);
            steps.push(Step::Drowsy { space, on });
        }
        94..96 => steps.push(Step::JumpBack {
            space,
            ms: rng.pick(&[5 * MINUTE, DAY, 8 * DAY]),
        }),
        96..97 => steps.push(Step::Advance { space, ms: 8 * DAY }),
        _ => scene(rng, client, steps),
    }
}

/// What seldom meets by chance.
fn scene(rng: &mut Rng, client: usize, steps: &mut Vec<Step>) {
    let (space, channel) = (usize::from((7..10).contains(&client)), channel(rng));
    match rng.percent(60) {
        // The object crashes as it ends what is open.
        true => {
            let channel = rng.pick(&["open", "room:1", "todos", channel]);
            steps.extend([
                Step::Leave { client },
                Step::Read {
                    client,
                    channel,
                    limit: 500,
                    life: 3 * HOUR,
                },
                Step::Read {
                    client,
                    channel,
                    limit: 500,
                    life: 3 * HOUR,
                },
                Step::Crash {
                    space,
                    effects: rng.below(5) as u32,
                },
                rng.pick(
                    &[
                        Step::Disconnect {
                            space,
                            identity: None,
                        },
                        Step::Disconnect {
                            space,
                            identity: Some("bob"),
                        },
                        Step::Epoch { space },
                        Step::Reset {
                            space,
                            channel,
                            to: None,
                        },
                    ]
                    .each_ref(),
                )
                .clone(),
            ]);
        }
        // What is old is trimmed between two pages.
        false => {
            let place = super::step::client(rng);
            let page = Step::Subscribe {
                client: place,
                channel: rng.pick(&["talk:1", "news", channel]),
                from: From::Copy,
                limit: 1,
                meta: false,
            };
            let space = usize::from(place >= 7);
            steps.extend([
                page.clone(),
                Step::Advance { space, ms: 8 * DAY },
                Step::Ring { space },
                page.clone(),
                page,
            ]);
        }
    }
}

/// Somebody does something about its presence, mostly where it has subscribed, and perhaps asks for
/// pages then.
fn be(rng: &mut Rng, steps: &mut Vec<Step>) {
    let (client, other) = (client(rng), channel(rng));
    let channel = rng.weighted(&[(10, "open"), (10, "room:1"), (1, other)]);
    let how = rng.weighted(&[
        (10, Be::Here),
        (4, Be::Watching),
        (2, Be::Gone),
        (3, Be::Waving),
    ]);
    let subscribe = |from, limit| Step::Subscribe {
        client,
        channel,
        from,
        limit,
        meta: false,
    };
    let be = Step::Be {
        client,
        channel,
        how,
    };
    if rng.percent(60) {
        steps.push(subscribe(From::Copy, 500));
    }
    steps.push(be.clone());
    if !rng.percent(25) {
        return;
    }
    steps.push(subscribe(From::Nothing, 1));
    match rng.below(3) {
        0 => steps.push(Step::Sleep {
            space: usize::from(client >= 7),
        }),
        1 => steps.push(Step::Renew {
            client,
            topics: rng.below(5),
            life: life(rng),
            token: Token::Good,
        }),
        _ => {}
    }
    steps.push(be);
}

fn one(rng: &mut Rng) -> Step {
    let (client, space) = (client(rng), space(rng));
    match rng.below(1000) {
        0..150 => Step::Connect {
            client,
            topics: if rng.percent(70) { USUAL } else { rng.below(8) },
            life: life(rng),
            resume: rng.percent(60),
        },
        150..270 => Step::Subscribe {
            client,
            channel: channel(rng),
            from: rng.weighted(&[
                (10, From::Nothing),
                (30, From::Copy),
                (1, From::NoView),
                (1, From::Future),
                (1, From::Garbage),
            ]),
            limit: limit(rng),
            meta: rng.percent(15),
        },
        270..278 => Step::Unsubscribe {
            client,
            channel: channel(rng),
        },
        278..328 => Step::CatchUp {
            client,
            limit: limit(rng),
        },
        328..368 => Step::Leave { client },
        368..598 => {
            let channel = channel(rng);
            let item = item(rng, channel);
            Step::Mutate { client, item }
        }
        598..648 => Step::Repeat {
            client,
            back: rng.below(4) as usize,
            altered: rng.percent(15),
        },
        648..676 => Step::Renew {
            client,
            topics: rng.below(8),
            life: life(rng),
            token: rng.weighted(&[(20, Token::Good), (1, Token::Bad), (1, Token::Other)]),
        },
        676..841 => publish(rng),
        841..861 => Step::Republish {
            space,
            back: rng.below(3) as usize,
            altered: rng.percent(20),
        },
        861..871 => Step::Topics {
            space,
            identity: rng.pick(&PEOPLE),
            add: rng.below(8),
            remove: rng.below(8),
        },
        871..876 => Step::Disconnect {
            space,
            identity: rng.percent(70).then(|| rng.pick(&PEOPLE)),
        },
        876..884 => Step::Reset {
            space,
            channel: channel(rng),
            to: rng.percent(30).then(|| 1 + rng.below(31)),
        },
        884..888 => Step::Changed {
            space,
            channel: channel(rng),
        },
        888..890 => Step::Epoch { space },
        890..910 => Step::Sleep { space },
        910..919 => Step::Crash {
            space,
            effects: rng.below(6) as u32,
        },
        919..932 => Step::Fail {
            space,
            statements: rng.below(10) as u32,
        },
        932..958 => Step::Advance {
            space,
            ms: rng.weighted(&[
                (6, 1000),
                (6, 5 * MINUTE),
                (4, HOUR),
                (3, 9 * HOUR),
                (2, DAY),
                (4, 7 * DAY + HOUR),
            ]),
        },
        958..961 => Step::JumpBack {
            space,
            ms: rng.pick(&[10_000, 3 * HOUR]),
        },
        961..999 => Step::Ring { space },
        _ => Step::Bulk { space },
    }
}
