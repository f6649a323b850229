//! A value in a column, and the same value in a row.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Kind;
use super::sql::text;
use crate::limits;
use crate::protocol::{depth_is_bounded, text_of};

/// What a value of a column is as JSON in a row; nothing where it is not what the column is said to
/// hold.
pub(super) fn told(kind: Kind, cell: &RawValue) -> Option<Cow<'_, str>> {
    let raw = cell.get();
    let as_it_is = Some(Cow::Borrowed(raw));
    match (kind, shape(raw)) {
        (_, Shape::Null)
        | (Kind::Any | Kind::Text, Shape::Text)
        | (Kind::Any | Kind::Number, Shape::Number) => as_it_is,
        (Kind::Text, Shape::Number) => Some(format!("\"{raw}\"").into()),
        (Kind::Boolean, Shape::Number) => Some(if raw == "0" { "false" } else { "true" }.into()),
        (Kind::Boolean, Shape::Text) => match raw {
            // What JavaScript's own binding makes of a boolean in some places.
            "\"true\"" => Some("true".into()),
            "\"false\"" => Some("false".into()),
            _ => None,
        },
        (Kind::Json, Shape::Number) => as_it_is,
        (Kind::Json, Shape::Text) => {
            let json = text_of(cell)?;
            let bounded = depth_is_bounded(&json);
            let json = bounded.then(|| serde_json::from_str::<&RawValue>(&json).ok());
            json?.map(|json| json.get().to_owned().into())
        }
        (Kind::Number, Shape::Text) | (_, Shape::Other) => None,
    }
}

/// What a row's field is bound as.
///
/// # Errors
/// What the field must be.
pub(super) fn bound(kind: Kind, field: &RawValue) -> Result<String, &'static str> {
    const ANY: &str = "must be a text, a number or null";
    let raw = field.get();
    match (kind, shape(raw)) {
        (_, Shape::Null) => Ok("null".to_owned()),
        (Kind::Any | Kind::Text, Shape::Text) => match text_of(field) {
            Some(_) => Ok(raw.to_owned()),
            None => Err("must be a text without halves of characters"),
        },
        (Kind::Any | Kind::Number, Shape::Number) => number(raw),
        (Kind::Boolean, Shape::Other) if raw == "true" => Ok("1".to_owned()),
        (Kind::Boolean, Shape::Other) if raw == "false" => Ok("0".to_owned()),
        (Kind::Json, _) => Ok(text(raw)),
        (Kind::Any, _) => Err(ANY),
        (Kind::Text, _) => Err("must be a text or null"),
        (Kind::Number, _) => Err("must be a number or null"),
        (Kind::Boolean, _) => Err("must be true, false or null"),
    }
}

/// A number, as long as the database keeps it as it is.
fn number(raw: &str) -> Result<String, &'static str> {
    let number: f64 = serde_json::from_str(raw).map_err(|_| "is too large a number")?;
    let is_integer = !raw.contains(['.', 'e', 'E']);
    if is_integer && number.abs() > limits::SAFE_INTEGER as f64 {
        return Err("must be a number of at most 2^53 - 1; use a text");
    }
    Ok(raw.to_owned())
}

#[derive(Clone, Copy)]
enum Shape {
    Null,
    Text,
    Number,
    /// A boolean, a list or an object. Of what D1 gives: a blob, as the list of its bytes.
    Other,
}

fn shape(raw: &str) -> Shape {
    match raw.as_bytes().first() {
        Some(b'n') => Shape::Null,
        Some(b'"') => Shape::Text,
        Some(b'-' | b'0'..=b'9') => Shape::Number,
        Some(_) | None => Shape::Other,
    }
}

/// Whether a value can be bound as it was read.
pub(super) fn is_bindable(raw: &str) -> bool {
    !matches!(shape(raw), Shape::Other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Any, Boolean, Json, Number, Text};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn there_and_back(kind: Kind, field: &str) -> Option<String> {
        let cell = bound(kind, &raw(field)).ok()?;
        told(kind, &raw(&cell)).map(Cow::into_owned)
    }

    #[test]
    fn every_value_comes_back_as_it_went() {
        for (kind, field) in [
            (Any, "null"),
            (Any, r#""x\n\u0000é""#),
            (Any, "9007199254740991"),
            (Text, "\"7\""),
            (Text, "null"),
            (Number, "-0.1"),
            (Number, "1e300"),
            (Number, "-9007199254740991"),
            (Boolean, "true"),
            (Boolean, "false"),
            (Boolean, "null"),
            (Json, r#"{"a" : [1, 12345678901234567890, "é\""]}"#),
            (Json, "[]"),
            (Json, "\"text\""),
            (Json, "true"),
            (Json, "0"),
            (Json, "null"),
        ] {
            assert_eq!(
                there_and_back(kind, field).as_deref(),
                Some(field),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_its_column_is_refused() {
        for (kind, field) in [
            (Any, "true"),
            (Any, "[]"),
            (Any, r#""\ud800""#),
            (Text, "1"),
            (Number, "\"1\""),
            (Number, "9007199254740992"),
            (Number, "1e400"),
            (Boolean, "1"),
            (Boolean, "\"true\""),
        ] {
            assert!(bound(kind, &raw(field)).is_err(), "{kind:?} {field}");
        }
    }

    #[test]
    fn a_column_may_hold_what_others_wrote() {
        for (kind, cell, told_as) in [
            (Text, "7", Some("\"7\"")),
            (Boolean, "2", Some("true")),
            (Boolean, "\"false\"", Some("false")),
            (Boolean, "\"no\"", None),
            (Number, "\"1\"", None),
            (Any, "[1,2]", None),
            (Json, "7", Some("7")),
            (Json, "[1,2]", None),
            (Json, "\"{\"", None),
            (Json, "\"\"", None),
            (Json, r#"" [1] ""#, Some("[1]")),
        ] {
            let cell = raw(cell);
            assert_eq!(told(kind, &cell).as_deref(), told_as, "{kind:?} {cell}");
        }
        let deep = |n: usize| raw(&text(&format!("{}{}", "[".repeat(n), "]".repeat(n))));
        assert!(told(Json, &deep(limits::JSON_DEPTH)).is_some());
        assert!(told(Json, &deep(limits::JSON_DEPTH + 1)).is_none());
    }
}
