#!/usr/bin/env bash
# Proves that the model tests have teeth: breaks one promise of the source at a time, in a copy, and
# demands that the model test of it fails. Words narrow the choice: scripts/mutants.sh view floor.
source "$(dirname "$0")/env.sh"
have perl || die "needs perl"

copy=$PWD/.state/mutants/source
# Its own: cargo tells two copies of a workspace in one target folder apart by time only.
export CARGO_TARGET_DIR=$PWD/.state/mutants/target
# Cutting a history down is for people.
export MODEL_SHRINK_SECONDS=0 RUST_BACKTRACE=0
logs=$PWD/.state/mutants/logs
log=$logs/none
killed=0 survivors=()
words=("$@")
# The model test that must notice.
suite=model

rm -rf "$copy" "$logs"
mkdir -p "$copy" "$logs"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -m -C "$copy"

model() { (cd "$copy" && timeout 600 cargo test --offline --locked --quiet --test "$suite" "$@") >"$log" 2>&1; }

chosen() {
  [ ${#words[@]} -eq 0 ] && return 0
  local word
  for word in "${words[@]}"; do
    [[ $1 == *"$word"* ]] && return 0
  done
  return 1
}

# mutant NAME (FILE SUBSTITUTION)...: each substitution must change its file.
mutant() {
  local name=$1 files=() file began verdict
  shift
  chosen "$name" || return 0
  while [ $# -gt 0 ]; do
    file=$1
    files+=("$file")
    perl -0pi -e "$2" "$copy/$file"
    ! cmp -s "$file" "$copy/$file" || die "$name changes nothing in $file"
    shift 2
  done
  began=$SECONDS
  log=$logs/${name//[^a-z]/-}
  if ! model --no-run; then
    cat "$log" >&2
    die "$name does not compile"
  fi
  if model; then
    verdict=SURVIVED
    survivors+=("$name")
  elif grep -q '^history .* fails' "$log"; then
    verdict=killed
    killed=$((killed + 1))
  else
    cat "$log" >&2
    die "$name: the model test ended for another reason"
  fi
  printf '%-8s  %3d s  %-40s %s\n' "$verdict" $((SECONDS - began)) "$name" "${files[*]}"
  for file in "${files[@]}"; do
    cp "$file" "$copy/$file"
  done
}

say "The model tests without a mutant"
for suite in model_sources model; do
  model || { cat "$log" >&2; die "$suite fails by itself"; }
done

say "Mutants"
e=src/engine
# Who may see what.
mutant "no audience check: pages" $e/page.rs 's/let visible = row\.audience\(\)\.sees\(topics\)/let visible = true/'
mutant "no audience check: live" src/hub.rs 's/let Audience::Topics\(topics\) = audience else/let Audience::Topics(topics) = \&Audience::All else/'
mutant "no move-in" $e/fanout.rs 's/\(Sight::Gained, gained\),//'
mutant "no move-out: live" $e/fanout.rs 's/!among\(&kept, conn\)/false/'
mutant "no move-out: away" $e/change.rs 's/lost\.narrow\([^;]*;//'
mutant "no move-out: away, from everyone" src/audience.rs 's/lost\(EVERYONE\) \|\| //'
mutant "no loss at rebirth" $e/change.rs 's/if let Some\(row\) = &held/if let Some(row) = held.as_ref().filter(|row| row.data.is_some())/'
mutant "a whole row hides who lost the one before" src/store/rows.rs 's/ AND rows\.lost IS NULL//'
mutant "a whole row hides that it moves" src/store/rows.rs 's/rows\.audience IS excluded\.audience AND //'
mutant "no delete for a writer out of sight" $e/mutate.rs 's/if live && !change/if false && live && !change/'
mutant "a write may leave where it must not" $e/draft.rs 's/if !scope\.leave/if false && !scope.leave/'
mutant "a hidden row is found" $e/draft.rs 's/let visible = live\.filter\([^;]*;/let visible = live;/'
mutant "a hidden row is overwritten" $e/draft.rs 's/if taken\.is_some_and\(/if false \&\& taken.is_some_and(/'
mutant "a write opens a narrowed row" $e/draft.rs 's/kept\.unwrap_or\((Audience::All)\)/$1/'
mutant "a replay shows a hidden row" $e/mutate.rs 's/let visible = held\.filter\([^;]*;/let visible = held;/'
mutant "no view check" $e/subscribe.rs 's/same_view && same_eyes\(cursor\)/same_eyes(cursor)/'
mutant "other topics are not used" $e/renew.rs 's/session\.grant = renewal\.grant/session.grant.expires_at = renewal.grant.expires_at/'
mutant "other topics bring no rows" $e/renew.rs 's/if saw != sees/if saw \&\& !sees/'
mutant "other topics take no rows" $e/renew.rs 's/if saw != sees/if !saw \&\& sees/'
mutant "refused tokens connect" $e/renew.rs 's/if refused_until/if false \&\& refused_until/'
mutant "removed topics come back" $e/renew.rs 's/grant\.topics\.without\(removed\)/grant.topics.clone()/'
mutant "no expiry before send" src/engine.rs 's/self\.expire\(now\);//'
# Nothing lost.
mutant "no tombstones" $e/page.rs 's/\(true, true\) => row\.seq\(\) > began/(true, true) => false/'
mutant "no epoch check" $e/subscribe.rs 's/cursor\.epoch == \*self\.store\.epoch\(\) && //'
mutant "no future check" $e/subscribe.rs 's/let of_the_past = [^;]*;/let of_the_past = true;/'
mutant "no floor check" $e/subscribe.rs 's/ \|\| began < self\.store\.floor\(channel\)\?\.seq//'
mutant "no floor by trimming" src/store/retain.rs 's/self\.raise_floor\(channel, found\.floor\)\?/self.raise_floor(channel, Floor::default())?/'
mutant "no floor by a reset" $e/call.rs 's/store\.raise_floor\(channel, Floor \{ seq, at \}\)\?/store.raise_floor(channel, Floor { seq: Seq(0), at })?/'
mutant "pages forget where they began" $e/page.rs 's/page: Some\(page\)/page: None/'
mutant "live before the last page" $e/subscribe.rs 's/false => self\.hub\.pause\([^;]*?\),\n/false => self.hub.subscribe(conn, \&message.channel, Subscription::default()),\n/'
mutant "no crash mark" src/engine.rs 's/if !interrupted && /if /'
mutant "subscriptions do not outlive sleep" $e/subscribe.rs 's/self\.dirty\.push\(conn\);//'
# Nothing twice, nothing half.
mutant "no deduplication" $e/mutate.rs 's/(outcome\(owner, message\.id\.as_str\(\)\)\?)/$1.filter(|_| false)/'
mutant "no deduplication, nothing remembered" $e/mutate.rs 's/store\.put_outcome\([^;]*;//'
mutant "an id with other content is repeated" $e/mutate.rs 's/if outcome\.hash != hash/if false/'
mutant "outcomes end with the day" src/store/outcomes.rs 's/let is_yesterdays = /let is_yesterdays = false \&\& /'
mutant "no idempotency" $e/call.rs 's/(outcome\(once\.owner, once\.key\.as_str\(\)\)\?)/$1.filter(|_| false)/'
mutant "no idempotency, nothing remembered" $e/call.rs 's/store\.put_outcome\([^;]*;//'
mutant "a key with another body is repeated" $e/call.rs 's/if outcome\.hash != self\.hash/if false/'
mutant "an echo" $e/mutate.rs 's/tell_others\(&change, Some\(conn\), /tell_others(\&change, None, /'
mutant "a failed transaction is committed" src/store.rs 's/Err\(_\) => Err\(SqlError\("rolled back"\.to_owned\(\)\)\)/Err(_) => Ok(())/'
mutant "a failed transaction stays in memory" src/store.rs 's/if result\.is_err\(\)/if false/'
# Events.
mutant "events: an edit keeps nothing of before" $e/change.rs 's/if before\.is_some\(\)/if false/'
mutant "events: a whole one is written as a row" $e/change.rs 's/rule\.keep == Keep::Latest && rule/rule/'
mutant "events: a move is told as an edit" $e/change.rs 's/let moved = before\.filter\([^;]*;/let moved: Option<\&Audience> = None;/'
mutant "events: hidden states on pages" $e/page.rs 's/let sees = row\.audience\(\)\.sees\(topics\)/let sees = true/'
mutant "events: a full page tells of what is gone" $e/page.rs 's/if !there && /if false \&\& !there \&\& /'
mutant "events: the key of a deleted one is free" $e/draft.rs 's/events \|\| row\.data\.is_some\(\)/row.data.is_some()/'
mutant "events: the key of one is free to publishers" $e/publish.rs 's/\(Action::Create, Some\(_\)\) => Err\(used\(\)\)/(Action::Create, Some(_)) => Ok(())/'
mutant "events: no floor by trimming" src/store/events.rs 's/self\.raise_trimmed\(channel, floor\)\n/Ok(())\n/'
mutant "events: trimming overtakes a paged answer" $e/subscribe.rs 's/if cursor\.page\.is_some\(\) && /if false \&\& /'
mutant "events: trimmed too early" src/store/events.rs 's/checked_sub\(u64::from\(count\)\)/checked_sub(u64::from(count) - 1)/'
mutant "events: not trimmed by writes" $e/change.rs 's/is_crowded\(event\.nth, rule\.retain\)/false/'
mutant "events: not trimmed by count in time" $e/change.rs 's/store\.sweep_by\(at\.plus\(limits::SWEEP_PAUSE_MS\)\)\?;//'
mutant "events: not trimmed by age" $e/change.rs 's/store\.sweep_by\(at\.plus\(age\)\)\?;/let _ = age;/'
mutant "events: what edits replaced outlives the trim" src/store/events.rs 's/self\.exec\("DELETE FROM versions WHERE channel = \? AND seq <= \?", &upto\)\?;//'
# Who is here.
mutant "whoever goes does not leave" src/engine.rs 's/self\.note_gone\(conn, &session\);\s+Some/Some/'
mutant "presence does not outlive sleep" src/session.rs 's/presence: self\.places\(\)/presence: Vec::new()/'
mutant "presence ends with the first page" src/hub.rs 's/if session\.presence\.contains_key\(channel\)/if false/'
mutant "presence outlives the right to it" $e/renew.rs 's/(session\.paused\.keys\(\)\.filter\(\|channel\| )!may_read\(channel\)/$1false \&\& !may_read(channel)/'
mutant "presence without a subscription" src/session.rs 's/(fn holds[^{]*\{)[^}]*\}/$1 true }/'
mutant "whoever moves is told of itself" $e/presence.rs 's/told\.conn != mover/true/'
mutant "who came and went is told" $e/presence.rs 's/\(None, Some\(_\)\) => JOINED/(_, Some(_)) => JOINED/'
mutant "a signal comes back" $e/presence.rs 's/others\.retain\([^;]*;//'
# Numbers and times.
mutant "seqs come again after trimming" src/store/retain.rs 's/self\.put_meta\("head"[^;]*;//' src/store/schema.rs 's/newest_floor\(sql\)\?\]/(Seq(0), Millis(0))]/'
mutant "the clock of rows runs back" src/store.rs 's/self\.log\.clock = self\.log\.clock\.max\(now\)/self.log.clock = now/'

# Rows that live elsewhere.
suite=model_sources
mutant "sources: the log says nothing newer" $e/fetch.rs 's/let start = Start \{\s*after: head,/let start = Start {\n                after: self.store.head(),/'
mutant "sources: live although behind" $e/fetch.rs 's/if snapshot\.more \|\| self\.is_up_to_date\(channel, head\)\?/if true/'
mutant "sources: what has changed outside is not asked for" $e/fetch.rs 's/if seq >= outside\.seq/if true/'
mutant "sources: everyone asks" $e/fetch.rs 's/return Ok\(Plan::Log\);\s*\};\s*let Some\(since\)/return Ok(all);\n        };\n        let Some(since)/'
mutant "sources: answers for other eyes" $e/fetch.rs 's/ && pending\.view == self\.view\(&session\.grant\)//'
mutant "sources: live past a change outside" $e/call.rs 's/self\.hub\.pause\(\*conn, channel, pass\);/let _ = pass;/'
mutant "sources: no claim" $e/ask.rs 's/let claimed = self\s*\.store\s*\.claim\([^;]*;/let claimed = Ok::<_, crate::store::SqlError>(()); let _ = write;/'
mutant "sources: a crash forgets writes under way" src/store/source.rs 's/if channels\.is_empty\(\)/if true/'
mutant "sources: nobody is told of it on waking" $e/source_write.rs 's/for channel in &unsettled/for channel in unsettled.iter().take(0)/'
mutant "sources: a second loss of memory hides the first" src/store/source.rs 's/Ok::<_, SqlError>\(\(\)\)(\s*\}\)\?;\s*Ok\(channels\))/store.exec("DELETE FROM claims", \&[])$1/'
mutant "sources: lost writes are not noted" $e/source_write.rs 's/if failed\.may_be_done \{/if false {/'
mutant "sources: what storage could not note is forgotten" $e/source_write.rs 's/self\.unnoted\.push\(\(writing\.channel\.clone\(\), writing\.once\(\)\)\);//'
mutant "sources: two writes of a row at once" $e/ask.rs 's/row\.len\(\) == 1/true/'
mutant "sources: a repeat beside itself" $e/source_write.rs 's/if self\.asking\.ids\.contains_key\(&once\)/if false/'
mutant "sources: races with the app are settled by arrival" $e/source_write.rs 's/let is_raced =\s*[^;]*;/let is_raced = false;/'
mutant "sources: unknown audiences are not told" $e/source_write.rs 's/(written\.repeated, now\)\?;\s*return Ok\(\(done, )false/$1true/'
mutant "sources: the log knows best who could see a row" $e/source_write.rs 's/let is_old = [^;]*;/let is_old = false;/'

# The copy is as it was: no mutant is killed by what another one left behind.
log=$logs/none
for suite in model_sources model; do
  model || { cat "$log" >&2; die "$suite fails after the last mutant"; }
done

echo
say "$killed killed, ${#survivors[@]} survived"
[ ${#survivors[@]} -eq 0 ] || die "survivors: $(IFS=,; echo "${survivors[*]}")"
[ $killed -gt 0 ] || die "no mutant has this name"
