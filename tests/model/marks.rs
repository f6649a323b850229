//! Keys and values that are told apart wherever they turn up.

use std::collections::BTreeSet;

/// The marks in a text: keys and values of rows, which are unique in all spaces together.
pub(crate) fn marks(text: &str, kind: &str) -> BTreeSet<String> {
    let ends = |c: char| !(c == '~' || c.is_ascii_alphanumeric());
    text.match_indices(kind)
        .map(|(at, _)| text[at..].split(ends).next().unwrap().to_owned())
        .collect()
}
