//! A home of rows outside the engine, as a host asks it: answers at once, or when a test says so.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tidewire::protocol::{Action, Code, Problem};
use tidewire::source::{
    Answer, Answered, Ask, AskId, Failed, Fetch, Kind, Page, Question, Scope, Write, Written,
};
use tidewire::{Audience, ConnId, Input, Key, Millis, Reply, Topic};

use super::{World, config_with};

/// A row with when it was changed; without data it is deleted.
#[derive(Debug, Clone)]
pub struct HomeRow {
    pub at: Millis,
    pub data: Option<Map<String, Value>>,
}

/// What a row was, until it became something else.
type Was = (Millis, Map<String, Value>);

/// Rows of all channels, and what was asked for them.
#[derive(Debug, Default)]
pub struct Home {
    pub rows: BTreeMap<(String, String), HomeRow>,
    /// What the rows were before, each with when it became something else.
    pub past: BTreeMap<(String, String), Vec<Was>>,
    /// Mutations that were executed, by owner and id, with their content.
    pub done: BTreeMap<(String, String), String>,
    /// How often each kind of question came.
    pub fetches: usize,
    pub writes: usize,
    pub authorizes: usize,
    /// What is not allowed.
    pub forbidden: Vec<Kind>,
    /// Whether it cannot say who may see a row.
    pub scope_fails: bool,
    /// Whether it leaves it to the rule who may see a row, and to the log who could.
    pub by_rule: bool,
    /// Whether it answers all there is, however little was asked for.
    pub greedy: bool,
}

fn forbidden() -> Failed {
    Problem::new(Code::Forbidden, "the source says no").into()
}

fn not_found() -> Failed {
    Problem::new(Code::NotFound, "no such row").into()
}

/// Whose eyes a row is for: its owner's in `notes`, its team's in `team:…`, else everyone's.
pub fn audience(channel: &str, data: &Map<String, Value>) -> Audience {
    let field = |name: &str, prefix: &str| {
        let texts: Vec<&str> = match &data[name] {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            text => text.as_str().into_iter().collect(),
        };
        let topic = |text: &&str| Topic::parse(&format!("{prefix}{text}")).unwrap();
        Audience::of(texts.iter().map(topic)).unwrap()
    };
    match channel.split(':').next() {
        Some("notes") => field("ownerId", "user:"),
        Some("gifts") => field("for", "user:"),
        Some("team") => field("team", "team:"),
        _ => Audience::All,
    }
}

impl Home {
    /// Answers a question as it comes.
    pub fn answer(&mut self, question: &Question, now: Millis) -> Answered {
        match &question.what {
            Ask::Authorize(operation) => {
                self.authorizes += 1;
                match self.forbidden.contains(&operation.kind) {
                    true => Err(forbidden()),
                    false => Ok(Answer::Allowed),
                }
            }
            Ask::Fetch(fetch) => {
                self.fetches += 1;
                if fetch.authorize && self.forbidden.contains(&Kind::Subscribe) {
                    return Err(forbidden());
                }
                Ok(Answer::Page(self.fetch(question, fetch)))
            }
            Ask::Write(write) => {
                self.writes += 1;
                if write.authorize && self.forbidden.contains(&Kind::from(write.action)) {
                    return Err(forbidden());
                }
                self.write(question, write, now).map(Answer::Written)
            }
        }
    }

    fn fetch(&self, question: &Question, fetch: &Fetch) -> Page {
        let channel = question.channel.as_str();
        let mut rows: Vec<(&String, &HomeRow)> = self
            .rows
            .iter()
            .filter(|((of, _), row)| of == channel && Some(row.at) >= fetch.since)
            .map(|((_, key), row)| (key, row))
            .collect();
        rows.sort_by_key(|(key, row)| (row.at, *key));
        if let Some(token) = &fetch.token {
            let (at, key) = token.split_once(' ').unwrap();
            let after = (Millis(at.parse().unwrap()), key);
            rows.retain(|(key, row)| (row.at, key.as_str()) > after);
        }
        let most = if self.greedy { usize::MAX } else { fetch.limit };
        let next = rows.get(most.saturating_sub(1));
        let next = next.map(|(key, row)| format!("{} {key}", row.at.0));
        let next = next.filter(|_| rows.len() > most);
        rows.truncate(most);
        let mut page = Page {
            next,
            full: fetch.since.is_none(),
            ..Page::default()
        };
        for (key, row) in rows {
            let key = Key::parse(key).unwrap();
            match &row.data {
                Some(data) if audience(channel, data).sees(&question.grant.topics) => {
                    page.rows
                        .push((key, Value::Object(data.clone()).to_string()));
                }
                // Gone for this session, which may have seen it since.
                Some(_) | None => {
                    let past = self.past.get(&(channel.to_owned(), key.to_string()));
                    let saw = |(until, data): &Was| {
                        fetch.since.is_some_and(|since| *until >= since)
                            && audience(channel, data).sees(&question.grant.topics)
                    };
                    if past.into_iter().flatten().any(saw) {
                        page.deleted.push(key);
                    }
                }
            }
        }
        page
    }

    fn write(
        &mut self,
        question: &Question,
        write: &Write,
        now: Millis,
    ) -> Result<Written, Failed> {
        let channel = question.channel.as_str();
        let place = (channel.to_owned(), write.key.to_string());
        let once = (write.owner.clone(), write.id.to_string());
        let held = self.rows.get(&place).and_then(|row| row.data.clone());
        let sees = |data: &Map<String, Value>| audience(channel, data).sees(&question.grant.topics);
        if let Some(hash) = self.done.get(&once) {
            if *hash != write.hash {
                return Err(Problem::new(Code::Conflict, "used for another mutation").into());
            }
            let visible = held.filter(|data| sees(data));
            return Ok(self.written(channel, write, visible, None, true));
        }
        let given = write.data.as_deref().map(|data| {
            let data: Map<String, Value> = serde_json::from_str(data).unwrap();
            data
        });
        let visible = held.clone().filter(|data| sees(data));
        let data = match write.action {
            Action::Create if held.is_some() && visible.is_none() => {
                return Err(Problem::new(Code::Forbidden, "this key is taken").into());
            }
            Action::Create => given,
            Action::Update => {
                let mut data = visible.clone().ok_or_else(not_found)?;
                data.extend(given.unwrap_or_default());
                Some(data)
            }
            Action::Delete => {
                visible.as_ref().ok_or_else(not_found)?;
                None
            }
        };
        self.set(place, data.clone(), now);
        self.done.insert(once, write.hash.clone());
        Ok(self.written(channel, write, data, held, false))
    }

    fn written(
        &self,
        channel: &str,
        write: &Write,
        data: Option<Map<String, Value>>,
        before: Option<Map<String, Value>>,
        repeated: bool,
    ) -> Written {
        let before = before.map(|data| audience(channel, &data));
        let scope = match (&data, &before) {
            _ if self.scope_fails => Scope::Unknown,
            _ if self.by_rule => Scope::ByRule,
            (Some(data), _) => Scope::Of(audience(channel, data)),
            (None, Some(before)) => Scope::Of(before.clone()),
            (None, None) => Scope::ByRule,
        };
        Written {
            row: match write.action {
                Action::Delete => None,
                Action::Create | Action::Update => data.map(|data| Value::Object(data).to_string()),
            },
            scope,
            before: before.filter(|_| !self.by_rule),
            repeated,
        }
    }

    fn set(&mut self, place: (String, String), data: Option<Map<String, Value>>, at: Millis) {
        let was = self.rows.insert(place.clone(), HomeRow { at, data });
        if let Some(data) = was.and_then(|row| row.data) {
            self.past.entry(place).or_default().push((at, data));
        }
    }

    /// Somebody else writes a row, and tells nobody.
    pub fn put(&mut self, channel: &str, data: Value, now: Millis) {
        let data = data.as_object().unwrap().clone();
        let place = (channel.to_owned(), data["id"].as_str().unwrap().to_owned());
        self.set(place, Some(data), now);
    }

    /// Somebody else deletes a row, and tells nobody.
    pub fn remove(&mut self, channel: &str, key: &str, now: Millis) {
        let place = (channel.to_owned(), key.to_owned());
        self.set(place, None, now);
    }

    /// The rows of a channel as they are.
    pub fn all(&self, channel: &str) -> Vec<Value> {
        let rows = self.rows.iter();
        let rows = rows.filter(|((of, _), _)| of == channel);
        rows.filter_map(|(_, row)| row.data.clone().map(Value::Object))
            .collect()
    }
}

/// Channels whose rows live outside, and one that needs no home.
fn rules() -> Value {
    json!({        "todos": { "read": "user", "write": "user", "source": { "handler": "home" } },
        "notes": {
            "read": "user", "write": "user", "scope": { "field": "ownerId" },
            "source": { "handler": "home", "authorize": false }
        },
        "open": {
            "read": "anyone", "write": "anyone", "presence": true, "signals": true,
            "source": { "handler": "home" }
        },
        "plain": {
            "read": "user", "write": "user", "source": { "handler": "home", "authorize": false }
        },
        "gifts": {
            "read": "user", "write": "user",
            "source": { "handler": "home", "authorize": false }
        },
        "here": { "read": "user", "write": "user" }
    })
}

impl World {
    /// A world whose rows all live outside, but those of `here`.
    pub fn elsewhere() -> Self {
        Self::with_channels(&rules())
    }

    /// The same, with some bounds set otherwise.
    pub fn elsewhere_with(limits: &Value) -> Self {
        let limits = limits.to_string();
        Self::with_config(config_with(&rules(), &[("SYNC_LIMITS", &limits)]))
    }

    /// Answers what the sources were asked, until they are asked no more.
    pub fn settle(&mut self) {
        while !self.questions.is_empty() {
            self.answer_first();
        }
    }

    /// The home answers the oldest question.
    pub fn answer_first(&mut self) {
        let question = self.questions.remove(0);
        let answer = self.home.answer(&question, self.now);
        self.answered(question.id, answer);
    }

    /// The home answers the oldest question, and its answer is under way.
    pub fn look(&mut self) -> (AskId, Answered) {
        let question = self.questions.remove(0);
        (question.id, self.home.answer(&question, self.now))
    }

    /// Somebody else writes a row of the home now, and tells nobody.
    pub fn put(&mut self, channel: &str, data: Value) {
        self.home.put(channel, data, self.now);
    }

    /// Somebody else deletes a row of the home now, and tells nobody.
    pub fn remove(&mut self, channel: &str, key: &str) {
        self.home.remove(channel, key, self.now);
    }

    /// What page the oldest question asks for.
    #[track_caller]
    pub fn wanted(&self) -> &Fetch {
        match &self.questions[0].what {
            Ask::Fetch(fetch) => fetch,
            other => panic!("no page is asked for: {other:?}"),
        }
    }

    /// A source answers.
    pub fn answered(&mut self, ask: AskId, answer: Answered) {
        self.input(Input::Answered { ask, answer });
    }

    /// The time of a question's source is over.
    pub fn late(&mut self, ask: AskId) {
        self.input(Input::Late { ask });
    }

    /// The answer to a request over HTTP that has waited for a source.
    pub fn reply(&mut self, conn: ConnId) -> Option<Reply> {
        self.replies.remove(&conn)
    }
}
