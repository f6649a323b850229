//! Import: the lines of an export, in pieces, into a space that holds nothing.

use super::{Engine, Failure};
use crate::backup::{self, End, Line, RowLine};
use crate::config::Publisher;
use crate::limits;
use crate::names::{Channel, Millis, Seq};
use crate::protocol::{self, Close, Code, Problem};
use crate::store::{Progress, Seed, Sql, Store, Takes};

/// A piece of an export.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// The number of its first line, from 1.
    pub(super) line: u64,
    /// Whole lines.
    pub(super) text: &'a str,
    /// Chance for the new epoch.
    pub(super) seed: Seed,
}

/// What a piece needs beside its lines.
struct Context {
    storage_bytes: u64,
    now: Millis,
}

impl<S: Sql> Engine<S> {
    /// Whether the space opens to nobody yet; whoever asks is told to come again.
    pub(super) fn is_importing(&mut self) -> bool {
        let importing = self.store.importing().is_some();
        if importing {
            self.reply(Err(Problem::new(
                Code::Unavailable,
                "the space is being imported",
            )));
        }
        importing
    }

    /// Takes a piece in. What is wrong with a line empties the space again; a failure of storage
    /// leaves it as it was before the piece.
    pub(super) fn import(&mut self, publisher: &Publisher, piece: Piece<'_>, now: Millis) {
        let done = self.import_piece(publisher, piece, now);
        let answer = done.map_err(|failure| self.problem(failure));
        self.reply(answer);
    }

    fn import_piece(
        &mut self,
        publisher: &Publisher,
        piece: Piece<'_>,
        now: Millis,
    ) -> Result<String, Failure> {
        self.config.check_keeps(publisher)?;
        if let Some(lines) = self.ended_with(piece.text)? {
            return Ok(self.import_answer(lines, true));
        }
        let mut progress = self.begin(piece.line, now)?;
        let known = progress.lines + 1 - piece.line;
        let context = Context {
            storage_bytes: self.config.limits.storage_bytes,
            now,
        };
        let done = self.store.transaction(|store| {
            let mut last = None;
            let mut end = None;
            let lines = piece
                .text
                .strip_suffix('\n')
                .unwrap_or(piece.text)
                .split('\n');
            for line in lines.skip(known as usize) {
                let number = progress.lines + 1;
                let at = |problem: Problem| Problem {
                    message: format!("line {number}: {}", problem.message).into(),
                    ..problem
                };
                if end.is_some() {
                    return Err(at(Problem::malformed("comes after the end")).into());
                }
                let taken = take(store, &context, &mut progress, &mut last, line);
                end = taken.map_err(|failure| match failure {
                    Failure::Peer(problem) => Failure::Peer(at(problem)),
                    Failure::Storage(_) | Failure::TooLarge => failure,
                })?;
            }
            match end {
                None => store.set_import(progress.clone())?,
                Some(end) => store.end_import(&end, piece.seed, now)?,
            }
            Ok::<_, Failure>(store.importing().is_none())
        });
        match done {
            Ok(ended) => Ok(self.import_answer(progress.lines, ended)),
            Err(Failure::Peer(problem)) => {
                self.store.transaction(Store::wipe)?;
                Err(problem.into())
            }
            Err(storage) => Err(storage),
        }
    }

    /// How many lines the import had that this piece has ended: whoever has lost the answer asks again.
    fn ended_with(&self, text: &str) -> Result<Option<u64>, Failure> {
        if self.store.importing().is_some() {
            return Ok(None);
        }
        let last = text.strip_suffix('\n').unwrap_or(text);
        let last = last.rsplit('\n').next().unwrap_or_default();
        Ok(match backup::read(last) {
            Ok(Line::End(end)) if self.store.imported(&end)? => Some(end.lines + 1),
            Ok(_) | Err(_) => None,
        })
    }

    fn import_answer(&self, lines: u64, ended: bool) -> String {
        protocol::object(|o| {
            o.number("lines", lines);
            if ended {
                o.text("epoch", self.store.epoch().as_str());
                o.number("seq", self.store.head().0);
            }
            o.bool("done", ended);
        })
    }

    /// How far the import is that the line belongs to. Line 1 begins one.
    fn begin(&mut self, line: u64, now: Millis) -> Result<Progress, Failure> {
        let conflict = |message: String| Failure::Peer(Problem::new(Code::Conflict, message));
        match self.store.importing() {
            _ if line == 0 => Err(Problem::invalid("line", "counts from 1").into()),
            Some(progress) if line > 1 => {
                let progress = progress.clone();
                if line > progress.lines + 1 {
                    let next = progress.lines + 1;
                    return Err(conflict(format!("the import goes on at line {next}")));
                }
                Ok(progress)
            }
            None if line > 1 => Err(conflict("no import is under way".to_owned())),
            None if !self.store.is_empty(now)? => Err(conflict(
                "the space is not empty: import into one that was never written".to_owned(),
            )),
            Some(_) | None => {
                // Whoever is connected has seen an empty space, and comes back when all is in.
                for conn in self.hub.all() {
                    self.close(conn, Close::Restart, now);
                }
                let begun = Progress::default();
                self.store.transaction(|store| {
                    store.wipe()?;
                    store.set_import(begun.clone())
                })?;
                Ok(begun)
            }
        }
    }
}

/// Writes one line. Gives the last line of an export, where it is that and all is right.
fn take<S: Sql>(
    store: &mut Store<S>,
    context: &Context,
    progress: &mut Progress,
    last: &mut Option<(Channel, Seq, Millis)>,
    text: &str,
) -> Result<Option<End>, Failure> {
    let line = backup::read(text)?;
    match (&line, progress.lines) {
        (Line::Header, 0) => {}
        (Line::Header, _) | (_, 0) => {
            let message = "the header is the first line, and no other";
            return Err(Problem::malformed(message).into());
        }
        (Line::Row(row), _) => {
            check_order(store, row, last, context.now)?;
            store.check_room(Takes::More(text.len()), context.storage_bytes)?;
            store.import_row(row)?;
        }
        (Line::Refusal(refusal), _) => {
            let most = context
                .now
                .plus(limits::REFUSAL_MS + limits::IMPORT_AHEAD_MS);
            if refusal.ends > most {
                return Err(Problem::invalid("ends", "is too far in the future").into());
            }
            store.check_room(Takes::More(text.len()), context.storage_bytes)?;
            store.import_refusal(refusal)?;
        }
        (Line::End(end), lines) => {
            if end.lines != lines {
                let message = format!("{} lines were exported, {lines} have come", end.lines);
                return Err(Problem::malformed(message).into());
            }
            if end.checksum != progress.checksum.finish() {
                let message = "the checksum is not that of the lines";
                return Err(Problem::malformed(message).into());
            }
            check_end(store, end, context.now)?;
        }
    }
    progress.lines += 1;
    progress.checksum.line(text);
    match line {
        Line::End(end) => Ok(Some(end)),
        Line::Header | Line::Row(_) | Line::Refusal(_) => Ok(None),
    }
}

/// In a channel seq and time grow together: catching up and trimming rely on it.
fn check_order<S: Sql>(
    store: &Store<S>,
    row: &RowLine<'_>,
    last: &mut Option<(Channel, Seq, Millis)>,
    now: Millis,
) -> Result<(), Failure> {
    let (seq, at) = match last {
        Some((channel, seq, at)) if *channel == row.channel => (*seq, *at),
        Some(_) | None => store.newest_of(&row.channel)?,
    };
    if row.seq <= seq {
        return Err(Problem::invalid("seq", "is not above that of the line before").into());
    }
    if row.at < at || row.at > now.plus(limits::IMPORT_AHEAD_MS) {
        return Err(Problem::invalid("at", "is before the line before, or in the future").into());
    }
    *last = Some((row.channel.clone(), row.seq, row.at));
    Ok(())
}

/// The end must not be before what came.
fn check_end<S: Sql>(store: &Store<S>, end: &End, now: Millis) -> Result<(), Failure> {
    let (seq, clock) = store.newest()?;
    if end.seq < seq || end.clock < clock {
        return Err(Problem::invalid("seq", "is not that of the newest row").into());
    }
    if end.clock > now.plus(limits::IMPORT_AHEAD_MS) {
        return Err(Problem::invalid("clock", "is in the future").into());
    }
    Ok(())
}
