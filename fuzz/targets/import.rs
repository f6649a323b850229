//! Imports: whatever lines come, the space takes all of them or none, and what it takes it exports
//! so that another space takes it and holds the same.

#![no_main]

#[path = "../../tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sha2::Digest as _;
use world::World;

const HEADER: &str = r#"{"tidewire":1,"space":"x","epoch":"abc","at":1}"#;

/// Whole files are made of the lines: the fuzzer finds no checksum.
fn file(lines: &str) -> String {
    let body = format!("{HEADER}\n{}\n", lines.trim_end_matches('\n'));
    let sum: Vec<String> = sha2::Sha256::digest(&body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let end = json!({
        "end": true, "seq": 1u64 << 40, "clock": world::BEGIN.0,
        "lines": body.matches('\n').count(), "checksum": sum.concat()
    });
    format!("{body}{end}\n")
}

/// All lines but the header and the end.
fn content(w: &mut World) -> Vec<String> {
    let file = w.export();
    let lines: Vec<String> = file.lines().map(str::to_owned).collect();
    lines[1..lines.len() - 1].to_vec()
}

fuzz_target!(|lines: &str| {
    let mut w = World::new();
    let (status, answer) = w.import(&file(lines));
    assert_eq!(w.faults, [""; 0]);
    if status != 200 {
        assert!(matches!(status, 400), "{answer}");
        assert_eq!(w.stats()["seq"], 0);
        assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
        return;
    }
    let held = content(&mut w);
    w.sleep();
    assert_eq!(content(&mut w), held);
    let mut copy = World::new();
    let (status, answer) = copy.import(&w.export());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(content(&mut copy), held);
    let alice = w.user("alice");
    for channel in ["todos", "doc:1"] {
        w.subscribe(alice, channel);
    }
});
