//! Rows as JSON text: made, merged and checked without touching the values inside.

use serde_json::value::RawValue;

use crate::limits;
use crate::names::Key;
use crate::protocol::{Fields, JsonWriter, Problem, depth_is_bounded, text_of};

/// Fields that JavaScript gives a meaning of its own; a merge on a client's side could reach
/// every object through them.
pub(crate) const REFUSED_FIELDS: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// Refuses data that can make no row, before anybody looks at its fields.
pub(crate) fn check_length(data: Option<&RawValue>) -> Result<(), Problem> {
    if data.is_some_and(|data| data.get().len() > limits::DATA_BYTES) {
        return Err(Problem::invalid("data", "is too long for a row"));
    }
    Ok(())
}

fn checked<'a>(json: &'a str) -> Result<Fields<'a>, Problem> {
    let object = || Problem::invalid("data", "must be an object without doubled fields");
    let fields = Fields::parse(json).map_err(|_| object())?;
    for refused in REFUSED_FIELDS {
        if fields.get(refused).is_some() {
            return Err(Problem::invalid(refused, "is no field's name"));
        }
    }
    Ok(fields)
}

fn bounded(row: JsonWriter, most: usize) -> Result<String, Problem> {
    let row = row.finish();
    match row.len() > most {
        true => Err(too_large(most)),
        false => Ok(row),
    }
}

fn too_large(most: usize) -> Problem {
    Problem::invalid("data", format!("the row must be at most {most} bytes"))
}

/// The row of `key` with the given fields, of at most `most` bytes. An `id` comes first where it was left out.
///
/// # Errors
/// `invalid` when the data is no object, has a refused field, or makes too large a row.
pub(crate) fn create(key: &Key, data: &str, most: usize) -> Result<String, Problem> {
    let fields = checked(data)?;
    let mut row = JsonWriter::with_capacity(data.len() + 16);
    row.object(|o| {
        if fields.get("id").is_none() {
            o.text("id", key.as_str());
        }
        for (name, value) in fields.iter() {
            o.raw(name, value.get());
        }
    });
    bounded(row, most)
}

/// The fields of an update, checked, of at most `most` bytes; as they were given.
///
/// # Errors
/// `invalid` as for [`create`].
pub(crate) fn fields(data: &str, most: usize) -> Result<String, Problem> {
    checked(data)?;
    if data.len() > most {
        return Err(too_large(most));
    }
    Ok(data.to_owned())
}

/// The row with the given fields in place of those of the same names, and new ones at its end.
///
/// # Errors
/// `invalid` as for [`create`].
pub(crate) fn merge(row: &str, data: &str, most: usize) -> Result<String, Problem> {
    let old = Fields::parse(row).unwrap_or_default();
    let new = checked(data)?;
    let mut merged = JsonWriter::with_capacity(row.len() + data.len());
    merged.object(|o| {
        for (name, value) in old.iter() {
            o.raw(name, new.get(name).unwrap_or(value).get());
        }
        for (name, value) in new.iter().filter(|(name, _)| old.get(name).is_none()) {
            o.raw(name, value.get());
        }
    });
    bounded(merged, most)
}

/// Whether the text is the row of `key` as it may be stored, of at most `most` bytes.
///
/// # Errors
/// `invalid` as for [`create`], and where its `id` is not the key.
pub(crate) fn check(key: &Key, row: &str, most: usize) -> Result<(), Problem> {
    let fields = checked(row)?;
    let id = fields.get("id").and_then(text_of);
    if id.as_deref() != Some(key.as_str()) {
        return Err(Problem::invalid("id", "must be the key"));
    }
    match row.len() > most {
        true => Err(too_large(most)),
        false => Ok(()),
    }
}

/// The key of a row that somebody else has made, if it is one as it may be sent to clients, of at
/// most `most` bytes.
///
/// # Errors
/// `invalid` as for [`check`], and where it nests too deep or its `id` is no key. No text is the row's.
pub(crate) fn read(row: &str, most: usize) -> Result<Key, Problem> {
    if row.len() > most || !depth_is_bounded(row) {
        let message = format!("the row must be at most {most} bytes, nested at most 64 deep");
        return Err(Problem::invalid("data", message));
    }
    let id = checked(row)?.get("id").and_then(text_of);
    let key = id.and_then(|id| Key::parse(&id).ok());
    key.ok_or_else(|| Problem::invalid("id", "must be a text of 1 to 256 bytes"))
}

/// What the deleted row of a key is acknowledged with.
pub(crate) fn deleted(key: &Key) -> String {
    let mut row = JsonWriter::default();
    row.object(|o| o.text("id", key.as_str()));
    row.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ROW_BYTES;

    fn create(key: &Key, data: &str) -> Result<String, Problem> {
        super::create(key, data, ROW_BYTES)
    }

    fn merge(row: &str, data: &str) -> Result<String, Problem> {
        super::merge(row, data, ROW_BYTES)
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn values_pass_through_untouched() {
        let data = r#"{"id":"k","n":1.10,"big":12345678901234567890,"s":"\u00e9","x":{"a" : [1]}}"#;
        assert_eq!(create(&key("k"), data).unwrap(), data);
    }

    #[test]
    fn a_missing_id_is_added() {
        assert_eq!(
            create(&key("k"), r#"{"a":1}"#).unwrap(),
            r#"{"id":"k","a":1}"#
        );
        assert_eq!(create(&key("k\""), "{}").unwrap(), r#"{"id":"k\""}"#);
    }

    #[test]
    fn a_merge_replaces_adds_and_stores_null() {
        let merged = merge(r#"{"id":"k","a":1,"b":2}"#, r#"{"c":{},"a":null}"#).unwrap();
        assert_eq!(merged, r#"{"id":"k","a":null,"b":2,"c":{}}"#);
    }

    #[test]
    fn dangerous_fields_are_refused_by_name() {
        for field in REFUSED_FIELDS {
            let data = format!(r#"{{"id":"k","{field}":1}}"#);
            assert_eq!(
                create(&key("k"), &data).unwrap_err().field.as_deref(),
                Some(field)
            );
            assert!(merge(r#"{"id":"k"}"#, &data).is_err());
        }
        let escaped = r#"{"id":"k","__proto\u005f_":1}"#;
        assert!(create(&key("k"), escaped).is_err());
    }

    #[test]
    fn rows_hold_at_their_bound_and_not_past_it_also_after_a_merge() {
        let of = |bytes: usize| format!(r#"{{"id":"k","t":"{}"}}"#, "x".repeat(bytes - 17));
        assert_eq!(of(ROW_BYTES).len(), ROW_BYTES);
        assert!(create(&key("k"), &of(ROW_BYTES)).is_ok());
        let error = create(&key("k"), &of(ROW_BYTES + 1)).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("data"));
        assert!(merge(&of(ROW_BYTES - 6), r#"{"a":1}"#).is_ok());
        assert!(merge(&of(ROW_BYTES - 5), r#"{"a":1}"#).is_err());
    }

    #[test]
    fn what_is_no_object_is_no_row() {
        for data in ["null", "[]", "1", "\"x\"", r#"{"a":1,"a":2}"#] {
            assert!(create(&key("k"), data).is_err(), "{data}");
        }
    }
}
