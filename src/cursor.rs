//! Cursors: "I have everything of this channel that I may see, up to here", as text.

use std::fmt;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::digest;
use crate::limits;
use crate::names::{Channel, Millis, Seq};
use crate::source::AskId;

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
/// only who has been there may say so. Between two pages of a channel whose rows live elsewhere it is
/// `epoch.seq.start.view.place.seal`: the place holds the source's own token, which nobody else may make.
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
    /// Where the channel's source goes on, before the log does.
    pub place: Option<Place>,
}

/// Where a source goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The time that the source was asked for changes since.
    pub since: Option<Millis>,
    /// Where its next page begins.
    pub at: At,
}

/// Where the next page of a source begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// At its beginning.
    Begin,
    /// Where the source itself said.
    Token(String),
    /// In the midst of an answer that did not fit a page: after so many of its rows.
    Leftover(AskId, usize),
}

impl Place {
    fn to_text(&self) -> String {
        let since = self
            .since
            .map_or("-".to_owned(), |since| since.0.to_string());
        let text = match &self.at {
            At::Begin => format!("{since}:b"),
            At::Token(token) => format!("{since}:t{token}"),
            At::Leftover(AskId(ask), rows) => format!("{since}:r{ask}-{rows}"),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (since, at) = text.split_once(':')?;
        let since = match since {
            "-" => None,
            since => Some(Millis(number(since)?.0)),
        };
        let at = match (at.get(..1)?, at.get(1..)?) {
            ("b", "") => At::Begin,
            ("t", token) => At::Token(token.to_owned()),
            ("r", place) => {
                let (ask, rows) = place.split_once('-')?;
                At::Leftover(
                    AskId(number(ask)?.0),
                    usize::try_from(number(rows)?.0).ok()?,
                )
            }
            _ => return None,
        };
        Some(Self { since, at })
    }
}

impl PageOf {
    fn parse(rest: &str) -> Option<Self> {
        let mut parts = rest.split('.');
        let page = Self {
            start: number(parts.next()?)?,
            view: parts.next()?.to_owned(),
            place: match parts.next() {
                None => None,
                Some(place) => Some(Place::parse(place.strip_prefix('t')?)?),
            },
        };
        parts.next().is_none().then_some(page)
    }
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
        if text.len() > limits::CURSOR_BYTES {
            return None;
        }
        let mut parts = text.splitn(3, '.');
        let epoch = Epoch::parse(parts.next()?)?;
        let seq = number(parts.next()?)?;
        let rest = parts.next();
        let (rest, seal) = rest.map_or((None, None), split_seal);
        let page = rest.and_then(PageOf::parse);
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
            Some(page) => {
                write!(out, ".{}.{}", page.start, page.view)?;
                match &page.place {
                    Some(place) => write!(out, ".t{}", place.to_text()),
                    None => Ok(()),
                }
            }
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
    fn a_place_in_a_source_reads_back_as_it_was_written() {
        for since in [None, Some(Millis(1_780_790_400_000))] {
            for at in [
                At::Begin,
                At::Token(String::new()),
                At::Token("b:.s0123456789abcdef ü".to_owned()),
                At::Token("x".repeat(limits::SOURCE_TOKEN_BYTES)),
                At::Leftover(AskId(limits::SAFE_INTEGER), 7),
            ] {
                let page = PageOf {
                    start: Seq(limits::SAFE_INTEGER),
                    view: "0123456789abcdef".to_owned(),
                    place: Some(Place { since, at }),
                };
                let epoch = Epoch::parse("abcdefghijklmnop").unwrap();
                let mut cursor = Cursor {
                    page: Some(page),
                    ..Cursor::at(&epoch, Seq(limits::SAFE_INTEGER))
                };
                cursor.seal = Some(Seal("0123456789abcdef".to_owned()));
                let text = cursor.to_string();
                assert_eq!(Cursor::parse(&text), Some(cursor), "{text}");
                assert!(text.len() <= limits::CURSOR_BYTES);
            }
        }
    }

    #[test]
    fn a_place_that_nobody_wrote_is_foreign() {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for place in [
            "", ":", "-:", "-:x", "-:b1", "01:b", "-:r1", "-:r1-", "-:r01-1", "-:r1-1-1",
        ] {
            let cursor = Cursor::parse(&format!("a.1.1.v.t{}", encode(place))).unwrap();
            assert!(cursor.foreign, "{place}");
        }
        assert!(Cursor::parse("a.1.1.v.t*").unwrap().foreign);
        assert!(Cursor::parse("a.1.1.v.tLTpi.x").unwrap().foreign);
        let longest = format!("a.1.{}", "x".repeat(limits::CURSOR_BYTES - 4));
        assert!(Cursor::parse(&longest).is_some());
        assert_eq!(Cursor::parse(&format!("{longest}x")), None);
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
