//! What the app answers: taken as far as it is of the documented shape, and no further.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::audience::Audience;
use crate::limits;
use crate::names::Key;
use crate::protocol::{Action, Code, Fields, Problem, text_of};
use crate::row;
use crate::source::{Answer, Answered, Ask, Failed, Fetch, Page, Scope, Write, Written};

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What the engine is told. Of the app's own words only the message and the field of a refusal by
    /// the contract, and a row that stands in the way.
    pub answered: Answered,
    /// What the log is to say of the app. No word of it is the app's.
    pub cause: Option<String>,
}

impl Reading {
    /// No answer, or none that could be read to its end.
    pub(crate) fn lost(ask: &Ask, cause: String) -> Self {
        let message = "the channel's source did not answer";
        Self {
            answered: Err(Failed {
                problem: Problem::new(Code::Unavailable, message),
                may_be_done: ask.is_write(),
            }),
            cause: Some(cause),
        }
    }

    /// An answer that does not fit the question. It will not fit the next time either.
    fn unfit(ask: &Ask, cause: String) -> Self {
        let message = "the channel's source answered something else than it was asked";
        Self {
            answered: Err(Failed {
                problem: Problem::new(Code::Internal, message),
                may_be_done: ask.is_write(),
            }),
            cause: Some(cause),
        }
    }
}

/// Reads status and text of an answer; `None` for a text that is too long, or no UTF-8. Rows have
/// `row_bytes` at most.
#[must_use]
pub fn read_answer(ask: &Ask, status: u16, text: Option<&str>, row_bytes: usize) -> Reading {
    let text = text.filter(|text| text.len() <= limits::SOURCE_ANSWER_BYTES);
    match (status, text) {
        (200, Some(text)) => match fitting(ask, text, row_bytes) {
            Ok((answer, cause)) => Reading {
                answered: Ok(answer),
                cause,
            },
            Err(cause) => Reading::unfit(ask, cause),
        },
        (200, None) => Reading::unfit(ask, "it is longer than 8 MiB, or no UTF-8".to_owned()),
        // A redirect is nobody's refusal, whatever it says.
        (400.., Some(text)) => refusal(ask, status, text, row_bytes),
        (status, _) => Reading::lost(ask, format!("status {status}")),
    }
}

/// The answer, and what else is wrong with it that does not undo a write.
fn fitting(ask: &Ask, text: &str, row_bytes: usize) -> Result<(Answer, Option<String>), String> {
    let fields = Fields::parse(text).map_err(|_| "it is no object without doubled fields")?;
    if fields.get("error").is_some() {
        return Err("status 200 with an error".to_owned());
    }
    match ask {
        Ask::Authorize(_) => Ok((Answer::Allowed, None)),
        Ask::Fetch(fetch) => Ok((Answer::Page(page(fetch, &fields, row_bytes)?), None)),
        Ask::Write(write) => {
            let (written, cause) = written(write, &fields, row_bytes)?;
            Ok((Answer::Written(written), cause))
        }
    }
}

fn page(fetch: &Fetch, fields: &Fields<'_>, row_bytes: usize) -> Result<Page, String> {
    let rows = list(fields.get("rows")).ok_or("rows must be a list")?;
    let deleted = match given(fields, "deleted") {
        None => Vec::new(),
        some => list(some).ok_or("deleted must be a list")?,
    };
    if rows.len() + deleted.len() > limits::SOURCE_ANSWER_ROWS {
        const MOST: usize = limits::SOURCE_ANSWER_ROWS;
        return Err(format!("it has more than {MOST} rows and deleted keys"));
    }
    let row = |(index, raw): (usize, &RawValue)| {
        let key = row::read(raw.get(), row_bytes);
        let key = key.map_err(|problem| format!("row {index}: {}", said(&problem)))?;
        Ok::<_, String>((key, raw.get().to_owned()))
    };
    let key = |raw: &RawValue| text_of(raw).and_then(|text| Key::parse(&text).ok());
    let next = match given(fields, "next").map(text_of) {
        None => None,
        Some(Some(token)) if (1..=limits::SOURCE_TOKEN_BYTES).contains(&token.len()) => {
            Some(token.into_owned())
        }
        Some(_) => {
            const MOST: usize = limits::SOURCE_TOKEN_BYTES;
            return Err(format!("next must be a text of 1 to {MOST} bytes, or null"));
        }
    };
    let full = flag(fields, "full")?.unwrap_or_default();
    let deleted = deleted.into_iter().map(key).collect::<Option<_>>();
    Ok(Page {
        rows: rows
            .into_iter()
            .enumerate()
            .map(row)
            .collect::<Result<_, _>>()?,
        deleted: deleted.ok_or("deleted must be keys: texts of 1 to 256 bytes")?,
        next,
        // Where everything was asked for there is nothing that it could come on top of.
        full: full || fetch.since.is_none(),
    })
}

/// The write stands whatever is said of its audience: one that cannot be read is nobody's.
fn written(
    write: &Write,
    fields: &Fields<'_>,
    row_bytes: usize,
) -> Result<(Written, Option<String>), String> {
    let repeated = flag(fields, "repeated")?.unwrap_or_default();
    let row = match (write.action, given(fields, "row")) {
        (Action::Delete, _) => None,
        (Action::Create | Action::Update, None) if repeated => None,
        (Action::Create | Action::Update, None) => return Err("row is missing".to_owned()),
        (Action::Create | Action::Update, Some(raw)) => {
            let key = row::read(raw.get(), row_bytes);
            let key = key.map_err(|problem| format!("row: {}", said(&problem)))?;
            if key != write.key {
                return Err("row: it is of another key".to_owned());
            }
            Some(raw.get().to_owned())
        }
    };
    let mut cause = None;
    let scope = match fields.get("to") {
        None => Scope::ByRule,
        Some(to) if to.get() == "null" => Scope::Unknown,
        Some(to) => Audience::from_wire(to).map_or_else(
            |problem| {
                cause = Some(format!("{}: nobody is told", said(&problem)));
                Scope::Unknown
            },
            Scope::Of,
        ),
    };
    let before = given(fields, "before").and_then(|before| {
        let before = Audience::from_wire(before);
        if before.is_err() {
            cause = Some("before must be \"all\" or a list of 1 to 64 topics".to_owned());
        }
        before.ok()
    });
    let written = Written {
        row,
        scope,
        before,
        repeated,
    };
    Ok((written, cause))
}

/// A refusal by the contract, or whatever else has that status.
fn refusal(ask: &Ask, status: u16, text: &str, row_bytes: usize) -> Reading {
    let body = Fields::parse(text).ok();
    let body = body.and_then(|body| Fields::parse(body.get("error")?.get()).ok());
    let error = body.unwrap_or_default();
    let mut reading = refused(ask, status, &error, row_bytes);
    // The app knows best where it has not begun to write.
    if let (Err(failed), Some("false")) =
        (&mut reading.answered, error.get("done").map(RawValue::get))
    {
        failed.may_be_done = false;
    }
    reading
}

fn refused(ask: &Ask, status: u16, error: &Fields<'_>, row_bytes: usize) -> Reading {
    let code = error.get("code").and_then(text_of);
    let code = code.unwrap_or_default();
    let Some((code, message)) = told(&code) else {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let named = (1..=40).contains(&code.len()) && code.bytes().all(plain);
        let named = if named {
            &code
        } else {
            "no code that is known"
        };
        return Reading::lost(ask, format!("status {status}, {named}"));
    };
    let given = error.get("message").and_then(text_of);
    let given = given.filter(|message| !message.is_empty());
    let retry = error.get("retryAfterMs");
    let retry = retry.and_then(|ms| serde_json::from_str::<f64>(ms.get()).ok());
    let current = error.get("current").filter(|row| match ask {
        Ask::Write(write) => row::read(row.get(), row_bytes).is_ok_and(|key| key == write.key),
        Ask::Authorize(_) | Ask::Fetch(_) => false,
    });
    let field = error.get("field").and_then(text_of);
    let problem = Problem {
        field: field.map(|field| cut(&field, limits::KEY_BYTES).to_owned()),
        // Of a number that is none, 0.
        retry_after_ms: retry.map(|ms| (ms as u64).min(limits::DAY_MS)),
        current: current.map(|row| row.get().to_owned()),
        ..match given {
            Some(given) => Problem::new(code, cut(&given, limits::SOURCE_MESSAGE_BYTES).to_owned()),
            None => Problem::new(code, message),
        }
    };
    let failed = matches!(code, Code::Unavailable | Code::Internal);
    Reading {
        answered: Err(Failed {
            problem,
            may_be_done: ask.is_write() && status >= 500,
        }),
        cause: failed.then(|| format!("status {status}, {}", code.as_str())),
    }
}

/// The codes by which the app refuses, with what they say where it says nothing.
fn told(code: &str) -> Option<(Code, &'static str)> {
    Some(match code {
        "unauthorized" => (Code::Unauthorized, "this needs a token"),
        "forbidden" => (Code::Forbidden, "this is not allowed"),
        "read_only" => (Code::ReadOnly, "this cannot be changed here"),
        "invalid" => (Code::Invalid, "the data are not valid"),
        "not_found" => (Code::NotFound, "no such row"),
        "conflict" => (Code::Conflict, "another state stands in the way"),
        "rate_limited" => (Code::RateLimited, "too much at once"),
        "unavailable" => (Code::Unavailable, "not available now, try again"),
        "internal" => (Code::Internal, "the channel's source failed"),
        _ => return None,
    })
}

/// A field that is there and not null.
fn given<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).filter(|value| value.get() != "null")
}

fn flag(fields: &Fields<'_>, name: &'static str) -> Result<Option<bool>, String> {
    match given(fields, name).map(RawValue::get) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(format!("{name} must be true or false")),
    }
}

/// A problem of a row as the log may have it.
fn said(problem: &Problem) -> String {
    let field = problem.field.as_deref().unwrap_or_default();
    format!("{field} {}", problem.message)
}

fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev();
    let end = end.into_iter().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// The items of a list, one more than there may be: an answer has room for millions of them.
struct Items<'a>(Vec<&'a RawValue>);

fn list(raw: Option<&RawValue>) -> Option<Vec<&RawValue>> {
    let items: Items<'_> = serde_json::from_str(raw?.get()).ok()?;
    Some(items.0)
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() <= limits::SOURCE_ANSWER_ROWS {
                        items.push(item);
                    }
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::body::tests::{mutation, operation};
    use super::*;
    use crate::names::{Millis, Topic};

    fn fetch(since: Option<u64>) -> Ask {
        Ask::Fetch(Fetch {
            since: since.map(Millis),
            token: None,
            limit: 500,
            authorize: false,
        })
    }

    fn authorize() -> Ask {
        Ask::Authorize(operation())
    }

    fn read(ask: &Ask, status: u16, text: &str) -> Reading {
        read_answer(ask, status, Some(text), limits::ROW_BYTES)
    }

    fn page_of(since: Option<u64>, text: &str) -> Page {
        match read(&fetch(since), 200, text).answered {
            Ok(Answer::Page(page)) => page,
            other => panic!("no page: {other:?}"),
        }
    }

    fn written_of(action: Action, text: &str) -> (Written, bool) {
        let reading = read(&mutation(action), 200, text);
        match reading.answered {
            Ok(Answer::Written(written)) => (written, reading.cause.is_some()),
            other => panic!("not written: {other:?}"),
        }
    }

    /// What the asker is told of an answer, and whether the write may be done; the log has a cause.
    #[track_caller]
    fn failed(reading: Reading) -> (Code, bool) {
        let failed = reading.answered.unwrap_err();
        assert!(reading.cause.is_some());
        (failed.problem.code, failed.may_be_done)
    }

    fn to(topics: &[&str]) -> Audience {
        Audience::of(topics.iter().map(|topic| Topic::parse(topic).unwrap())).unwrap()
    }

    #[test]
    fn only_an_object_without_an_error_allows() {
        for text in ["{}", r#" {"more": 1} "#] {
            let reading = read(&authorize(), 200, text);
            assert_eq!(
                (reading.answered, reading.cause),
                (Ok(Answer::Allowed), None)
            );
        }
        for text in [
            "",
            "[]",
            "null",
            "true",
            "{",
            r#"{"a":1,"a":2}"#,
            r#"{"error":{}}"#,
        ] {
            let told = failed(read(&authorize(), 200, text));
            assert_eq!(told, (Code::Internal, false), "{text}");
        }
        for status in [0, 100, 201, 204, 301, 302, 307, 399] {
            let told = failed(read(&authorize(), status, "{}"));
            assert_eq!(told, (Code::Unavailable, false), "{status}");
        }
    }

    #[test]
    fn a_page_is_taken_word_for_word() {
        let text =
            r#"{"rows":[{"id":"k1", "n":1.50},{"n":2,"id":"k2"}],"deleted":["k3"],"next":"t"}"#;
        let page = page_of(Some(1), text);
        let rows: Vec<(&str, &str)> = page.rows.iter().map(|(k, r)| (k.as_str(), &**r)).collect();
        let expected = [
            ("k1", r#"{"id":"k1", "n":1.50}"#),
            ("k2", r#"{"n":2,"id":"k2"}"#),
        ];
        assert_eq!(rows, expected);
        assert_eq!(page.deleted, [Key::parse("k3").unwrap()]);
        assert_eq!((page.next.as_deref(), page.full), (Some("t"), false));
        let nothing = page_of(
            Some(1),
            r#"{"rows":[],"deleted":null,"next":null,"full":null}"#,
        );
        assert_eq!(nothing, Page::default());
        assert!(page_of(None, r#"{"rows":[]}"#).full);
        assert!(page_of(None, r#"{"rows":[],"full":false}"#).full);
        assert!(page_of(Some(1), r#"{"rows":[],"full":true}"#).full);
    }

    #[test]
    fn a_page_of_another_shape_is_the_apps_fault_and_not_told() {
        for text in [
            "{}",
            "[]",
            r#"{"rows":null}"#,
            r#"{"rows":{}}"#,
            r#"{"rows":[1]}"#,
            r#"{"rows":[["k"]]}"#,
            r#"{"rows":[{}]}"#,
            r#"{"rows":[{"id":1}]}"#,
            r#"{"rows":[{"id":""}]}"#,
            r#"{"rows":[{"id":"\ud800"}]}"#,
            r#"{"rows":[{"id":"a\nb"}]}"#,
            r#"{"rows":[{"id":"secret-key","x":1,"x":2}]}"#,
            r#"{"rows":[{"id":"k","__proto__":{}}]}"#,
            r#"{"rows":[],"rows":[]}"#,
            r#"{"rows":[],"deleted":"k"}"#,
            r#"{"rows":[],"deleted":[1]}"#,
            r#"{"rows":[],"deleted":[""]}"#,
            r#"{"rows":[],"next":1}"#,
            r#"{"rows":[],"next":""}"#,
            r#"{"rows":[],"full":1}"#,
            r#"{"rows":[],"error":"secret"}"#,
            r#"{"rows":[]} and more"#,
        ] {
            let reading = read(&fetch(None), 200, text);
            assert!(!format!("{reading:?}").contains("secret"), "{reading:?}");
            assert_eq!(failed(reading), (Code::Internal, false), "{text}");
        }
    }

    #[test]
    fn answers_hold_at_their_bounds_and_not_past_them() {
        let taken = |text: String| read(&fetch(None), 200, &text).answered.is_ok();
        let row = |bytes: usize| {
            let around = r#"{"id":"k","x":""}"#.len();
            format!(
                r#"{{"rows":[{{"id":"k","x":"{}"}}]}}"#,
                "x".repeat(bytes - around)
            )
        };
        assert!(taken(row(limits::ROW_BYTES)) && !taken(row(limits::ROW_BYTES + 1)));
        let nested = |depth: usize| {
            let inner = "[".repeat(depth - 1) + &"]".repeat(depth - 1);
            format!(r#"{{"rows":[{{"id":"k","x":{inner}}}]}}"#)
        };
        assert!(taken(nested(limits::JSON_DEPTH)) && !taken(nested(limits::JSON_DEPTH + 1)));
        assert!(!taken(nested(1_000_000)));
        let next = |bytes: usize| json!({ "rows": [], "next": "t".repeat(bytes) }).to_string();
        let most = limits::SOURCE_TOKEN_BYTES;
        assert!(taken(next(most)) && !taken(next(most + 1)));
        let key = |bytes: usize| json!({ "rows": [{ "id": "k".repeat(bytes) }] }).to_string();
        assert!(taken(key(limits::KEY_BYTES)) && !taken(key(limits::KEY_BYTES + 1)));
        let most = limits::SOURCE_ANSWER_ROWS;
        let many = |rows: usize, keys: usize| {
            let rows = vec![r#"{"id":"k"}"#; rows].join(",");
            let keys = vec!["\"k\""; keys].join(",");
            format!(r#"{{"rows":[{rows}],"deleted":[{keys}]}}"#)
        };
        assert!(taken(many(most - 1, 1)));
        assert!(!taken(many(most, 1)) && !taken(many(most + 1, 0)) && !taken(many(0, most + 1)));
        let empty = r#"{"rows":[]}"#;
        let padded = |bytes: usize| empty.to_owned() + &" ".repeat(bytes - empty.len());
        let most = limits::SOURCE_ANSWER_BYTES;
        assert!(taken(padded(most)) && !taken(padded(most + 1)));
        let too_long = read_answer(&fetch(None), 200, None, limits::ROW_BYTES);
        assert_eq!(failed(too_long), (Code::Internal, false));
    }

    #[test]
    fn a_write_is_answered_with_its_row_and_who_may_see_it() {
        let row = r#"{"id":"k", "n":1.0}"#;
        let (written, cause) = written_of(Action::Create, &format!(r#"{{"row":{row}}}"#));
        let plain = Written {
            row: Some(row.to_owned()),
            scope: Scope::ByRule,
            before: None,
            repeated: false,
        };
        assert_eq!((written, cause), (plain.clone(), false));
        let scoped =
            format!(r#"{{"row":{row},"to":["user:a","t"],"before":"all","repeated":true}}"#);
        let expected = Written {
            scope: Scope::Of(to(&["user:a", "t"])),
            before: Some(Audience::All),
            repeated: true,
            ..plain
        };
        assert_eq!(written_of(Action::Update, &scoped), (expected, false));
        let gone = written_of(Action::Delete, r#"{"row":null,"to":"all"}"#).0;
        assert_eq!((gone.row, gone.scope), (None, Scope::Of(Audience::All)));
        let gone = written_of(Action::Delete, &format!(r#"{{"row":{row}}}"#)).0;
        assert_eq!(gone.row, None);
        let again = written_of(Action::Update, r#"{"row":null,"repeated":true}"#).0;
        assert_eq!((again.row, again.repeated), (None, true));
    }

    #[test]
    fn a_write_whose_audience_cannot_be_read_stands_and_nobody_is_told() {
        let of = |to: &str| {
            let text = format!(r#"{{"row":{{"id":"k"}},"to":{to}}}"#);
            let (written, cause) = written_of(Action::Update, &text);
            (written.scope, cause)
        };
        assert_eq!(of("null"), (Scope::Unknown, false));
        for bad in ["[]", "1", "\"some\"", "[\"all\"]", "[1]", "{}", "[\"\"]"] {
            assert_eq!(of(bad), (Scope::Unknown, true), "{bad}");
        }
        let before = r#"{"row":{"id":"k"},"before":[1]}"#;
        let (written, cause) = written_of(Action::Update, before);
        assert_eq!((written.before, cause), (None, true));
    }

    #[test]
    fn a_write_that_is_answered_with_something_else_may_be_done() {
        for text in [
            "",
            "{}",
            r#"{"row":null}"#,
            r#"{"row":{"id":"other"}}"#,
            r#"{"row":"k"}"#,
            r#"{"row":{"id":"k"},"repeated":1}"#,
        ] {
            let told = failed(read(&mutation(Action::Update), 200, text));
            assert_eq!(told, (Code::Internal, true), "{text}");
        }
        for status in [0, 204, 302, 404, 500, 502] {
            let told = failed(read(&mutation(Action::Update), status, "<html>"));
            assert_eq!(told, (Code::Unavailable, true), "{status}");
        }
    }

    #[test]
    fn a_refusal_by_the_contract_is_told_and_nothing_else_of_the_app() {
        for (status, code) in [
            (401, Code::Unauthorized),
            (403, Code::Forbidden),
            (403, Code::ReadOnly),
            (400, Code::Invalid),
            (404, Code::NotFound),
            (409, Code::Conflict),
            (429, Code::RateLimited),
            (503, Code::Unavailable),
            (500, Code::Internal),
        ] {
            let error = json!({ "error": {
                "code": code.as_str(), "message": "no", "field": "title", "retryAfterMs": 5,
                "current": { "id": "k", "n": 1 }, "stack": "secret"
            } });
            for ask in [authorize(), fetch(None), mutation(Action::Update)] {
                let Reading { answered, cause } = read(&ask, status, &error.to_string());
                let Failed {
                    problem,
                    may_be_done,
                } = answered.unwrap_err();
                assert_eq!((problem.code, &*problem.message), (code, "no"));
                assert_eq!(problem.field.as_deref(), Some("title"));
                assert_eq!(problem.retry_after_ms, Some(5));
                assert_eq!(problem.current.is_some(), ask.is_write());
                assert_eq!(may_be_done, ask.is_write() && status >= 500);
                assert_eq!(cause.is_some(), status >= 500);
            }
        }
        for text in [
            r#"{"error":{"code":"bad_signature","message":"secret"}}"#,
            r#"{"error":{"code":"unknown_channel","message":"secret"}}"#,
            r#"{"error":{"code":"secret code"}}"#,
            r#"{"error":{"code":7}}"#,
            r#"{"error":"forbidden"}"#,
            r#"{"error":{"code":"forbidden","code":"invalid"}}"#,
            r#"{"code":"forbidden"}"#,
            r#"["forbidden"]"#,
            "forbidden",
            "",
        ] {
            let reading = read(&authorize(), 403, text);
            assert!(!format!("{reading:?}").contains("secret"), "{reading:?}");
            assert_eq!(failed(reading), (Code::Unavailable, false), "{text}");
        }
        let forbidden = r#"{"error":{"code":"forbidden"}}"#;
        assert_eq!(
            failed(read(&authorize(), 307, forbidden)).0,
            Code::Unavailable
        );
        let unreadable = read_answer(&authorize(), 403, None, limits::ROW_BYTES);
        assert_eq!(failed(unreadable).0, Code::Unavailable);
    }

    #[test]
    fn an_app_may_say_that_nothing_is_done() {
        for code in ["internal", "unavailable", "misconfigured", "bad_signature"] {
            for (done, may_be_done) in [
                (json!(false), false),
                (json!(true), true),
                (json!("false"), true),
                (json!(null), true),
                (json!(0), true),
            ] {
                let error = json!({ "error": { "code": code, "message": "no", "done": done } });
                let reading = read(&mutation(Action::Update), 500, &error.to_string());
                assert_eq!(
                    reading.answered.unwrap_err().may_be_done,
                    may_be_done,
                    "{error}"
                );
            }
        }
        // Beside the error it says nothing, nor in an answer that is none.
        let beside = r#"{"error":{"code":"internal"},"done":false}"#;
        let done = read(&mutation(Action::Update), 500, beside);
        assert!(done.answered.unwrap_err().may_be_done);
        let written = read(
            &mutation(Action::Update),
            200,
            r#"{"row":null,"done":false}"#,
        );
        assert!(written.answered.unwrap_err().may_be_done);
    }

    #[test]
    fn what_a_refusal_says_is_bounded() {
        let refused = |error: serde_json::Value| {
            let text = json!({ "error": error }).to_string();
            read(&mutation(Action::Update), 409, &text)
                .answered
                .unwrap_err()
                .problem
        };
        let most = limits::SOURCE_MESSAGE_BYTES;
        let message =
            |text: String| refused(json!({ "code": "conflict", "message": text })).message;
        assert_eq!(message("m".repeat(most)).len(), most);
        assert_eq!(message("m".repeat(most + 1)).len(), most);
        assert_eq!(message(format!("m{}", "ü".repeat(most))).len(), most - 1);
        assert!(!message(String::new()).is_empty());
        let field = refused(json!({ "code": "invalid", "field": "f".repeat(1_000) })).field;
        assert_eq!(field.unwrap().len(), limits::KEY_BYTES);
        for (ms, waits) in [
            (json!(-5), Some(0)),
            (json!(1.5), Some(1)),
            (json!(1e300), Some(limits::DAY_MS)),
            (json!("5"), None),
        ] {
            let problem = refused(json!({ "code": "rate_limited", "retryAfterMs": ms }));
            assert_eq!(problem.retry_after_ms, waits);
        }
        for current in [json!({ "id": "other" }), json!("k"), json!(null), json!({})] {
            let problem = refused(json!({ "code": "conflict", "current": current }));
            assert_eq!(problem.current, None);
        }
    }

    /// Pieces of answers, whole and broken.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just(":".to_owned()),
            "\"(rows|row|id|deleted|next|full|to|before|repeated|error|code|current)\"",
            "\"(k|all|user:a|forbidden|internal|\\\\ud800|\\\\u0000)\"",
            "null|true|false|-?[0-9]{1,20}|1e999",
            r#""rows":\[\{"id":"k"\}\]"#,
            r#"\{"error":\{"code":"conflict","current":\{"id":"k"\}\}\}"#,
            any::<String>(),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_answer_panics_or_lets_a_bound_slip(text in pieces(), status in any::<u16>()) {
            for ask in [authorize(), fetch(None), mutation(Action::Update), mutation(Action::Delete)] {
                for status in [200, 400, 500, status] {
                    let Reading { answered, cause } = read_answer(&ask, status, Some(&text), 300);
                    match answered {
                        Ok(answer) => {
                            prop_assert_eq!(status, 200);
                            match answer {
                                Answer::Allowed => prop_assert!(matches!(ask, Ask::Authorize(_))),
                                Answer::Page(page) => {
                                    for (key, row) in page.rows {
                                        prop_assert_eq!(row::read(&row, 300), Ok(key));
                                    }
                                }
                                Answer::Written(written) => prop_assert!(ask.is_write() && written.row.is_none_or(|row| row.len() <= 300)),
                            }
                        }
                        Err(failed) => {
                            prop_assert!(failed.problem.message.len() <= limits::SOURCE_MESSAGE_BYTES);
                            prop_assert!(ask.is_write() || !failed.may_be_done);
                        }
                    }
                    if let Some(cause) = cause {
                        prop_assert!(cause.len() <= 200);
                    }
                }
            }
        }
    }
}
