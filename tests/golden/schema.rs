//! The schema of the wire, drawn from the golden messages: which fields of which kinds each message
//! has. Its hash stands beside the protocol's version, so that nobody changes the one without
//! thinking of the other.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tidewire::protocol;

/// What apps put in: its shape is none of ours.
const OPAQUE: [&str; 5] = ["data", "current", "state", "meta", "context"];

/// Fields whose values are words of the protocol.
const WORDS: [&str; 4] = ["action", "mode", "code", "type"];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn draw(lines: &mut BTreeSet<String>, path: &str, name: &str, value: &Value) {
    let word = value.as_str().filter(|_| WORDS.contains(&name));
    lines.insert(match word {
        Some(word) => format!("{path}: \"{word}\""),
        None => format!("{path}: {}", kind(value)),
    });
    if OPAQUE.contains(&name) {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                draw(lines, &format!("{path}.{name}"), name, value);
            }
        }
        Value::Array(items) => {
            for item in items {
                draw(lines, &format!("{path}[]"), "", item);
            }
        }
        _ => {}
    }
}

/// Every field of every golden message, a line each.
fn schema() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut lines = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let entries: Vec<Value> =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for entry in entries {
            let (from, frame) = (entry["direction"].as_str().unwrap(), &entry["frame"]);
            // What is malformed has no schema.
            let malformed = path.ends_with("malformed.json") && from == "client";
            if malformed || frame.is_null() {
                continue;
            }
            let messages = frame.as_array().cloned().unwrap_or(vec![frame.clone()]);
            for message in messages {
                let of = message["type"].as_str().unwrap_or("body");
                draw(&mut lines, &format!("{from} {of}"), "", &message);
            }
        }
    }
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[test]
fn the_schema_of_the_wire_is_that_of_its_version() {
    let schema = schema();
    assert!(schema.lines().count() > 200, "{schema}");
    let hash = Sha256::digest(&schema)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    assert_eq!(
        (1, hash.as_str()),
        (protocol::VERSION, protocol::SCHEMA_HASH),
        "The wire has changed. What only adds: note it in the version history of docs/protocol.md and \
         set SCHEMA_HASH. Anything else takes a new VERSION.\n{schema}"
    );
}
