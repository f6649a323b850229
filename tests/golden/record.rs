//! Recording a family of messages, and comparing it with its file.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidewire::ConnId;

use super::meaning;
use super::world::World;

/// One family of messages while it is recorded.
pub(crate) struct Golden {
    family: &'static str,
    entries: Vec<String>,
}

impl Golden {
    pub(crate) fn of(family: &'static str) -> Self {
        Self {
            family,
            entries: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        direction: &str,
        note: &str,
        text: &str,
        meaning: Option<Value>,
    ) {
        let mut entry = format!("    \"name\": {},\n", json!(name));
        let _ = writeln!(entry, "    \"direction\": {},", json!(direction));
        let _ = writeln!(entry, "    \"note\": {},", json!(note));
        let _ = match serde_json::from_str::<&RawValue>(text) {
            Ok(frame) => write!(entry, "    \"frame\": {}", frame.get()),
            Err(_) => write!(entry, "    \"text\": {}", json!(text)),
        };
        if let Some(meaning) = meaning {
            let _ = write!(entry, ",\n    \"meaning\": {meaning}");
        }
        self.entries.push(format!("  {{\n{entry}\n  }}"));
    }

    /// Notes what a client sends; gives it back to be sent.
    pub(crate) fn client<'a>(&mut self, name: &str, note: &str, text: &'a str) -> &'a str {
        self.add(name, "client", note, text, Some(meaning::of_frame(text)));
        text
    }

    pub(crate) fn server(&mut self, name: &str, note: &str, text: &str) {
        self.add(name, "server", note, text, None);
    }

    /// Sends a client's frame and notes both it and its one answer, under the answer's name.
    pub(crate) fn ask(
        &mut self,
        w: &mut World,
        conn: ConnId,
        name: &str,
        note: &str,
        text: &str,
    ) -> Value {
        w.send_text(conn, self.client(&format!("{name}: asked"), note, text));
        let frames = w.frames(conn);
        assert_eq!(frames.len(), 1, "{frames:?}");
        self.server(name, note, &frames[0]);
        serde_json::from_str(&frames[0]).unwrap()
    }

    pub(crate) fn heard(&mut self, w: &mut World, conn: ConnId, name: &str, note: &str) {
        let frames = w.frames(conn);
        assert_eq!(frames.len(), 1, "{frames:?}");
        self.server(name, note, &frames[0]);
    }

    /// Compares the family with its file, or writes it.
    #[track_caller]
    pub(crate) fn check(self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(format!("{}.json", self.family));
        let text = format!("[\n{}\n]\n", self.entries.join(",\n"));
        let _: Vec<Value> = serde_json::from_str(&text).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            return;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let differ = golden
            .lines()
            .zip(text.lines())
            .find(|(old, new)| old != new);
        if let Some((old, new)) = differ {
            panic!(
                "{}: the wire has changed\n golden: {old}\n    now: {new}",
                self.family
            );
        }
        assert_eq!(
            golden, text,
            "{}: entries were added or removed",
            self.family
        );
    }
}
