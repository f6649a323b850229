//! Export: a space page by page, while it lives on.
//!
//! The walk goes over the log as it was when it began, channel by channel, and then over what has
//! changed since, again and again, until a turn finds that nothing has: what the file says then is
//! the state at that turn. Where the walk stands travels with the pages, so that the object keeps
//! nothing in memory and may sleep, crash or be deployed between two of them.

use std::ops::ControlFlow;

use super::{Engine, Failure};
use crate::backup::{self, Checksum};
use crate::config::Publisher;
use crate::limits;
use crate::names::{Channel, Millis, Seq};
use crate::protocol::{Code, Problem};
use crate::store::Sql;

/// Where a walk stands. As text: its parts, the channel's name last.
struct At {
    epoch: String,
    /// The round is over what has changed after `since`, up to `upto`.
    since: Seq,
    upto: Seq,
    /// The channel that is being walked, empty before the first, and how far.
    channel: String,
    seq: Seq,
    lines: u64,
    checksum: String,
}

impl At {
    fn to_text(&self) -> String {
        let Self {
            epoch,
            since,
            upto,
            seq,
            lines,
            ..
        } = self;
        format!(
            "{epoch} {since} {upto} {seq} {lines} {} {}",
            self.checksum, self.channel
        )
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(7, ' ');
        let mut next = || parts.next();
        let epoch = next()?.to_owned();
        let mut number = || next()?.parse().ok();
        let [since, upto, seq, lines] = [number()?, number()?, number()?, number()?];
        let checksum = next()?.to_owned();
        let channel = next()?.to_owned();
        let [since, upto, seq] = [Seq(since), Seq(upto), Seq(seq)];
        Some(Self {
            epoch,
            since,
            upto,
            channel,
            seq,
            lines,
            checksum,
        })
    }
}

/// A page that is being written.
struct Page {
    text: String,
    lines: u64,
    checksum: Checksum,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.checksum.line(line);
        self.lines += 1;
        self.text.push_str(line);
        self.text.push('\n');
    }
}

impl<S: Sql> Engine<S> {
    /// Answers with where the walk stands after this page, empty at its end, and the page, each
    /// from its own line on.
    pub(super) fn export(&mut self, publisher: &Publisher, after: &str, now: Millis) {
        let page = self.export_page(publisher, after, now);
        let page = page.map_err(|failure| self.problem(failure));
        self.reply(page);
    }

    fn export_page(
        &self,
        publisher: &Publisher,
        after: &str,
        now: Millis,
    ) -> Result<String, Failure> {
        self.config.check_keeps(publisher)?;
        let store = &self.store;
        let (mut at, mut page) = match after {
            "" => self.begin_export(now),
            after => self.resume_export(after)?,
        };
        let mut left = limits::EXPORT_PAGE_ROWS;
        let ended = loop {
            if let Ok(channel) = Channel::parse(&at.channel) {
                let tells_deletes = at.since > Seq(0);
                store.export_rows(&channel, (at.seq, at.upto), left, &mut |row| {
                    at.seq = row.seq;
                    left -= 1;
                    // What was never told need not be taken back, but of events nothing is left out.
                    if row.data.is_some() || row.nth.is_some() || tells_deletes {
                        page.line(&backup::row(&channel, &row));
                    }
                    match page.text.len() < limits::EXPORT_PAGE_BYTES {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
            }
            left = left.saturating_sub(1);
            if left == 0 || page.text.len() >= limits::EXPORT_PAGE_BYTES {
                break false;
            }
            match store.changed_channel(&at.channel, at.since)? {
                Some(channel) => (at.channel, at.seq) = (channel.to_string(), at.since),
                None if at.upto == store.head() => break true,
                None => {
                    (at.since, at.upto) = (at.upto, store.head());
                    at.channel.clear();
                }
            }
        };
        if ended {
            for refusal in store.refusals(now)? {
                page.line(&backup::refusal(&refusal));
            }
            let end = backup::end(store.head(), store.clock(), page.lines, &page.checksum);
            return Ok(format!("\n{}{end}\n", page.text));
        }
        (at.lines, at.checksum) = (page.lines, page.checksum.put_away());
        Ok(format!("{}\n{}", at.to_text(), page.text))
    }

    fn begin_export(&self, now: Millis) -> (At, Page) {
        let epoch = self.store.epoch();
        let at = At {
            epoch: epoch.as_str().to_owned(),
            since: Seq(0),
            upto: self.store.head(),
            channel: String::new(),
            seq: Seq(0),
            lines: 0,
            checksum: String::new(),
        };
        let mut page = Page {
            text: String::new(),
            lines: 0,
            checksum: Checksum::default(),
        };
        page.line(&backup::header(&self.space, epoch, now));
        (at, page)
    }

    fn resume_export(&self, after: &str) -> Result<(At, Page), Problem> {
        let malformed = || Problem::malformed("no export stands there");
        let at = At::of_text(after).ok_or_else(malformed)?;
        if at.epoch != self.store.epoch().as_str() {
            let message = "the space was restored or imported meanwhile: export it again";
            return Err(Problem::new(Code::Conflict, message));
        }
        let page = Page {
            text: String::new(),
            lines: at.lines,
            checksum: Checksum::take_up(&at.checksum).ok_or_else(malformed)?,
        };
        Ok((at, page))
    }
}
