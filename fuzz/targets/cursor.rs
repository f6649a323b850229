//! Cursors: whatever a client returns, what reads as a cursor is written as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewire::{Cursor, Epoch, limits};

fuzz_target!(|text: &str| {
    let Some(cursor) = Cursor::parse(text) else {
        return;
    };
    assert!(text.len() <= limits::CURSOR_BYTES);
    assert!(cursor.seq.0 <= limits::SAFE_INTEGER && cursor.began().0 <= limits::SAFE_INTEGER);
    assert_eq!(
        Epoch::parse(cursor.epoch.as_str()),
        Some(cursor.epoch.clone())
    );

    let written = cursor.to_string();
    let again = Cursor::parse(&written);
    if cursor.foreign {
        // Parts that this version does not know are not kept; where it ends, is.
        let again = again.unwrap();
        assert_eq!((again.epoch, again.seq), (cursor.epoch, cursor.seq));
        assert!(text.starts_with(&written));
    } else {
        assert_eq!(written, text);
        assert_eq!(again, Some(cursor));
    }
});
