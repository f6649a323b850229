//! JSON in and out: raw values pass through untouched, only envelopes are parsed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::limits;

/// An object's top-level fields in their order, values untouched. A field that comes twice is an
/// error: receivers would disagree on which one counts.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    list: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The place of each field, by its name: a row may have tens of thousands.
    places: BTreeMap<Cow<'a, str>, usize>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let place = self.places.get(name)?;
        self.list.get(*place).map(|(_, value)| *value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        let list = self.list.iter();
        list.map(|(name, value)| (name.as_ref(), *value))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    let value = map.next_value::<&'de RawValue>()?;
                    if fields
                        .places
                        .insert(name.clone(), fields.list.len())
                        .is_some()
                    {
                        return Err(A::Error::custom("a field comes twice"));
                    }
                    fields.list.push((name, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Reads a struct from a JSON object. Serde's derived structs would take an array as well.
pub(crate) fn from_object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    if json.trim_ascii_start().starts_with('{') {
        serde_json::from_str(json)
    } else {
        Err(serde_json::Error::custom("not an object"))
    }
}

/// A JSON string, borrowed where it holds no escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Tells `null` from a field that is not there.
pub(super) fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The text of a raw JSON string; `None` for any other value.
pub(crate) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

/// Whether objects and arrays nest at most [`limits::JSON_DEPTH`] deep. Reads bytes only, so that
/// it can guard a parser; text that is no JSON may pass, the parser will tell.
pub(crate) fn depth_is_bounded(json: &str) -> bool {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limits::JSON_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Appends a JSON string.
pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &str = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x00..=0x1f => "",
            _ => continue,
        };
        // Escaped bytes are ASCII, so both ends are character boundaries.
        out.push_str(text.get(plain..at).unwrap_or_default());
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

/// Writes JSON without an intermediate tree; rows go in as the raw text that they are.
#[derive(Debug, Default)]
pub(crate) struct JsonWriter {
    out: String,
    /// Whether a comma must precede what comes next.
    comma: bool,
}

impl JsonWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            out: String::with_capacity(bytes),
            comma: false,
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    pub(crate) fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.nest('{', '}', fields);
    }

    pub(crate) fn array(&mut self, items: impl FnOnce(&mut Self)) {
        self.nest('[', ']', items);
    }

    fn nest(&mut self, open: char, close: char, inner: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push(open);
        self.comma = false;
        inner(self);
        self.out.push(close);
        self.comma = true;
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.comma, true) {
            self.out.push(',');
        }
    }

    /// Begins a field; a value must follow.
    pub(crate) fn name(&mut self, name: &str) -> &mut Self {
        self.separate();
        write_text(&mut self.out, name);
        self.out.push(':');
        self.comma = false;
        self
    }

    pub(crate) fn raw_item(&mut self, json: &str) {
        self.separate();
        self.out.push_str(json);
    }

    pub(crate) fn text_item(&mut self, text: &str) {
        self.separate();
        write_text(&mut self.out, text);
    }

    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        self.name(name).raw_item(json);
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name).text_item(text);
    }

    pub(crate) fn opt_text(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.raw(name, "null"),
        }
    }

    pub(crate) fn number(&mut self, name: &str, number: u64) {
        self.name(name).separate();
        let _ = write!(self.out, "{number}");
    }

    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }
}

/// One object as text.
pub(crate) fn object(fields: impl FnOnce(&mut JsonWriter)) -> String {
    let mut out = JsonWriter::with_capacity(256);
    out.object(fields);
    out.finish()
}

/// Two objects as one, the fields of the second after those of the first. Neither is empty.
#[cfg(target_arch = "wasm32")]
pub(crate) fn joined(first: &str, second: &str) -> String {
    let first = first.strip_suffix('}').unwrap_or(first);
    let second = second.strip_prefix('{').unwrap_or(second);
    format!("{first},{second}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_text_reads_back_as_it_was() {
        for text in ["", "plain", "q\"b\\s", "\u{0}\u{1f}\n\t\r", "ünï 🌊 end"] {
            let mut out = String::new();
            write_text(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn fields_keep_order_and_refuse_doubles() {
        let fields = Fields::parse(r#"{"b":1,"a":{"x":[1, 2]}}"#).unwrap();
        let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(fields.get("a").unwrap().get(), r#"{"x":[1, 2]}"#);
        assert!(Fields::parse(r#"{"a":1,"a":2}"#).is_err());
        assert!(Fields::parse(r#"{"a":1,"\u0061":2}"#).is_err());
        assert!(Fields::parse("[1]").is_err());
    }

    #[test]
    fn depth_is_judged_at_the_bound_and_past_it() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(depth_is_bounded(&nested(limits::JSON_DEPTH)));
        assert!(!depth_is_bounded(&nested(limits::JSON_DEPTH + 1)));
        assert!(depth_is_bounded(&format!("\"\\\"{}\"", "[".repeat(100))));
    }

    #[test]
    fn commas_stand_between_items_only() {
        let json = object(|o| {
            o.text("a", "x");
            o.name("b").array(|a| {
                a.raw_item("1");
                a.object(|_| {});
                a.object(|o| o.number("n", 2));
            });
            o.bool("c", true);
        });
        assert_eq!(json, r#"{"a":"x","b":[1,{},{"n":2}],"c":true}"#);
    }
}
