//! Cursors: "I have everything of this channel that I may see, up to here", as text.

use std::fmt;
use std::rc::Rc;

use crate::digest;
use crate::limits;
use crate::names::{Channel, Seq};

/// The identity of a space's log, new whenever the log is lost, restored or imported.
/// 1–16 characters of `[a-z0-9]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(Rc<str>);

impl Epoch {
    /// Accepts `[a-z0-9]{1,16}`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        ((1..=16).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// The epoch as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A position in the log of one space. Clients keep the text and return it as it is.
///
/// Written `epoch.seq`; inside a paged answer `epoch.seq.start.view`, so that deletions and losses
/// of all its pages are judged from where the first began, and all pages are for the same eyes. Where
/// events can be edited a seal follows: pages from there on hold what was edited and deleted since, so
/// only who has been there may say so.
///
/// Text with other parts comes from another version: its first two parts are understood, the
/// position is not, so it resumes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The log that the position lies in.
    pub epoch: Epoch,
    /// Everything up to and including this seq has been delivered.
    pub seq: Seq,
    /// The paged answer that this cursor continues.
    pub page: Option<PageOf>,
    /// Proof that it was given out for its channel, of one that can be edited.
    pub seal: Option<Seal>,
    /// Whether parts follow that this version does not know.
    pub foreign: bool,
}

/// What all pages of one answer have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOf {
    /// Where the answer began.
    pub start: Seq,
    /// The view that its first page was for.
    pub view: String,
}

/// A keyed hash of a cursor and its channel: 16 characters of hexadecimal, written after an `s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal(String);

impl Seal {
    /// The seal that a key gives a cursor, whatever seal that may have.
    pub(crate) fn of(key: &str, channel: &Channel, cursor: &Cursor) -> Self {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = cursor.write_position(&mut text);
        Self(digest::keyed(key, &["cursor", channel.as_str(), &text]))
    }

    fn parse(text: &str) -> Option<Self> {
        let hash = text.strip_prefix('s')?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (hash.len() == 16 && hash.bytes().all(hex)).then(|| Self(hash.to_owned()))
    }
}

impl Cursor {
    /// The cursor of a live channel, or of the last page.
    #[must_use]
    pub fn at(epoch: &Epoch, seq: Seq) -> Self {
        Self {
            epoch: epoch.clone(),
            seq,
            page: None,
            seal: None,
            foreign: false,
        }
    }

    /// Reads a cursor that a client returned; `None` if the text is no cursor at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > limits::ID_BYTES {
            return None;
        }
        let mut parts = text.splitn(3, '.');
        let epoch = Epoch::parse(parts.next()?)?;
        let seq = number(parts.next()?)?;
        let rest = parts.next();
        let (rest, seal) = rest.map_or((None, None), split_seal);
        let page = rest.and_then(|rest| {
            let (start, view) = rest.split_once('.')?;
            Some(PageOf {
                start: number(start)?,
                view: (!view.contains('.')).then(|| view.to_owned())?,
            })
        });
        let foreign = rest.is_some() && page.is_none();
        Some(Self {
            epoch,
            seq,
            seal: seal.filter(|_| !foreign),
            foreign,
            page,
        })
    }

    fn write_position(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "{}.{}", self.epoch.as_str(), self.seq)?;
        match &self.page {
            Some(page) => write!(out, ".{}.{}", page.start, page.view),
            None => Ok(()),
        }
    }

    /// From where deletions, losses and the floor are judged.
    #[must_use]
    pub fn began(&self) -> Seq {
        self.page.as_ref().map_or(self.seq, |page| page.start)
    }
}

/// What comes before a seal, and the seal, of what follows a cursor's seq.
fn split_seal(rest: &str) -> (Option<&str>, Option<Seal>) {
    let (before, last) = match rest.rsplit_once('.') {
        Some((before, last)) => (Some(before), last),
        None => (None, rest),
    };
    match Seal::parse(last) {
        Some(seal) => (before, Some(seal)),
        None => (Some(rest), None),
    }
}

/// A plain decimal below 2^53, as [`Seq`] writes it.
fn number(text: &str) -> Option<Seq> {
    let plain = text == "0" || !text.starts_with('0');
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = (plain && digits).then(|| text.parse().ok())??;
    (number <= limits::SAFE_INTEGER).then_some(Seq(number))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_position(f)?;
        match &self.seal {
            Some(Seal(hash)) => write!(f, ".s{hash}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_as_they_were_written() {
        for text in [
            "k3j9x2.0",
            "k3j9x2.1523",
            "a.9007199254740991",
            "a.7.3.9f3a",
            "a.7.s0123456789abcdef",
            "a.7.3.9f3a.s0123456789abcdef",
        ] {
            let cursor = Cursor::parse(text).unwrap();
            assert_eq!(cursor.to_string(), text);
            assert!(!cursor.foreign);
        }
        assert_eq!(Cursor::parse("a.7.3.9f3a").unwrap().began(), Seq(3));
        assert_eq!(Cursor::parse("a.7").unwrap().began(), Seq(7));
    }

    #[test]
    fn text_that_is_no_cursor_is_none() {
        for text in [
            "",
            ".",
            "a",
            "a.",
            ".1",
            "A.1",
            "a.-1",
            "a.+1",
            "a.01",
            "a.1e3",
            "a.x",
            "a 1",
            "a.9007199254740992",
            "aaaaaaaaaaaaaaaaa.1",
            "é.1",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_newer_servers_cursor_is_foreign() {
        for text in [
            "a.1.2",
            "a.1.x.9f3a",
            "a.1.2.9f3a.4",
            "a.1.page-token",
            "a.1.s0123456789abcde",
            "a.1.s0123456789abcdef.2",
            "a.1..s0123456789abcdef",
            "a.1.0:.s9007199254740991",
        ] {
            let cursor = Cursor::parse(text).unwrap();
            assert!(
                cursor.foreign && text.starts_with(&cursor.to_string()),
                "{text}"
            );
        }
    }
}
