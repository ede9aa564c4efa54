//! Several sorted sets, or sets, as one: ZUNION, ZINTER, ZDIFF and their kin.

use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;

use super::listed;
use super::ranges::store;
use super::set::{Limits, SortedSet};
use super::view::order;
use crate::args::{Refusal, at_least, float, integer, is, refusal, syntax, wrong_type};
use crate::command::{Args, Context};
use crate::reply::Reply;
use crate::value::{Shared, Value};

/// What is made of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Union,
    Inter,
    Diff,
    /// How many the intersection has.
    InterCount,
}

/// What becomes of the scores of one member.
#[derive(Clone, Copy, Debug)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

/// A command's arguments.
struct Plan<'a> {
    op: Op,
    keys: Args<'a>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Counting stops there; never, at 0.
    limit: usize,
}

/// The result on its way, members in the order in which they were found.
type Scores = IndexMap<Shared, f64, DefaultHashBuilder>;

pub(super) fn zunion(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Op::Union)
}

pub(super) fn zinter(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Op::Inter)
}

pub(super) fn zdiff(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Op::Diff)
}

pub(super) fn zunionstore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    keep(context, args, Op::Union)
}

pub(super) fn zinterstore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    keep(context, args, Op::Inter)
}

pub(super) fn zdiffstore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    keep(context, args, Op::Diff)
}

pub(super) fn zintercard(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let plan = Plan::parse(context, args, 1, Op::InterCount)?;
    Ok(Reply::count(plan.run(context).len()))
}

fn show(context: &mut Context<'_>, args: Args<'_>, op: Op) -> Result<Reply, Reply> {
    let plan = Plan::parse(context, args, 1, op)?;
    let mut pairs: Vec<(Shared, f64)> = plan.run(context).into_iter().collect();
    pairs.sort_unstable_by(|one, other| order((&one.0, one.1), (&other.0, other.1)));
    let pairs = pairs.iter().map(|(member, score)| (member.to_vec(), *score));
    Ok(listed(pairs, plan.with_scores, context.client.protocol))
}

fn keep(context: &mut Context<'_>, args: Args<'_>, op: Op) -> Result<Reply, Reply> {
    let plan = Plan::parse(context, args, 2, op)?;
    let scores = plan.run(context);
    let pairs = scores.iter().map(|(member, score)| (member.clone(), *score));
    let set = SortedSet::of(pairs, Limits::from(&context.engine.settings));
    Ok(store(context, args[1], set))
}

impl<'a> Plan<'a> {
    /// What stands in `args` from the number of keys, at `at`, on. The keys are known to hold what can be combined.
    fn parse(context: &mut Context<'_>, args: Args<'a>, at: usize, op: Op) -> Result<Plan<'a>, Refusal> {
        let count = integer(args[at])?;
        if count < 1 {
            let command = args[0].to_ascii_lowercase();
            let command = String::from_utf8_lossy(&command);
            return Err(refusal(format!("ERR at least 1 input key is needed for '{command}' command")));
        }
        let rest = &args[at + 1..];
        let (keys, options) =
            usize::try_from(count).ok().and_then(|count| rest.split_at_checked(count)).ok_or_else(syntax)?;
        for key in keys {
            match context.get(key).map(|entry| &entry.value) {
                None | Some(Value::ZSet(_) | Value::Set(_)) => {}
                Some(_) => return Err(wrong_type()),
            }
        }
        let weights = vec![1.0; keys.len()];
        let mut plan = Plan { op, keys, weights, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        plan.read_options(options, at == 2)?;
        Ok(plan)
    }

    fn read_options(&mut self, mut options: Args<'a>, is_store: bool) -> Result<(), Refusal> {
        let is_weighted = matches!(self.op, Op::Union | Op::Inter);
        while let [option, rest @ ..] = options {
            options = match rest {
                _ if is(option, "weights") && is_weighted && rest.len() >= self.keys.len() => {
                    let (weights, rest) = rest.split_at(self.keys.len());
                    let wrong = || refusal("ERR weight value is not a float");
                    self.weights = weights.iter().map(|arg| float(arg).ok_or_else(wrong)).collect::<Result<_, _>>()?;
                    rest
                }
                [aggregate, rest @ ..] if is(option, "aggregate") && is_weighted => {
                    self.aggregate = Aggregate::parse(aggregate)?;
                    rest
                }
                _ if is(option, "withscores") && !is_store && self.op != Op::InterCount => {
                    self.with_scores = true;
                    rest
                }
                [limit, rest @ ..] if is(option, "limit") && self.op == Op::InterCount => {
                    self.limit = at_least(limit, 0, "ERR LIMIT can't be negative")?;
                    rest
                }
                _ => return Err(syntax()),
            };
        }
        Ok(())
    }

    fn run(&self, context: &Context<'_>) -> Scores {
        let mut inputs: Vec<Input<'_>> = Vec::with_capacity(self.keys.len());
        for (key, weight) in self.keys.iter().zip(&self.weights) {
            inputs.push(Input { value: context.engine.look(context.client.db, key), weight: *weight });
        }
        if self.op != Op::Diff {
            // The smallest first: what is not there need not be looked for elsewhere. Sums of scores depend on the order, too.
            inputs.sort_by_key(Input::len);
        }
        match self.op {
            Op::Union => self.union(&inputs),
            Op::Inter | Op::InterCount => self.inter(&inputs),
            Op::Diff => diff(&inputs),
        }
    }

    fn union(&self, inputs: &[Input<'_>]) -> Scores {
        let mut scores = Scores::default();
        for input in inputs {
            for (member, score) in input.weighted() {
                scores.entry(member).and_modify(|sum| *sum = self.aggregate.apply(*sum, score)).or_insert(score);
            }
        }
        scores
    }

    fn inter(&self, inputs: &[Input<'_>]) -> Scores {
        let mut scores = Scores::default();
        let Some((first, others)) = inputs.split_first() else { return scores };
        for (member, score) in first.weighted() {
            let sum = others
                .iter()
                .try_fold(score, |sum, other| Some(self.aggregate.apply(sum, other.score(&member)? * other.weight)));
            if let Some(sum) = sum {
                scores.insert(member, sum);
                if scores.len() == self.limit {
                    break;
                }
            }
        }
        scores
    }
}

fn diff(inputs: &[Input<'_>]) -> Scores {
    let Some((first, others)) = inputs.split_first() else { return Scores::default() };
    first.weighted().filter(|(member, _)| !others.iter().any(|other| other.score(member).is_some())).collect()
}

impl Aggregate {
    fn parse(arg: &[u8]) -> Result<Aggregate, Refusal> {
        match arg {
            arg if is(arg, "sum") => Ok(Aggregate::Sum),
            arg if is(arg, "min") => Ok(Aggregate::Min),
            arg if is(arg, "max") => Ok(Aggregate::Max),
            _ => Err(syntax()),
        }
    }

    fn apply(self, sum: f64, score: f64) -> f64 {
        match self {
            // Infinities that cancel each other are nothing.
            Aggregate::Sum => number_or_zero(sum + score),
            Aggregate::Min if score < sum => score,
            Aggregate::Max if score > sum => score,
            Aggregate::Min | Aggregate::Max => sum,
        }
    }
}

fn number_or_zero(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number }
}

/// One input: a sorted set, a set whose members all have the score 1, or nothing.
struct Input<'a> {
    value: Option<&'a Value>,
    weight: f64,
}

impl Input<'_> {
    fn len(&self) -> usize {
        match self.value {
            Some(Value::ZSet(set)) => set.len(),
            Some(Value::Set(set)) => set.len(),
            _ => 0,
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.value? {
            Value::ZSet(set) => set.score(member),
            Value::Set(set) => set.contains(member).then_some(1.0),
            _ => None,
        }
    }

    /// Its members with their scores times its weight.
    fn weighted(&self) -> Box<dyn Iterator<Item = (Shared, f64)> + '_> {
        let weigh = |score: f64| number_or_zero(score * self.weight);
        match self.value {
            Some(Value::ZSet(set)) => {
                Box::new(set.ranks(0..set.len()).map(move |(member, score)| (member.clone(), weigh(score))))
            }
            Some(Value::Set(set)) => Box::new(set.iter().map(move |member| (Arc::from(&*member), weigh(1.0)))),
            _ => Box::new(std::iter::empty()),
        }
    }
}
