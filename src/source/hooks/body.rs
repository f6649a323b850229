//! A question to the app as JSON. What is JSON already passes through untouched.

use super::VERSION;
use crate::names::{Identity, Space};
use crate::protocol::{JsonWriter, object};
use crate::source::{Ask, Fetch, Operation, Question, Write};

/// What stands for an upgrade of which nothing is known: the app reads an URL there in any case.
const NO_REQUEST: &str = r#"{"url":"https://app/","headers":{}}"#;

pub(super) fn write(question: &Question, space: &Space) -> String {
    let grant = &question.grant;
    object(|o| {
        o.number("v", VERSION);
        o.text("operation", question.what.operation());
        o.text("space", space.as_str());
        o.text("channel", question.channel.as_str());
        o.text("session", question.session.as_str());
        o.opt_text("identity", grant.identity.as_ref().map(Identity::as_str));
        o.raw("topics", &grant.topics.to_json());
        o.raw("claims", grant.claims.as_deref().unwrap_or("null"));
        o.raw("context", grant.context.as_deref().unwrap_or("null"));
        o.raw("request", grant.handshake.as_deref().unwrap_or(NO_REQUEST));
        match &question.what {
            Ask::Authorize(operation) => authorize(o, operation),
            Ask::Fetch(fetch) => page(o, fetch),
            Ask::Write(write) => mutation(o, write),
        }
    })
}

fn authorize(o: &mut JsonWriter, operation: &Operation) {
    o.name("on").object(|o| {
        o.text("kind", operation.kind.as_str());
        o.opt_text("key", operation.key.as_ref().map(|key| key.as_str()));
        o.raw("data", operation.data.as_deref().unwrap_or("null"));
    });
}

fn page(o: &mut JsonWriter, fetch: &Fetch) {
    match fetch.since {
        Some(since) => o.number("since", since.0),
        None => o.raw("since", "null"),
    }
    o.name("page").object(|o| {
        o.opt_text("token", fetch.token.as_deref());
        o.number("limit", fetch.limit as u64);
    });
    o.bool("authorize", fetch.authorize);
}

fn mutation(o: &mut JsonWriter, write: &Write) {
    o.text("id", write.id.as_str());
    o.text("key", write.key.as_str());
    o.raw("data", write.data.as_deref().unwrap_or("null"));
    o.bool("authorize", write.authorize);
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::audience::Topics;
    use crate::names::{Channel, Key, Millis, RequestId, SessionId};
    use crate::protocol::Action;
    use crate::session::Grant;
    use crate::source::{AskId, Kind};

    pub(in super::super) fn operation() -> Operation {
        Operation {
            kind: Kind::Update,
            key: Some(Key::parse("k\"1").unwrap()),
            data: Some(r#"{"n": 1.50}"#.to_owned()),
        }
    }

    pub(in super::super) fn question(what: Ask) -> Question {
        let identity = Identity::parse("ålice").unwrap();
        Question {
            id: AskId(1),
            channel: Channel::parse("todos:7").unwrap(),
            session: SessionId::parse("s-1").unwrap(),
            grant: Grant {
                topics: Topics::granted(Some(&identity), ["team:a"]).unwrap(),
                identity: Some(identity),
                claims: Some(r#"{"sub":"ålice", "n":1.0}"#.into()),
                context: Some(r#"{"plan":"pro"}"#.into()),
                handshake: Some(r#"{"url":"https://a/","headers":{"cookie":"c=1"}}"#.into()),
                ..Grant::default()
            },
            pass: None,
            what,
        }
    }

    pub(in super::super) fn mutation(action: Action) -> Ask {
        Ask::Write(Write {
            id: RequestId::parse("m1").unwrap(),
            owner: "o".to_owned(),
            hash: "h".to_owned(),
            action,
            key: Key::parse("k").unwrap(),
            data: (action != Action::Delete).then(|| r#"{"id":"k"}"#.to_owned()),
            authorize: true,
        })
    }

    fn written(question: &Question) -> (String, Value) {
        let text = write(question, &Space::default_space());
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn a_question_says_who_asks_and_raw_json_passes_untouched() {
        let (text, value) = written(&question(Ask::Authorize(operation())));
        let expected = json!({
            "v": 1, "operation": "authorize", "space": "global", "channel": "todos:7",
            "session": "s-1", "identity": "ålice", "topics": ["team:a", "user:ålice"],
            "claims": { "sub": "ålice", "n": 1.0 }, "context": { "plan": "pro" },
            "request": { "url": "https://a/", "headers": { "cookie": "c=1" } },
            "on": { "kind": "update", "key": "k\"1", "data": { "n": 1.5 } }
        });
        assert_eq!(value, expected);
        assert!(text.contains(r#"{"n": 1.50}"#) && text.contains(r#"{"sub":"ålice", "n":1.0}"#));
        let mut nobody = question(Ask::Authorize(Operation {
            kind: Kind::Subscribe,
            key: None,
            data: None,
        }));
        nobody.grant = Grant::default();
        let (_, value) = written(&nobody);
        for null in ["identity", "claims", "context"] {
            assert_eq!(value[null], Value::Null, "{null}");
        }
        assert_eq!(value["topics"], json!([]));
        assert_eq!(value["request"]["headers"], json!({}));
        let on = json!({ "kind": "subscribe", "key": null, "data": null });
        assert_eq!(value["on"], on);
    }

    #[test]
    fn a_page_is_asked_for_by_time_token_and_limit() {
        let fetch = |since, token: Option<&str>| {
            let (_, value) = written(&question(Ask::Fetch(Fetch {
                since,
                token: token.map(str::to_owned),
                limit: 500,
                authorize: since.is_none(),
            })));
            assert_eq!(value["operation"], "fetch");
            json!([value["since"], value["page"], value["authorize"]])
        };
        let first = json!([null, { "token": null, "limit": 500 }, true]);
        assert_eq!(fetch(None, None), first);
        let next = json!([7, { "token": "t", "limit": 500 }, false]);
        assert_eq!(fetch(Some(Millis(7)), Some("t")), next);
    }

    #[test]
    fn a_write_has_its_id_its_key_and_its_data() {
        for (action, name, data) in [
            (Action::Create, "create", json!({ "id": "k" })),
            (Action::Update, "update", json!({ "id": "k" })),
            (Action::Delete, "delete", Value::Null),
        ] {
            let (_, value) = written(&question(mutation(action)));
            let asked = json!([value["operation"], value["id"], value["key"], value["data"]]);
            assert_eq!(asked, json!([name, "m1", "k", data]));
            assert_eq!(value["authorize"], true);
        }
    }
}
