//! Hashes: the content of a request, and the view that stands for who may see what.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::audience::Topics;
use crate::names::{Identity, Topic};

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map(char::from);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

/// What [`hex`] wrote.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// The digest of a request's parts: 128 bits, enough to tell a repeat from other content.
pub(crate) fn content(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(hash.finalize().get(..16).unwrap_or_default())
}

/// The view: a keyed hash of an identity with its topics. A cursor that comes back with another
/// view resumes nothing, because other rows were in sight when it was given.
pub(crate) fn view(key: &str, identity: Option<&Identity>, topics: &Topics) -> String {
    let mut parts = vec![identity.map_or("", Identity::as_str)];
    parts.extend(topics.iter().map(Topic::as_str));
    keyed(key, &parts)
}

/// A keyed hash of some parts: what stands for them where they must not be readable.
pub(crate) fn keyed(key: &str, parts: &[&str]) -> String {
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_bytes()) else {
        return String::new(); // HMAC takes keys of any length.
    };
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    hex(mac.finalize().into_bytes().get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(content(&["ab", "c"]), content(&["a", "bc"]));
        assert_eq!(content(&["ab", "c"]), content(&["ab", "c"]));
        assert_eq!(content(&[]).len(), 32);
    }

    #[test]
    fn a_view_depends_on_key_identity_and_topics() {
        let alice = Identity::parse("alice").unwrap();
        let topics = |granted: &[&str]| Topics::granted(Some(&alice), granted.iter().copied());
        let one = view("k", Some(&alice), &topics(&["a"]).unwrap());
        assert_eq!(one, view("k", Some(&alice), &topics(&["a"]).unwrap()));
        assert_ne!(one, view("k", Some(&alice), &topics(&["a", "b"]).unwrap()));
        assert_ne!(one, view("l", Some(&alice), &topics(&["a"]).unwrap()));
        assert_ne!(one, view("k", None, &topics(&["a"]).unwrap()));
        assert_eq!(one.len(), 16);
    }
}
