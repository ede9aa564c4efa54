//! Giving members their scores: ZADD and ZINCRBY.

use super::set::{Limits, SortedSet};
use crate::args::{Refusal, float, is, not_a_float, refusal, syntax};
use crate::command::{Args, Context};
use crate::live::LiveSet;
use crate::reply::Reply;

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
struct Rules {
    /// Only new members (NX).
    only_new: bool,
    /// Only members that are there (XX).
    only_known: bool,
    /// Only upwards, where the member is there (GT).
    only_up: bool,
    /// Only downwards, where the member is there (LT).
    only_down: bool,
    /// The score is added to the one that is there (INCR).
    adds: bool,
    /// Count members whose score changed, too (CH).
    counts_changed: bool,
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    added: usize,
    changed: usize,
    /// The score that the last member has now, unless the rules left it out.
    last: Option<f64>,
}

pub(super) fn zadd(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    add(context, args, Rules::default())
}

pub(super) fn zincrby(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    add(context, args, Rules { adds: true, ..Rules::default() })
}

fn add(context: &mut Context<'_>, args: Args<'_>, rules: Rules) -> Result<Reply, Reply> {
    let key = args[1];
    let (rules, pairs) = rules.parse(&args[2..])?;
    let pairs = pairs.chunks_exact(2).map(|pair| Ok((pair[1], float(pair[0]).ok_or_else(not_a_float)?)));
    let pairs: Vec<(&[u8], f64)> = pairs.collect::<Result<_, Refusal>>()?;
    let client = context.client.id;
    let mut tally = Tally::default();
    if let Some(live) = context.engine.live_at(context.client.db, key) {
        let done = pairs.into_iter().try_for_each(|pair| add_live(live, client, rules, pair, &mut tally));
        if tally.added + tally.changed > 0 {
            context.changed(key);
            context.ready(key);
        }
        done?;
    } else {
        add_stored(context, key, rules, &pairs, &mut tally)?;
    }
    Ok(match rules {
        Rules { adds: true, .. } => tally.last.map_or(Reply::Null, Reply::Double),
        Rules { counts_changed: true, .. } => Reply::count(tally.added + tally.changed),
        _ => Reply::count(tally.added),
    })
}

fn add_stored(
    context: &mut Context<'_>,
    key: &[u8],
    rules: Rules,
    pairs: &[(&[u8], f64)],
    tally: &mut Tally,
) -> Result<(), Reply> {
    let limits = Limits::from(&context.engine.settings);
    if let Some(set) = context.find_mut::<SortedSet>(key)? {
        add_all(set, rules, pairs, limits, tally)?;
        if tally.added + tally.changed > 0 {
            context.changed(key);
        }
    } else if !rules.only_known {
        let mut set = SortedSet::default();
        add_all(&mut set, rules, pairs, limits, tally)?;
        context.put(key, set, None);
        context.ready(key);
    }
    Ok(())
}

/// Can fail at the first pair only: INCR, which alone may come to NaN, takes no more than one.
fn add_all(
    set: &mut SortedSet,
    rules: Rules,
    pairs: &[(&[u8], f64)],
    limits: Limits,
    tally: &mut Tally,
) -> Result<(), Reply> {
    for (member, score) in pairs {
        let old = set.score(member);
        tally.last = rules.apply(old, *score)?;
        if let Some(score) = tally.last {
            set.insert(member, score, limits);
            tally.count(old, score);
        }
    }
    Ok(())
}

/// Pairs before one that the live set does not take are done: each is a change of its own there.
fn add_live(
    live: &mut dyn LiveSet,
    client: u64,
    rules: Rules,
    (member, score): (&[u8], f64),
    tally: &mut Tally,
) -> Result<(), Reply> {
    let is_plain = !(rules.only_new || rules.only_known || rules.only_up || rules.only_down);
    if rules.adds && is_plain {
        // A caller's charge: the sum alone is asked for, so that nothing is looked up before.
        tally.last = Some(live.add(client, member, score)?);
        tally.changed += 1;
        return Ok(());
    }
    let old = live.score(member);
    tally.last = rules.apply(old, score)?;
    match tally.last {
        Some(_) if rules.adds => tally.last = Some(live.add(client, member, score)?),
        Some(score) if old != Some(score) => live.set(client, member, score)?,
        Some(_) | None => {}
    }
    if let Some(score) = tally.last {
        tally.count(old, score);
    }
    Ok(())
}

impl Tally {
    fn count(&mut self, old: Option<f64>, score: f64) {
        match old {
            None => self.added += 1,
            Some(old) if old != score => self.changed += 1,
            Some(_) => {}
        }
    }
}

impl Rules {
    /// The options that stand before the pairs, and the pairs.
    fn parse<'a>(mut self, args: &'a [&'a [u8]]) -> Result<(Rules, &'a [&'a [u8]]), Refusal> {
        let mut pairs = args;
        while let [option, rest @ ..] = pairs {
            match option {
                option if is(option, "nx") => self.only_new = true,
                option if is(option, "xx") => self.only_known = true,
                option if is(option, "gt") => self.only_up = true,
                option if is(option, "lt") => self.only_down = true,
                option if is(option, "ch") => self.counts_changed = true,
                option if is(option, "incr") => self.adds = true,
                _ => break,
            }
            pairs = rest;
        }
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(syntax());
        }
        if self.only_new && self.only_known {
            return Err(refusal("ERR XX and NX options at the same time are not compatible"));
        }
        if [self.only_new, self.only_up, self.only_down].into_iter().filter(|is_set| *is_set).count() > 1 {
            return Err(refusal("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.adds && pairs.len() > 2 {
            return Err(refusal("ERR INCR option supports a single increment-element pair"));
        }
        Ok((self, pairs))
    }

    /// The score that a member which has `old` gets for `score`; none where it is left alone.
    fn apply(self, old: Option<f64>, score: f64) -> Result<Option<f64>, Refusal> {
        let Some(old) = old else { return Ok((!self.only_known).then_some(score)) };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.adds { old + score } else { score };
        if score.is_nan() {
            return Err(refusal("ERR resulting score is not a number (NaN)"));
        }
        let is_wrong_way = self.only_down && score >= old || self.only_up && score <= old;
        Ok((!is_wrong_way).then_some(score))
    }
}
