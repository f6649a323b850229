//! The file of an export: NDJSON, one line for each thing that a space holds.
//!
//! ```text
//! {"tidewire":1,"space":"global","epoch":"k3j9x2ab","at":1798765432000}
//! {"channel":"todos","key":"k1","seq":7,"at":1798765431000,"by":"alice","data":{"id":"k1"}}
//! {"refused":"mallory","until":1798765430000,"ends":1801357430000}
//! {"end":true,"seq":9,"clock":1798765431000,"lines":3,"checksum":"…"}
//! ```
//!
//! The checksum is the SHA-256 of all lines before the last, line ends included. Channel by
//! channel the lines are in the order of their seqs; a later line of a key replaces an earlier one.

use serde_json::value::RawValue;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256};

use crate::audience::Audience;
use crate::cursor::Epoch;
use crate::digest::{hex, unhex};
use crate::limits;
use crate::names::{Channel, Identity, Key, Millis, Seq, Space, Topic};
use crate::protocol::{Code, Fields, Problem, depth_is_bounded, object, text_of};
use crate::row;
use crate::store::{Edit, Event, Exported, StoredRow};

/// The version of the file's format.
const VERSION: u64 = 1;

/// A running checksum that can be put away between two turns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checksum(Sha256);

impl Checksum {
    /// Takes a line in, and its end.
    pub(crate) fn line(&mut self, line: &str) {
        self.0.update(line);
        self.0.update("\n");
    }

    /// The checksum of all lines so far.
    pub(crate) fn finish(&self) -> String {
        hex(&self.0.clone().finalize())
    }

    /// As text, for later.
    pub(crate) fn put_away(&self) -> String {
        hex(&self.0.serialize())
    }

    /// What [`Self::put_away`] made.
    pub(crate) fn take_up(text: &str) -> Option<Self> {
        let state = unhex(text)?;
        let state = state.as_slice().try_into().ok()?;
        Sha256::deserialize(state).ok().map(Self)
    }
}

/// One line of a file.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// The first.
    Header,
    /// A row, an event, or the end of one.
    Row(Box<RowLine<'a>>),
    /// Tokens that do not count, or do not grant a topic.
    Refusal(Refusal),
    /// The last.
    End(End),
}

/// The state of a key.
#[derive(Debug)]
pub(crate) struct RowLine<'a> {
    pub(crate) channel: Channel,
    pub(crate) key: Key,
    pub(crate) seq: Seq,
    pub(crate) at: Millis,
    pub(crate) by: Option<Identity>,
    pub(crate) audience: Audience,
    /// The row; `None` where it was deleted.
    pub(crate) data: Option<&'a str>,
    /// What it is of an event channel.
    pub(crate) event: Option<Event>,
    /// Whether an edit had replaced it already.
    pub(crate) old: bool,
}

impl RowLine<'_> {
    /// As it is stored.
    pub(crate) fn stored(&self) -> StoredRow {
        StoredRow {
            seq: self.seq,
            data: self.data.map(str::to_owned),
            audience: self.audience.clone(),
            author: self.by.as_ref().map(ToString::to_string),
            at: self.at,
            lost: Default::default(),
        }
    }
}

/// Something that tokens issued until some time do not count for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) identity: Identity,
    /// The topic that they do not grant; `None` where they do not count at all.
    pub(crate) topic: Option<Topic>,
    pub(crate) until: Millis,
    /// When this is forgotten.
    pub(crate) ends: Millis,
}

/// What the last line says.
#[derive(Debug)]
pub(crate) struct End {
    /// The seq of the newest change.
    pub(crate) seq: Seq,
    /// Its time.
    pub(crate) clock: Millis,
    /// How many lines there are before this one.
    pub(crate) lines: u64,
    pub(crate) checksum: String,
}

/// A line's fields, taken one by one.
struct Reader<'a> {
    fields: Fields<'a>,
    taken: usize,
}

impl<'a> Reader<'a> {
    /// A field that may be left out.
    fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let found = self.fields.get(name);
        self.taken += usize::from(found.is_some());
        found
    }

    /// A name, checked.
    fn opt<T: TryFrom<String>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let text = text_of(raw).and_then(|text| T::try_from(text.into_owned()).ok());
        text.map(Some)
            .ok_or_else(|| Problem::invalid(name, "is none"))
    }

    fn name<T: TryFrom<String>>(&mut self, name: &str) -> Result<T, Problem> {
        self.opt(name)?
            .ok_or_else(|| Problem::invalid(name, "is missing"))
    }

    fn opt_number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let number = raw.get().parse().ok();
        let number = number.filter(|number| *number <= limits::SAFE_INTEGER);
        number
            .map(Some)
            .ok_or_else(|| Problem::invalid(name, "is no whole number"))
    }

    fn number(&mut self, name: &str) -> Result<u64, Problem> {
        self.opt_number(name)?
            .ok_or_else(|| Problem::invalid(name, "is missing"))
    }

    fn is_true(&mut self, name: &str) -> Result<bool, Problem> {
        match self.raw(name).map(RawValue::get) {
            None => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::invalid(name, "is true, or left out")),
        }
    }

    /// Whether no field is left that nobody knows.
    fn end(&self) -> Result<(), Problem> {
        match self.fields.iter().count() == self.taken {
            true => Ok(()),
            false => Err(Problem::malformed("has a field that no export writes")),
        }
    }
}

/// Writes the first line.
pub(crate) fn header(space: &Space, epoch: &Epoch, at: Millis) -> String {
    object(|o| {
        o.number("tidewire", VERSION);
        o.text("space", space.as_str());
        o.text("epoch", epoch.as_str());
        o.number("at", at.0);
    })
}

/// Writes the state of a key.
pub(crate) fn row(channel: &Channel, row: &Exported) -> String {
    object(|o| {
        o.text("channel", channel.as_str());
        o.text("key", &row.key);
        o.number("seq", row.seq.0);
        o.number("at", row.at.0);
        if let Some(by) = &row.author {
            o.text("by", by);
        }
        if let Some(to) = &row.audience {
            o.raw("to", to);
        }
        match &row.data {
            // White space between the values of a row may be an end of line, here it must not.
            Some(data) if data.contains(['\n', '\r']) => {
                o.raw("data", &data.replace(['\n', '\r'], " "));
            }
            Some(data) => o.raw("data", data),
            None => o.raw("data", "null"),
        }
        if let Some(nth) = row.nth {
            o.number("nth", nth);
        }
        match row.edit.as_deref() {
            None => {}
            Some("") => o.bool("edit", true),
            Some(from) => o.raw("edit", from),
        }
        if row.old {
            o.bool("old", true);
        }
    })
}

/// Writes what is held against tokens.
pub(crate) fn refusal(refusal: &Refusal) -> String {
    object(|o| {
        o.text("refused", refusal.identity.as_str());
        if let Some(topic) = &refusal.topic {
            o.text("topic", topic.as_str());
        }
        o.number("until", refusal.until.0);
        o.number("ends", refusal.ends.0);
    })
}

/// Writes the last line.
pub(crate) fn end(seq: Seq, clock: Millis, lines: u64, checksum: &Checksum) -> String {
    object(|o| {
        o.bool("end", true);
        o.number("seq", seq.0);
        o.number("clock", clock.0);
        o.number("lines", lines);
        o.text("checksum", &checksum.finish());
    })
}

/// Reads a line, which may be anything. What it says is checked as far as one line can tell.
///
/// # Errors
/// `malformed` or `invalid`, and `unsupported_version` for a header of another version.
pub(crate) fn read(line: &str) -> Result<Line<'_>, Problem> {
    let malformed = || Problem::malformed("is no line of an export");
    if line.len() > limits::EXPORT_LINE_BYTES {
        return Err(Problem::malformed("is too long"));
    }
    if !depth_is_bounded(line) {
        return Err(Problem::malformed("nests too deeply"));
    }
    let fields = Fields::parse(line).map_err(|_| malformed())?;
    let mut reader = Reader { fields, taken: 0 };
    let has = |name: &str| reader.fields.get(name).is_some();
    let read = match (has("channel"), has("refused"), has("end"), has("tidewire")) {
        (true, ..) => Line::Row(Box::new(read_row(&mut reader)?)),
        (_, true, ..) => Line::Refusal(read_refusal(&mut reader)?),
        (_, _, true, _) => Line::End(read_end(&mut reader)?),
        (_, _, _, true) => read_header(&mut reader)?,
        _ => return Err(malformed()),
    };
    reader.end()?;
    Ok(read)
}

/// Nothing of it counts: the space is the one that is asked for, the epoch is new.
fn read_header(line: &mut Reader<'_>) -> Result<Line<'static>, Problem> {
    if line.number("tidewire")? != VERSION {
        let message = "is of a format that this version does not read";
        return Err(Problem::new(Code::UnsupportedVersion, message));
    }
    line.name::<Space>("space")?;
    line.number("at")?;
    let epoch: String = line.name("epoch")?;
    Epoch::parse(&epoch).ok_or_else(|| Problem::invalid("epoch", "is none"))?;
    Ok(Line::Header)
}

fn read_refusal(line: &mut Reader<'_>) -> Result<Refusal, Problem> {
    let refusal = Refusal {
        identity: line.name("refused")?,
        topic: line.opt("topic")?,
        until: Millis(line.number("until")?),
        ends: Millis(line.number("ends")?),
    };
    if refusal.until > refusal.ends {
        return Err(Problem::invalid("ends", "is before `until`"));
    }
    Ok(refusal)
}

fn read_end(line: &mut Reader<'_>) -> Result<End, Problem> {
    let is_end = line.is_true("end")?;
    let end = End {
        seq: Seq(line.number("seq")?),
        clock: Millis(line.number("clock")?),
        lines: line.number("lines")?,
        checksum: line.name("checksum")?,
    };
    if !is_end || end.seq.0 > limits::IMPORT_SEQ {
        return Err(Problem::invalid("seq", "is out of bounds"));
    }
    Ok(end)
}

fn read_row<'a>(line: &mut Reader<'a>) -> Result<RowLine<'a>, Problem> {
    let (channel, key) = (line.name("channel")?, line.name("key")?);
    let (seq, at) = (line.number("seq")?, Millis(line.number("at")?));
    if !(1..=limits::IMPORT_SEQ).contains(&seq) {
        return Err(Problem::invalid("seq", "is out of bounds"));
    }
    let (edit, old) = (line.raw("edit"), line.is_true("old")?);
    let event = match line.opt_number("nth")? {
        // Every change of a channel takes a seq.
        Some(nth) if nth == 0 || nth > seq => {
            return Err(Problem::invalid("nth", "is out of bounds"));
        }
        Some(nth) => Some(Event {
            nth,
            edit: edit.map(edit_of).transpose()?,
        }),
        None if edit.is_none() && !old => None,
        None => return Err(Problem::invalid("nth", "is missing")),
    };
    let data = line.raw("data").map(RawValue::get);
    let data = data.ok_or_else(|| Problem::invalid("data", "is missing"))?;
    let data = Some(data).filter(|data| *data != "null");
    if let Some(data) = data {
        row::check(&key, data, limits::ROW_BYTES)?;
    }
    let audience = line
        .raw("to")
        .map_or(Ok(Audience::All), Audience::from_wire)?;
    let by = line.opt("by")?;
    Ok(RowLine {
        channel,
        key,
        seq: Seq(seq),
        at,
        by,
        audience,
        data,
        event,
        old,
    })
}

fn edit_of(edit: &RawValue) -> Result<Edit, Problem> {
    match edit.get() {
        "true" => Ok(Edit::InPlace),
        _ => Audience::from_wire(edit)
            .map(Edit::From)
            .map_err(|_| Problem::invalid("edit", "must be true, \"all\" or a list of topics")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_goes_on_where_it_was_put_away() {
        let mut whole = Checksum::default();
        let mut parts = Checksum::default();
        for line in ["a", "", "long ".repeat(50).as_str(), "ü"] {
            whole.line(line);
            parts.line(line);
            parts = Checksum::take_up(&parts.put_away()).unwrap();
        }
        assert_eq!(whole.finish(), parts.finish());
        let mut known = Checksum::default();
        known.line("abc");
        // printf 'abc\n' | sha256sum
        let sum = "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb";
        assert_eq!(known.finish(), sum);
        for bad in ["", "zz", &"0".repeat(206), &"0".repeat(210)] {
            assert!(Checksum::take_up(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_no_export_writes_is_refused() {
        for line in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"end":false,"seq":1,"clock":1,"lines":1,"checksum":""}"#,
            r#"{"end":true,"seq":4503599627370497,"clock":1,"lines":1,"checksum":""}"#,
            r#"{"tidewire":1,"space":"Global","epoch":"a","at":1}"#,
            r#"{"tidewire":1,"space":"global","epoch":"A","at":1}"#,
            r#"{"tidewire":1,"space":"global","epoch":"a","at":1,"more":1}"#,
            r#"{"channel":"c","key":"k","seq":0,"at":1,"data":{"id":"k"}}"#,
            r#"{"channel":"c","key":"k","seq":4503599627370497,"at":1,"data":{"id":"k"}}"#,
            r#"{"channel":"c","key":"k","seq":1.5,"at":1,"data":{"id":"k"}}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":-1,"data":{"id":"k"}}"#,
            r#"{"channel":"","key":"k","seq":1,"at":1,"data":{"id":"k"}}"#,
            r#"{"channel":"c","key":"","seq":1,"at":1,"data":{"id":""}}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":{"id":"l"}}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":{}}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":[]}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":{"id":"k","a":1,"a":2}}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":{"id":"k","__proto__":1}}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"to":[],"data":null}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"to":"some","data":null}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"by":"","data":null}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null,"nth":2}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null,"nth":0}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null,"edit":true}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null,"old":true}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null,"nth":1,"edit":1}"#,
            r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null,"lost":{}}"#,
            r#"{"refused":"","until":1,"ends":2}"#,
            r#"{"refused":"a","until":3,"ends":2}"#,
            r#"{"refused":"a","until":1,"ends":9007199254740992}"#,
            r#"{"refused":"a","topic":"all","until":1,"ends":2}"#,
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        let other = read(r#"{"tidewire":2,"space":"global","epoch":"a","at":1}"#).unwrap_err();
        assert_eq!(other.code, Code::UnsupportedVersion);
    }

    #[test]
    fn lines_are_read_up_to_their_bound() {
        let line = |bytes: usize| {
            let line = r#"{"channel":"c","key":"k","seq":1,"at":1,"data":null}"#;
            format!("{line}{}", " ".repeat(bytes - line.len()))
        };
        assert!(read(&line(limits::EXPORT_LINE_BYTES)).is_ok());
        let long = read(&line(limits::EXPORT_LINE_BYTES + 1)).unwrap_err();
        assert_eq!(long.message, "is too long");
    }
}
