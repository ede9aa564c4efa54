//! Shrinking: from a failing plan to a small one that still breaks the same rule.
//!
//! Nothing clever: take something away, play what is left, and keep it if it still fails. Faults go first (ddmin, Zeller
//! and Hildebrandt 2002), because most of a swarm's have nothing to do with the failure; then time, nodes, pods, options
//! and durations, and round again until nothing more can go. The fate of everything that stays is its own (see
//! `crate::rng`), so that taking one fault out does not draw the rest anew; taking a node out does, and is tried from
//! several sides.

mod fewer;
mod options;

use crate::fault::Fault;
use crate::plan::{Plan, Planned};
use crate::world::Failure;

/// What came of shrinking.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// The smallest plan that was found.
    pub plan: Plan,
    /// How it fails.
    pub failure: Failure,
    /// Runs it took.
    pub runs: usize,
}

/// Plays a plan: how it fails, if it does.
type Play<'a> = dyn FnMut(&Plan) -> Option<Failure> + 'a;

/// Shrinks `plan` in at most `budget` runs, telling `step` what was taken away; none if it does not fail.
pub fn shrink(
    plan: &Plan,
    budget: usize,
    play: &mut Play<'_>,
    step: &mut dyn FnMut(&str, &Plan, usize),
) -> Option<Shrunk> {
    let failure = play(plan)?;
    let mut search = Search { best: plan.clone(), failure, runs: 1, budget, play, step };
    loop {
        let before = search.best.clone();
        search.end_early();
        search.drop_faults();
        search.start_late();
        search.drop_nodes();
        search.drop_pods();
        search.reset_options();
        search.weaken_faults();
        if search.best == before || search.runs >= search.budget {
            break;
        }
    }
    Some(Shrunk { plan: search.best, failure: search.failure, runs: search.runs })
}

struct Search<'a, 'b> {
    best: Plan,
    failure: Failure,
    runs: usize,
    budget: usize,
    play: &'a mut Play<'b>,
    step: &'a mut dyn FnMut(&str, &Plan, usize),
}

impl Search<'_, '_> {
    /// Keeps `plan` if it breaks the same rule.
    fn try_plan(&mut self, what: &str, plan: Plan) -> bool {
        if plan == self.best || self.runs >= self.budget || plan.world.check().is_err() {
            return false;
        }
        self.runs += 1;
        match (self.play)(&plan) {
            Some(failure) if failure.checker == self.failure.checker => {
                (self.best, self.failure) = (plan, failure);
                (self.step)(what, &self.best, self.runs);
                true
            }
            _ => false,
        }
    }

    /// What comes after the failure has no part in it.
    fn end_early(&mut self) {
        let end_ms = self.failure.at.as_nanos() / 1_000_000 + 1;
        let mut plan = self.best.until(end_ms);
        plan.faults.retain(|planned| planned.at_ms < plan.ask_ms);
        self.try_plan("what comes later", plan);
    }

    /// What comes before the first fault, and what forms before that.
    fn start_late(&mut self) {
        if let Some(first) = self.best.faults.first().map(|planned| planned.at_ms).filter(|first| *first > 0) {
            let mut plan = self.best.clone();
            plan.ask_ms -= first.min(plan.ask_ms);
            plan.faults.iter_mut().for_each(|planned| planned.at_ms -= first);
            self.try_plan("the time before the first fault", plan);
        }
        for part in [0, 2] {
            let mut plan = self.best.clone();
            plan.form_ms = plan.form_ms.checked_div(part).unwrap_or(0);
            self.try_plan("some of the forming", plan);
        }
        for part in [4, 2] {
            let mut plan = self.best.clone();
            plan.ask_ms -= plan.ask_ms / part;
            plan.faults.retain(|planned| planned.at_ms < plan.ask_ms);
            self.try_plan("some of the asking", plan);
        }
    }

    fn drop_faults(&mut self) {
        let faults = self.best.faults.clone();
        self.minimise("faults", faults, |plan, faults: &[Planned]| {
            plan.faults = faults.to_vec();
            true
        });
    }

    fn drop_nodes(&mut self) {
        let nodes = (0..self.best.world.nodes).collect();
        let before = self.best.clone();
        self.minimise("nodes", nodes, |plan, kept| fewer::nodes(&before, plan, kept));
    }

    fn drop_pods(&mut self) {
        let pods = (0..self.best.world.pods).collect();
        let before = self.best.clone();
        self.minimise("pods", pods, |plan, kept| fewer::pods(&before, plan, kept));
    }

    /// ddmin: takes ever smaller parts of `items` out, as long as `with` makes a plan of what is left.
    fn minimise<T: Clone>(&mut self, what: &str, mut items: Vec<T>, with: impl Fn(&mut Plan, &[T]) -> bool) {
        let mut part = items.len();
        while part > 0 {
            let mut from = items.len();
            // From the back: what is drawn for those in front stays as it was.
            while from > 0 {
                let start = from.saturating_sub(part);
                let left = [&items[..start], &items[from..]].concat();
                let mut plan = self.best.clone();
                if with(&mut plan, &left) && self.try_plan(what, plan) {
                    items = left;
                }
                from = start.min(items.len());
            }
            part /= 2;
        }
    }

    fn reset_options(&mut self) {
        for (what, reset) in options::ALL {
            let mut plan = self.best.clone();
            reset(&mut plan.world);
            self.try_plan(what, plan);
        }
        let mut plan = self.best.clone();
        plan.ending.nodes.clear();
        plan.ending.pods.clear();
        self.try_plan("who stays dead in the end", plan);
    }

    fn weaken_faults(&mut self) {
        for k in 0..self.best.faults.len() {
            while let Some(weaker) = fewer::weaker(&self.best.faults[k].fault) {
                let mut plan = self.best.clone();
                plan.faults[k].fault = weaker;
                if !self.try_plan("half of a fault", plan) {
                    break;
                }
            }
        }
    }
}

/// What a plan still has, in a few words.
pub fn size(plan: &Plan) -> String {
    let kinds: std::collections::BTreeSet<&str> =
        plan.faults.iter().map(|planned| Fault::kind(&planned.fault)).collect();
    let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
    let named = if kinds.is_empty() { String::new() } else { format!(" ({kinds})") };
    format!(
        "{} nodes, {} pods, {} faults{named}, {:.1} s",
        plan.world.nodes,
        plan.world.pods,
        plan.faults.len(),
        plan.lasts_ms() as f64 / 1e3
    )
}

#[cfg(test)]
mod tests;
