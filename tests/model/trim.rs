//! What event channels keep: the engine trims when it likes, but only what it may, and in time.

use super::game::Game;
use super::oracle::{Change, Space};
use super::rules::{self, CHANNELS};
use super::step::{HOUR, MINUTE};

impl Space {
    /// What is left of a channel's changes.
    fn kept(&self, channel: &'static str) -> Vec<&Change> {
        let trimmed = self.trimmed.get(channel).copied().unwrap_or_default();
        let kept = |change: &&Change| change.channel == channel && change.seq > trimmed;
        self.log.iter().filter(kept).collect()
    }

    fn forget(&mut self, channel: &'static str, upto: u64) {
        self.trimmed.insert(channel, upto);
        self.graves
            .retain(|(of, _), (seq, _)| *of != channel || *seq > upto);
        let gone = |id: &(&'static str, String), row: &Change| id.0 == channel && row.seq <= upto;
        for (id, row) in self.rows.iter().filter(|(id, row)| gone(id, row)) {
            self.old
                .entry(id.clone())
                .or_default()
                .push(row.data.clone());
        }
        self.rows.retain(|id, row| !gone(id, row));
    }
}

/// Whether the change at a place of those that are kept is one too many, and whether it is too old.
fn bounds(
    kept: &[&Change],
    place: usize,
    (count, age): (Option<u64>, Option<u64>),
    latest: u64,
) -> (bool, bool) {
    let newer = (kept.len() - place - 1) as u64;
    let too_many = count.is_some_and(|count| newer >= count);
    let too_old = age.is_some_and(|age| kept[place].at + age <= latest);
    (too_many, too_old)
}

impl Game {
    /// The engine has let somebody create a key, in a turn in which it wrote before: where it may have trimmed the
    /// key's event over that, it has.
    pub(crate) fn note_trim_of(&mut self, s: usize, channel: &'static str, key: &str) {
        let rule = rules::rule(channel).unwrap();
        let space = &mut self.spaces[s];
        let kept = space.kept(channel);
        let Some(last) = kept.iter().rposition(|change| change.key == key) else {
            return;
        };
        let may_go = |place: usize| {
            let (too_many, too_old) = bounds(&kept, place, rule.retain, space.latest);
            too_many || too_old
        };
        if rule.events && (0..=last).all(may_go) {
            let upto = kept[last].seq;
            space.forget(channel, upto);
            self.cov.hit("keys of events trimmed in the same turn");
        }
    }

    /// Looks which events the engine holds: all but the oldest, and of these only such as are past
    /// a bound.
    pub(crate) fn note_trims(&mut self, s: usize) {
        for channel in CHANNELS {
            let rule = rules::rule(channel).unwrap();
            if !rule.events {
                continue;
            }
            let (count, _) = rule.retain;
            let both = format!(
                "(SELECT seq FROM rows WHERE channel = '{channel}'
                 UNION ALL SELECT seq FROM versions WHERE channel = '{channel}')"
            );
            let ask = |what: &str| {
                let sqlite = &self.worlds[s].sqlite;
                sqlite.number(&format!("SELECT {what} FROM {both}"))
            };
            let (held, first) = (ask("count(*)"), ask("ifnull(min(seq), 1 << 53)"));
            let space = &mut self.spaces[s];
            let kept = space.kept(channel);
            let gone = kept.iter().filter(|change| change.seq < first).count();
            assert_eq!(
                held as usize,
                kept.len() - gone,
                "{channel} from {first} on"
            );
            let latest = space.latest;
            for (place, change) in kept.iter().take(gone).enumerate() {
                let (too_many, too_old) = bounds(&kept, place, rule.retain, latest);
                assert!(too_many || too_old, "{change:?} was trimmed");
                self.cov.hit_if("events trimmed by count", !too_old);
                self.cov.hit_if("events trimmed by age", !too_many);
            }
            // A write trims where a quarter too many, or 4, have come.
            let most = count.map(|count| count + 4.max(count.div_ceil(4)));
            assert!(most.is_none_or(|most| held < most), "{held} in {channel}");
            if let Some(last) = gone.checked_sub(1) {
                let upto = kept[last].seq;
                space.forget(channel, upto);
            }
        }
    }

    /// An hour after the last event nothing is kept past its bounds.
    pub(crate) fn is_trimmed(&self, s: usize) {
        let space = &self.spaces[s];
        for channel in CHANNELS {
            let (count, age) = rules::rule(channel).unwrap().retain;
            let kept = space.kept(channel);
            let fits = count.is_none_or(|count| kept.len() as u64 <= count);
            assert!(fits, "{} are kept in {channel}", kept.len());
            let young = |at: u64| age.is_none_or(|age| at + age + HOUR + MINUTE > space.latest);
            assert!(kept.iter().all(|change| young(change.at)), "in {channel}");
        }
    }
}
