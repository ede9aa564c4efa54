//! Health: who fails is found and left alone, who is left alone deserves it and is tried again, and enough are left.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll::core::Health;
use plimsoll::observe::{Model, Pod, Rank};

use super::{Family, Found, Look, Rule};
use crate::plan::Plan;
use crate::world::World;

/// What one node is judged by must have had time to happen: it was well for so long.
const WELL: Duration = Duration::from_secs(1);
/// Rows of failures: so many, while the others served so many, and so long ago.
const OTHERS: u64 = 20;
const FOUND: Duration = Duration::from_millis(500);
/// After its time is over, somebody who was left alone is tried.
const TRIED: Duration = Duration::from_secs(1);
/// Pods are asked which models they have at most 7.5 s apart.
const ASKED: Duration = Duration::from_secs(10);
/// A pod that hangs: the question takes a second, and there is another to find that it must be asked.
const HANGS: Duration = Duration::from_secs(2);
/// Most is looked at twice a second; what cannot be reached any more is seen at the next tick, so a breach must last for two looks.
const EVERY: u64 = 5;
const LASTS: u32 = 1;

pub(super) struct Looks {
    failures: u32,
    /// By node and model, or node and pod: for how many looks something has been wrong.
    few_left: BTreeMap<(usize, usize), u32>,
    hung: BTreeMap<(usize, usize), u32>,
}

impl Looks {
    pub(super) fn new(plan: &Plan) -> Looks {
        Looks { failures: plan.world.failures, few_left: BTreeMap::new(), hung: BTreeMap::new() }
    }
}

impl Family for Looks {
    fn look(&mut self, look: &Look, world: &World, found: &mut Found) {
        let well = |n: &usize| world.node_is_well(*n) && look.now.since(look.weather.node_well_since(*n)) > WELL;
        for n in world.live().into_iter().filter(well) {
            self.hung(world, n, found);
            if !look.number.is_multiple_of(EVERY) {
                continue;
            }
            for model in world.core(n).picker().models().iter().skip(1) {
                let Some(m) = world.model_called(model.name()) else { continue };
                self.enough_are_left(world, (n, m), model, found);
                back(look, world, (n, m), model, found);
            }
            self.sick(world, n, found);
            tried_again(world, n, found);
        }
    }
}

/// The pods of `model` on node `n`: left to pick from, and all that have it as far as the node knows.
fn left(world: &World, n: usize, model: &Model, but: Option<usize>) -> (usize, usize) {
    let (mut left, mut all) = (0, 0);
    world.each_pod(n, |k, pod| {
        let rank = pod.rank(model);
        if serves(pod, model) && rank != Rank::Lacking {
            all += 1;
            left += usize::from(rank < Rank::Failing && !pod.is_ejected() && Some(k) != but);
        }
    });
    (left, all)
}

fn serves(pod: &Pod, model: &Model) -> bool {
    let models = &pod.spec().models;
    models.is_empty() || models.iter().any(|m| m == model.name())
}

fn is_enough(left: usize, all: usize) -> bool {
    left as f64 >= Health::default().panic_share * all as f64
}

/// Since when nothing was wrong with pod `k`.
fn well_for(look: &Look, k: usize) -> Duration {
    look.now.since(look.weather.pod_well_since(k))
}

/// A model that is loaded is known to be.
fn back(look: &Look, world: &World, (n, m): (usize, usize), model: &Model, found: &mut Found) {
    let node_well_for = look.now.since(look.weather.node_well_since(n));
    world.each_pod(n, |k, pod| {
        if pod.rank(model) == Rank::Lacking && world.pod_is_itself(k) && world.has_model(k, m) {
            let known = well_for(look, k).min(node_well_for);
            found.judge(Rule::ModelBack, Some(n), Some(k), known <= ASKED, || {
                format!("expected model {m} to be known there, as it is for {known:?}; got it thought missing")
            });
        }
    });
}

fn tried_again(world: &World, n: usize, found: &mut Found) {
    let (now, models) = (world.local(n), world.core(n).picker().models());
    for ((k, m), until) in world.out_until(n) {
        let model = models.iter().find(|model| world.model_called(model.name()) == Some(m));
        let Some(model) = model.filter(|_| until < now) else { continue };
        world.each_pod(n, |other, pod| {
            if other == k {
                let late = now.since(until);
                let out = pod.rank(model) == Rank::Failing && late > TRIED;
                found.judge(Rule::TriedAgain, Some(n), Some(k), !out, || {
                    format!(
                        "expected it to be tried again for model {m}, as that was due {late:?} ago; got it left alone"
                    )
                });
            }
        });
    }
}

impl Looks {
    fn enough_are_left(&mut self, world: &World, (n, m): (usize, usize), model: &Model, found: &mut Found) {
        let mut failing = false;
        world.each_pod(n, |_, pod| failing |= serves(pod, model) && pod.rank(model) == Rank::Failing);
        let looks = self.few_left.entry((n, m)).or_default();
        if !failing {
            *looks = 0;
        } else {
            let (left, all) = left(world, n, model, None);
            *looks = if is_enough(left, all) { 0 } else { *looks + 1 };
            found.judge(Rule::Panic, Some(n), None, *looks <= LASTS, || {
                format!("expected half of the pods of model {m} to be left, or all to be picked; got {left} of {all}")
            });
        }
    }

    fn sick(&self, world: &World, n: usize, found: &mut Found) {
        let (models, least) = (world.core(n).picker().models(), u64::from(self.failures));
        for sick in world.sick(n) {
            let row = least > 0 && sick.streak >= least && sick.since >= FOUND;
            let alone = row && sick.others_served >= OTHERS && sick.others_failed == 0;
            let model = models.iter().find(|model| world.model_called(model.name()) == Some(sick.model));
            let Some(model) = model.filter(|_| alone) else { continue };
            let mut out = true;
            world.each_pod(n, |k, pod| {
                if k == sick.pod {
                    out = pod.is_ejected() || pod.rank(model) >= Rank::Failing || pod.is_on_trial(model);
                }
            });
            let (left, all) = left(world, n, model, Some(sick.pod));
            let holds = out || !is_enough(left, all);
            found.judge(Rule::SickFound, Some(n), Some(sick.pod), holds, || {
                let (streak, m) = (sick.streak, sick.model);
                format!(
                    "expected it to be left alone for model {m}, of which it failed {streak} in a row; got it picked"
                )
            });
        }
    }

    fn hung(&mut self, world: &World, n: usize, found: &mut Found) {
        let pods = world.core(n).picker().pods();
        let most = |k: usize| {
            let pod = pods.iter().find(|pod| pod.name() == format!("pod-{k}"));
            pod.filter(|pod| !pod.is_ejected()).map(|pod| pod.load(0).cost_per_capacity_ms())
        };
        for k in 0..world.config().pods {
            let looks = self.hung.entry((n, k)).or_default();
            let owes = world.hung_since(k).and(world.owes_since(n, k)).and_then(|since| Some((since, most(k)?)));
            let Some((since, work_ms)) = owes else {
                *looks = 0;
                continue;
            };
            let all = Duration::from_secs_f64(f64::from(work_ms) / 1e3 * 1.01).max(Duration::from_secs(1));
            // Clocks run fast or slow, and what is there changes.
            let overdue = world.now().since(since) > all + all / 10;
            *looks = if overdue { *looks + 1 } else { 0 };
            let most = (HANGS.as_millis() / 100) as u32;
            found.judge(Rule::HungFound, Some(n), Some(k), *looks <= most, || {
                format!("expected it to be out, as it hangs and owes an answer since {since:?}; got it picked")
            });
        }
    }
}
