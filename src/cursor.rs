//! Cursors: "I have everything of this channel that I may see, up to here", as text.

use std::fmt;
use std::rc::Rc;

use crate::limits;
use crate::names::Seq;

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
/// of all its pages are judged from where the first began, and all pages are for the same eyes.
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

impl Cursor {
    /// The cursor of a live channel, or of the last page.
    #[must_use]
    pub fn at(epoch: &Epoch, seq: Seq) -> Self {
        Self {
            epoch: epoch.clone(),
            seq,
            page: None,
            foreign: false,
        }
    }

    /// Reads a cursor that a client returned; `None` if the text is no cursor at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > limits::ID_BYTES {
            return None;
        }
        let mut parts = text.split('.');
        let epoch = Epoch::parse(parts.next()?)?;
        let seq = number(parts.next()?)?;
        let (start, view) = (parts.next(), parts.next());
        let page = start
            .and_then(number)
            .zip(view)
            .map(|(start, view)| PageOf {
                start,
                view: view.to_owned(),
            });
        Some(Self {
            epoch,
            seq,
            foreign: (start.is_some() && page.is_none()) || parts.next().is_some(),
            page,
        })
    }

    /// From where deletions, losses and the floor are judged.
    #[must_use]
    pub fn began(&self) -> Seq {
        self.page.as_ref().map_or(self.seq, |page| page.start)
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
        write!(f, "{}.{}", self.epoch.as_str(), self.seq)?;
        match &self.page {
            Some(page) => write!(f, ".{}.{}", page.start, page.view),
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
        for text in ["a.1.2", "a.1.x.9f3a", "a.1.2.9f3a.4", "a.1.page-token"] {
            assert!(Cursor::parse(text).unwrap().foreign, "{text}");
        }
    }
}
