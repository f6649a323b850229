//! The home and its answers: when it does what it was asked for, and what it says of it then.

use tidewire::protocol::{Action, Code, Problem};
use tidewire::source::{Answer, Answered, Ask, Failed, Question, Scope};

use super::game::Game;
use super::step::{CHANNELS, How, LAST};

/// For how long the engine waits for an answer: `limits::SOURCE_NEVER_MS`, said once more.
const NEVER: u64 = 60_000;

/// A question that was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) channel: &'static str,
    at: u64,
    turn: u64,
    /// Whether somebody waits for the answer.
    pub(crate) open: bool,
    /// Whether its asker was told that the source is slow.
    late: bool,
    /// What the home would say.
    pub(crate) executed: Option<Answered>,
    /// What it has said.
    said: Option<Answered>,
    /// Whether the app wrote the row, or told of changes, meanwhile.
    pub(crate) raced: bool,
}

impl Asked {
    /// The mutation that it is about: whose, and which.
    pub(crate) fn once(&self) -> Option<(String, String)> {
        match &self.question.what {
            Ask::Write(write) => Some((write.owner.clone(), write.id.to_string())),
            Ask::Authorize(_) | Ask::Fetch(_) => None,
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        match &self.question.what {
            Ask::Write(write) => Some(write.key.as_str()),
            Ask::Authorize(_) | Ask::Fetch(_) => None,
        }
    }
}

fn failed(code: Code, may_be_done: bool) -> Failed {
    Failed {
        problem: Problem::new(code, "says the home"),
        may_be_done,
    }
}

impl Game {
    /// Takes the questions of the last turn.
    pub(crate) fn take_questions(&mut self) {
        for question in std::mem::take(&mut self.w.questions) {
            let channel = question.channel.as_str();
            let channel = CHANNELS.into_iter().find(|c| *c == channel).unwrap();
            let mut asked = Asked {
                channel,
                at: self.w.now.0,
                turn: self.turns,
                open: true,
                late: false,
                executed: None,
                said: None,
                raced: false,
                question,
            };
            // It may have been asked before the log heard of the row, in the same turn.
            let published = self.publishing.as_ref();
            asked.raced = published
                .is_some_and(|row| (row.0, Some(row.1.as_str())) == (asked.channel, asked.key()));
            self.check_question(&asked);
            self.asked.push(asked);
        }
    }

    fn check_question(&mut self, asked: &Asked) {
        match &asked.question.what {
            Ask::Authorize(_) => self.cov.hit("authorizations"),
            Ask::Fetch(fetch) => {
                self.cov.hit("fetches");
                self.cov
                    .hit_if("fetches since a time", fetch.since.is_some());
                self.cov
                    .hit_if("fetches of later pages", fetch.token.is_some());
                self.must_fetch(asked);
            }
            Ask::Write(_) => {
                self.cov.hit("writes");
                let under_way = || self.asked.iter().filter(|other| other.open);
                let same = under_way().find(|other| other.once() == asked.once());
                assert!(same.is_none(), "asked beside itself: {asked:?}");
                let key =
                    |other: &&Asked| (other.channel, other.key()) == (asked.channel, asked.key());
                let row = under_way().find(key);
                assert!(row.is_none(), "two writes of a row: {row:?} and {asked:?}");
            }
        }
    }

    /// What the engine does not wait for any longer, whatever comes next.
    pub(crate) fn give_up(&mut self) {
        let now = self.w.now.0;
        let mut any = false;
        for asked in self.asked.iter_mut().filter(|asked| asked.open) {
            if asked.at + NEVER <= now {
                asked.open = false;
                any = true;
                self.doubts.insert(asked.channel);
                self.cov.hit("given up");
            }
        }
        if any {
            self.close_races();
        }
    }

    /// Rows that nobody writes any more, and of which the log was told, are in order again.
    pub(crate) fn close_races(&mut self) {
        let written = self.truth.written;
        for (row, upto) in self
            .truth
            .raced
            .iter_mut()
            .filter(|(_, upto)| **upto == u64::MAX)
        {
            let is_open = |asked: &Asked| asked.open && asked.key() == Some(&row.1);
            if !self.asked.iter().any(is_open) && !self.untold.contains(&row.0) {
                *upto = written;
            }
        }
    }

    /// The app writes a row: whatever the engine has under way there may come before or after.
    pub(crate) fn race(&mut self, channel: &'static str, key: &str) {
        for asked in self.asked.iter_mut().filter(|asked| asked.open) {
            if asked.channel == channel && asked.key() == Some(key) {
                asked.raced = true;
                self.truth.raced.insert(Self::row(channel, key), u64::MAX);
                self.cov.hit("raced by the app");
            }
        }
    }

    /// One of the questions that wait. What is overdue is given up with whatever comes next.
    fn nth_open(&self, nth: usize) -> Option<usize> {
        let waits = |asked: &Asked| asked.open && asked.at + NEVER > self.w.now.0;
        let open: Vec<usize> = (0..self.asked.len())
            .filter(|at| waits(&self.asked[*at]))
            .collect();
        let nth = match nth {
            LAST => open.len().saturating_sub(1),
            nth => nth % open.len().max(1),
        };
        let at = open.get(nth)?;
        Some(*at)
    }

    pub(crate) fn execute_nth(&mut self, nth: usize) {
        if let Some(at) = self.nth_open(nth) {
            self.execute(at);
        }
    }

    /// The home does what it was asked for.
    fn execute(&mut self, at: usize) {
        let asked = &mut self.asked[at];
        if asked.executed.is_some() {
            return;
        }
        let mut answer = self.w.home.answer(&asked.question, self.home);
        if let Ok(Answer::Written(written)) = &mut answer {
            if asked.channel == "notes" {
                // It leaves to the rule who sees it.
                written.scope = Scope::ByRule;
            }
            let once = asked.once().unwrap();
            let row = Self::row(asked.channel, asked.key().unwrap());
            match written.repeated {
                true => self.cov.hit("repeats that the home knew"),
                false => {
                    let place = (row.0.to_owned(), row.1.clone());
                    let data = self.w.home.rows[&place].data.as_ref();
                    self.truth.wrote(&row, data);
                    assert!(self.truth.done.insert(once), "executed twice: {asked:?}");
                }
            }
        }
        asked.executed = Some(answer);
    }

    pub(crate) fn answer_nth(&mut self, nth: usize, how: How) {
        if let Some(at) = self.nth_open(nth) {
            self.cov
                .hit_if("answered out of order", Some(at) != self.nth_open(0));
            self.answer(at, how);
        }
    }

    /// The home answers everything, in order.
    pub(crate) fn answer_all(&mut self) {
        for _ in 0..10_000 {
            match self.nth_open(0) {
                Some(at) => self.answer(at, How::Truth),
                None if self.asked.iter().any(|asked| asked.open) => self.nudge(),
                None => return,
            }
        }
        panic!("the home is asked for ever");
    }

    /// Something happens that has nothing to do with anything.
    pub(crate) fn nudge(&mut self) {
        self.turn(|w| w.input(tidewire::Input::Alarm));
        self.settle();
    }

    fn answer(&mut self, at: usize, how: How) {
        let writes = self.asked[at].once().is_some();
        let once = self.asked[at].once();
        let done = once.is_some_and(|once| self.truth.done.contains(&once));
        let was = self.asked[at].executed.is_some();
        let how = match how {
            // What is done is done, and said.
            How::Refused if was || done => How::Truth,
            How::Broken | How::Doubt if was => How::Lost,
            how => how,
        };
        if matches!(how, How::Truth | How::Unscoped | How::Lost) {
            self.execute(at);
        }
        let asked = &self.asked[at];
        let truth = asked.executed.clone();
        let did = matches!(truth, Some(Ok(_)));
        let answer = match (how, truth) {
            (How::Unscoped, Some(Ok(Answer::Written(mut written)))) => {
                written.scope = Scope::Unknown;
                Ok(Answer::Written(written))
            }
            (How::Truth | How::Unscoped, Some(truth)) => truth,
            (How::Lost, _) => Err(failed(Code::Unavailable, writes && did)),
            (How::Doubt, _) => Err(failed(Code::Unavailable, writes)),
            (How::Refused, _) => Err(failed(Code::Forbidden, false)),
            (How::Wrong, _) if matches!(asked.question.what, Ask::Authorize(_)) => {
                Ok(Answer::Page(tidewire::source::Page::default()))
            }
            (How::Wrong, _) => Ok(Answer::Allowed),
            (How::Broken | How::Truth | How::Unscoped, _) => Err(failed(Code::Unavailable, false)),
        };
        self.cov.hit(match (how, writes) {
            (How::Truth, true) => "writes answered",
            (How::Truth, false) => "reads answered",
            (How::Unscoped, _) => "unscoped",
            (How::Lost, true) => "writes lost",
            (How::Lost, false) => "reads lost",
            (How::Doubt, _) => "doubtful",
            (How::Broken, _) => "broken",
            (How::Refused, _) => "refused",
            (How::Wrong, _) => "wrong answers",
        });
        self.cov.hit_if("answers after a late", asked.late);
        self.cov.hit_if("answers long after they were true", was);
        self.say(at, answer);
    }

    fn say(&mut self, at: usize, answer: Answered) {
        self.note_doubts(at, &answer);
        let asked = &mut self.asked[at];
        asked.said = Some(answer.clone());
        let id = asked.question.id;
        let turn = self.turn(|w| w.answered(id, answer));
        // Unless all is forgotten.
        if let Some(asked) = self.asked.get_mut(at) {
            asked.open &= !turn.handled;
        }
        self.close_races();
        self.settle();
    }

    /// Whether the log may have to note that it does not know what happened.
    fn note_doubts(&mut self, at: usize, answer: &Answered) {
        let asked = &self.asked[at];
        let Ask::Write(write) = &asked.question.what else {
            return;
        };
        let unclear = match answer {
            Ok(Answer::Written(written)) => {
                let gone = written.row.is_none() && write.action != Action::Delete;
                let unknown = written.scope == Scope::Unknown || gone;
                // What changed meanwhile may have been this row.
                let changed = self.outside.get(asked.channel);
                let changed = changed.is_some_and(|(_, turn)| *turn >= asked.turn);
                unknown || written.repeated || asked.raced || changed
            }
            Ok(_) => true,
            Err(failed) => failed.may_be_done,
        };
        if unclear {
            self.doubts.insert(asked.channel);
        }
    }

    pub(crate) fn late_nth(&mut self, nth: usize) {
        let Some(at) = self.nth_open(nth).filter(|at| !self.asked[*at].late) else {
            return;
        };
        let id = self.asked[at].question.id;
        let writes = self.asked[at].once().is_some();
        let turn = self.turn(|w| w.late(id));
        if let Some(asked) = self.asked.get_mut(at).filter(|_| turn.handled) {
            asked.late = true;
            // Nobody waits for a page that comes late.
            asked.open &= writes;
            self.cov
                .hit(if writes { "late writes" } else { "late reads" });
        }
        self.settle();
    }

    /// An answer comes once more, or after its question was given up.
    pub(crate) fn answer_again(&mut self, back: usize) {
        let over = (0..self.asked.len()).filter(|at| !self.asked[*at].open);
        let Some(at) = over.rev().nth(back) else {
            return;
        };
        let asked = &self.asked[at];
        let Some(answer) = asked.said.clone().or_else(|| asked.executed.clone()) else {
            return;
        };
        let id = asked.question.id;
        self.turn(|w| w.answered(id, answer));
        self.cov.hit("answers that nobody waits for");
        self.settle();
    }
}
