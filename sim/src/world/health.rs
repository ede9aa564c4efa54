//! The health of pods as the product's driver looks after it, and what is known of it for the checkers: which models pods fail or
//! do not have, and what each node has seen of that.
//!
//! What the driver asks (whether a pod lives, which models it has ready) is asked here, by the product's own schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plimsoll::core::Event;
use plimsoll::observe::{Because, Ejection, Pod, Rank};
use plimsoll::pick::{Looks, Outcome, Readmission, Ticket};
use plimsoll::time::Time;

use super::ask::{Answer, End, Key, pod_index};
use super::{Happening, World};
use crate::check::Rule;
use crate::rng::hash;

/// What is wrong with a pod's models.
#[derive(Default)]
pub(super) struct Models {
    /// Models whose requests fail, each after so long.
    pub(super) holes: BTreeMap<usize, Duration>,
    pub(super) unloaded: BTreeSet<usize>,
}

impl Models {
    pub(super) fn are_well(&self) -> bool {
        self.holes.is_empty() && self.unloaded.is_empty()
    }
}

/// What one node saw of pods and their models: the ledger that its core is held against.
#[derive(Default)]
pub(super) struct Seen {
    /// By pod and model.
    models: BTreeMap<(usize, usize), Ends>,
    /// By pod: since when it owes an answer.
    owes_since: BTreeMap<usize, Time>,
    /// When it looked last whether any does.
    asked_at: Time,
    /// Pods that are being asked whether they live.
    asking: BTreeSet<usize>,
    /// By pod: when its gauge was read last.
    pub(super) gauges: BTreeMap<usize, Time>,
    /// Pods that are to be asked which models they have.
    looking: BTreeSet<usize>,
    /// By pod and model: until when its core said that it leaves the pod alone.
    pub(super) out_until: BTreeMap<(usize, usize), Time>,
}

/// How requests of one model ended on one pod.
#[derive(Clone, Copy, Default)]
struct Ends {
    served: u64,
    failed: u64,
    /// In a row.
    streak: u64,
    /// When the last of them failed, and what the others had served and failed when the first had.
    failed_at: Time,
    others: (u64, u64),
}

/// A pod that fails a model on one node, as that node should see it.
pub(crate) struct Sick {
    pub(crate) pod: usize,
    pub(crate) model: usize,
    pub(crate) streak: u64,
    /// Since the last failure.
    pub(crate) since: Duration,
    /// What the others did meanwhile.
    pub(crate) others_served: u64,
    pub(crate) others_failed: u64,
}

impl Seen {
    fn others(&self, (pod, model): (usize, usize)) -> (u64, u64) {
        let others = self.models.iter().filter(|((k, m), _)| *k != pod && *m == model);
        others.fold((0, 0), |(served, failed), (_, ends)| (served + ends.served, failed + ends.failed))
    }

    /// A request was sent to pod `k`.
    pub(super) fn sent(&mut self, k: usize, now: Time) {
        self.owes_since.entry(k).or_insert(now);
    }

    /// One ended there, and so many are left.
    fn ended(&mut self, (k, m): (usize, usize), now: Time, outcome: Outcome, left: u32) {
        if outcome == Outcome::Cancelled {
            return;
        }
        self.owes_since.remove(&k);
        if left > 0 {
            self.owes_since.insert(k, now);
        }
        let others = self.others((k, m));
        let ends = self.models.entry((k, m)).or_default();
        match outcome {
            Outcome::Served => (ends.served, ends.streak) = (ends.served + 1, 0),
            Outcome::Failed => {
                if ends.streak == 0 {
                    ends.others = others;
                }
                (ends.failed, ends.streak, ends.failed_at) = (ends.failed + 1, ends.streak + 1, now);
            }
            _ => {}
        }
    }

    /// Pod `k` is another from now on, or was out of reach.
    pub(super) fn forget(&mut self, k: usize) {
        self.models.iter_mut().filter(|((pod, _), _)| *pod == k).for_each(|(_, ends)| ends.streak = 0);
        self.owes_since.remove(&k);
        self.out_until.retain(|(pod, _), _| *pod != k);
    }
}

impl World {
    /// Which of the models `m` is.
    fn model_index(&self, name: &str) -> Option<usize> {
        (0..self.config.clients.models).find(|m| self.model_name(*m) == name)
    }

    /// Node `n`'s ticket ended so.
    pub(super) fn saw_end(&mut self, n: usize, k: usize, ticket: &Ticket, outcome: Outcome) {
        let (now, left) = (self.now, ticket.pod().own_in_flight().saturating_sub(1));
        if let Some(m) = self.model_index(ticket.model().name()) {
            self.nodes[n].seen.ended((k, m), now, outcome, left);
        }
    }

    /// A fit pod is picked before one that is not, as far as any can be reached.
    pub(super) fn check_rank(&mut self, key: Key, n: usize, k: usize, ticket: &Ticket) {
        let (model, pod) = (ticket.model().clone(), ticket.pod().clone());
        let rank = pod.rank(&model);
        self.marks.add(Rule::LeftAlone, 1);
        if rank == Rank::Fit {
            return;
        }
        let pods = self.core(n).picker().pods();
        let Some(tried) = self.asked(key).map(|asked| asked.tried.clone()) else { return };
        let serves = |p: &Pod| p.spec().models.is_empty() || p.spec().models.iter().any(|m| m == model.name());
        let better =
            pods.iter().find(|p| serves(p) && !p.is_ejected() && !tried.contains(&p.id()) && p.rank(&model) < rank);
        let better = better.map(|pod| format!("{}, which is {:?},", pod.name(), pod.rank(&model)));
        self.judge(Rule::LeftAlone, Some(n), Some(k), better.is_none(), || {
            format!("expected {} to be picked; got one that is {rank:?}", better.unwrap_or_default())
        });
    }

    /// What is tried has one request in flight, where most of the pods are not tried.
    pub(super) fn check_trial(&mut self, key: Key, n: usize, k: usize, ticket: &Ticket) {
        let (model, pod) = (ticket.model().clone(), ticket.pod().clone());
        let all_used = self.config.subset == 0 || self.config.subset >= self.config.pods;
        if !pod.is_on_trial(&model) || pod.rank(&model) != Rank::Fit || !all_used {
            return;
        }
        let Some(tried) = self.asked(key).map(|asked| asked.tried.clone()) else { return };
        let serves = |p: &Pod| p.spec().models.is_empty() || p.spec().models.iter().any(|m| m == model.name());
        let (mut all, mut absent) = (0, 0);
        for p in self.core(n).picker().pods().iter() {
            if serves(p) && !p.is_ejected() && !tried.contains(&p.id()) && p.rank(&model) == Rank::Fit {
                all += 1;
                absent += usize::from(p.is_on_trial(&model) || p.start_share() < 1.0);
            }
        }
        let in_flight = pod.own_in_flight_of(&model);
        self.judge(Rule::OneAtATime, Some(n), Some(k), in_flight <= 1 || 2 * absent > all, || {
            format!("expected one request of the model in flight, as it is on trial; got {in_flight}")
        });
    }

    /// The pod refused a request because it does not have the model: as the product's forwarder does, it is noted, and another
    /// pod picked where that is worth it.
    pub(super) fn lacks(&mut self, key: Key) {
        let Some(asked) = self.asked(key) else { return };
        let (n, k, m, news_before) = (asked.node, asked.pod, asked.model, asked.news);
        let (model, now) = (self.model_name(m), self.local(n));
        let picker = self.core(n).picker().clone();
        let pod = picker.pods().iter().find(|pod| pod_index(pod.name()) == k).cloned();
        let news = news_before | pod.is_some_and(|pod| picker.set_available(now, pod.id(), &model, false));
        if news {
            self.look_soon(n, k);
        }
        self.asked(key).into_iter().for_each(|asked| asked.news = news);
        self.release(key, Outcome::Refused);
        if news || picker.may_be_served(now, &model) {
            self.try_once(key);
        } else {
            self.check_nobody_has(key);
            self.end(key, End::Refused, Duration::ZERO);
        }
    }

    /// A request is given up because nobody has its model: right only if that is so, as far as the node can know.
    fn check_nobody_has(&mut self, key: Key) {
        let Some(asked) = self.asked(key) else { return };
        let (n, m) = (asked.node, asked.model);
        let known = self.nodes[n].known.clone();
        let settled = |k: usize| self.tally.moved_at(k).is_none_or(|at| self.now.since(at) > KNOWN_BY_ASKING);
        let has = |k: &usize| {
            let pod = &self.pods[*k];
            let serves = pod.models.is_empty() || pod.models.contains(&self.model_name(m));
            known[*k] == Some(pod.incarnation) && pod.up && !pod.hung && serves && !pod.ills.unloaded.contains(&m)
        };
        let missed = (0..self.pods.len()).filter(has).find(|k| settled(*k));
        let well = self.node_is_well(n);
        self.judge(Rule::ModelFound, Some(n), missed, missed.is_none() || !well, || {
            format!("expected the request to find model {m}, which is there; got it given up")
        });
    }

    /// Node `n` asks pod `k` soon which models it has, as the product does where something changed.
    fn look_soon(&mut self, n: usize, k: usize) {
        if !self.nodes[n].seen.looking.insert(k) {
            return;
        }
        let every = plimsoll::core::Health::default().interval;
        let mut looks = Box::new(Looks::new(hash(&[self.config.seed, 16, n as u64, k as u64]), every));
        looks.hurry();
        let (pause, life) = (looks.next_pause(), self.nodes[n].life);
        self.later(pause, Happening::Look { node: n as u32, life, pod: k as u32, looks });
    }

    pub(super) fn look(&mut self, n: usize, life: u32, k: usize, mut looks: Box<Looks>) {
        if !self.is(n, life) {
            return;
        }
        let pods = self.core(n).picker().pods();
        let pod = pods.iter().find(|pod| pod_index(pod.name()) == k);
        let Some(pod) = pod.filter(|pod| pod.lacks().next().is_some()) else {
            self.nodes[n].seen.looking.remove(&k);
            return;
        };
        if self.pods[k].up && !self.pods[k].hung && !self.nodes[n].paused {
            let now = self.local(n);
            let unloaded: BTreeSet<String> = self.pods[k].ills.unloaded.iter().map(|m| self.model_name(*m)).collect();
            let news = self.core(n).picker().set_all_available(now, pod, |m| Some(!unloaded.contains(m.name())));
            if news > 0 {
                self.note("models", [n as u64, k as u64, news as u64]);
                looks.hurry();
            }
        }
        let pause = looks.next_pause();
        self.later(pause, Happening::Look { node: n as u32, life, pod: k as u32, looks });
    }

    /// Node `n` asks those of its pods that owe an answer whether they live.
    pub(super) fn ask_who_owes(&mut self, n: usize) {
        let now = self.local(n);
        if now.since(self.nodes[n].seen.asked_at) < ASK_EVERY {
            return;
        }
        self.nodes[n].seen.asked_at = now;
        let pods = self.core(n).picker().pods();
        for pod in pods.iter().filter(|pod| !pod.is_ejected() && pod.is_overdue(now)) {
            let k = pod_index(pod.name());
            if !self.nodes[n].seen.asking.insert(k) {
                continue;
            }
            let hop = Duration::from_micros(2 * self.config.hop_us);
            let after = if self.pods[k].hung { Readmission::ANSWER } else { hop };
            let life = self.nodes[n].life;
            self.later(after, Happening::Lives { node: n as u32, life, pod: k as u32, asked: now });
        }
    }

    /// Pod `k` has answered node `n` whether it lives, or has not.
    pub(super) fn lives(&mut self, n: usize, life: u32, k: usize, asked: Time) {
        if !self.is(n, life) {
            return;
        }
        if self.nodes[n].paused {
            let again = Happening::Lives { node: n as u32, life, pod: k as u32, asked };
            return self.nodes[n].inbox.push(again);
        }
        self.nodes[n].seen.asking.remove(&k);
        let (now, pods) = (self.local(n), self.core(n).picker().pods());
        let Some(pod) = pods.iter().find(|pod| pod_index(pod.name()) == k).cloned() else { return };
        match (self.pods[k].up, self.pods[k].hung) {
            (true, false) => {
                pod.heard(now);
                let left = pod.own_in_flight();
                let world_now = self.now;
                self.nodes[n].seen.owes_since.remove(&k);
                if left > 0 {
                    self.nodes[n].seen.owes_since.insert(k, world_now);
                }
            }
            (true, true) if pod.heard_at() > asked => {}
            (true, true) => self.eject_pod(n, k, &pod, Because::Hangs),
            (false, _) => self.eject_pod(n, k, &pod, Because::Unreachable),
        }
    }

    /// Node `n` takes pod `k` out, and asks from time to time whether it is back.
    pub(super) fn eject_pod(&mut self, n: usize, k: usize, pod: &Pod, because: Because) {
        if pod.eject_because(because) != Ejection::Now {
            return;
        }
        self.nodes[n].seen.forget(k);
        let life = self.nodes[n].life;
        let mut schedule = Box::new(Readmission::new(hash(&[self.config.seed, 13, n as u64, k as u64])));
        let after = schedule.next_pause();
        self.note("eject", [n as u64, k as u64, 0]);
        self.later(after, Happening::Probe { node: n as u32, life, pod: k as u32, schedule });
    }

    /// Node `n`'s core says that it leaves a pod alone for a model, or does so no more.
    pub(super) fn heed(&mut self, n: usize, event: &Event) {
        match event {
            Event::ModelEjected { pod, model, because, span } => {
                let (k, now) = (pod_index(pod), self.local(n));
                let Some(m) = self.model_index(model) else { return };
                let again = self.nodes[n].seen.out_until.insert((k, m), now + *span).is_some();
                self.note("alone", [n as u64, k as u64, m as u64]);
                self.check_just(n, (k, m), *because, again);
            }
            Event::ModelReadmitted { pod, model } => {
                let k = pod_index(pod);
                let Some(m) = self.model_index(model) else { return };
                let seen = &mut self.nodes[n].seen;
                // Kept with the time gone by: it is out once more after one failure.
                seen.models.entry((k, m)).or_default().streak = 0;
                self.note("tried", [n as u64, k as u64, m as u64]);
            }
            _ => {}
        }
    }

    /// A pod was left alone for a model: right only if it failed it, and others did better.
    fn check_just(&mut self, n: usize, (k, m): (usize, usize), because: Because, again: bool) {
        let seen = &self.nodes[n].seen;
        let ends = seen.models.get(&(k, m)).copied().unwrap_or_default();
        let others = seen.others((k, m));
        let (served, failed) = (others.0 - ends.others.0.min(others.0), others.1 - ends.others.1.min(others.1));
        let just = match because {
            // It was tried, and failed once more: what the others did is known from before.
            Because::FailsInARow if again => ends.streak >= 1,
            // Others that fail, too, may be out already.
            Because::FailsInARow => ends.streak >= u64::from(self.config.failures) && served > 0,
            _ => ends.failed >= 2 && others.0 > 0,
        };
        self.judge(Rule::Just, Some(n), Some(k), just, || {
            let streak = ends.streak;
            format!(
                "expected a pod that fails model {m} while others serve it to be left alone ({because:?}); got one that failed \
                 {streak} in a row, while others served {served} and failed {failed}"
            )
        });
    }

    /// The pods that fail models in a row on node `n`.
    pub(crate) fn sick(&self, n: usize) -> Vec<Sick> {
        let seen = &self.nodes[n].seen;
        let failing = seen.models.iter().filter(|(_, ends)| ends.streak > 0);
        let sick = |(key, ends): (&(usize, usize), &Ends)| {
            let (served, failed) = seen.others(*key);
            Sick {
                pod: key.0,
                model: key.1,
                streak: ends.streak,
                since: self.now.since(ends.failed_at),
                others_served: served - ends.others.0,
                others_failed: failed - ends.others.1,
            }
        };
        failing.map(sick).collect()
    }

    /// Until when node `n` said that it leaves pods alone for models, by its own clock.
    pub(crate) fn out_until(&self, n: usize) -> impl Iterator<Item = ((usize, usize), Time)> {
        self.nodes[n].seen.out_until.iter().map(|(key, until)| (*key, *until))
    }

    /// Since when pod `k` owes node `n` an answer.
    pub(crate) fn owes_since(&self, n: usize, k: usize) -> Option<Time> {
        self.nodes[n].seen.owes_since.get(&k).copied()
    }

    /// Since when pod `k` hangs.
    pub(crate) fn hung_since(&self, k: usize) -> Option<Time> {
        self.pods[k].hung_since
    }

    /// Whether pod `k` has model `m` loaded.
    pub(crate) fn has_model(&self, k: usize, m: usize) -> bool {
        !self.pods[k].ills.unloaded.contains(&m)
    }

    /// The model called so, by number.
    pub(crate) fn model_called(&self, name: &str) -> Option<usize> {
        self.model_index(name)
    }

    // ---- What befalls pods ----------------------------------------------------------------------------------------

    /// Pod `k` fails what is asked of it for model `m`, after `after`; or does so no more.
    pub(super) fn set_hole(&mut self, k: usize, m: usize, after: Option<Duration>) {
        let m = m % self.config.clients.models;
        self.tally.hurt(k, self.now);
        match after {
            Some(after) => self.pods[k].ills.holes.insert(m, after),
            None => self.pods[k].ills.holes.remove(&m),
        };
    }

    /// Pod `k` unloads model `m`, or has it again.
    pub(super) fn load_model(&mut self, k: usize, m: usize, loaded: bool) {
        let m = m % self.config.clients.models;
        self.tally.hurt(k, self.now);
        self.tally.moved(k, self.now);
        match loaded {
            true => self.pods[k].ills.unloaded.remove(&m),
            false => self.pods[k].ills.unloaded.insert(m),
        };
    }

    /// A process that starts has its models, and a healthy process for each.
    pub(super) fn heal_models(&mut self, k: usize) {
        if !self.pods[k].ills.are_well() {
            self.tally.hurt(k, self.now);
            self.tally.moved(k, self.now);
            self.pods[k].ills = Models::default();
        }
    }

    /// What pod `k` says to a request of model `m` before it takes it, and after how long, if it does not.
    pub(super) fn turned_down(&self, k: usize, m: usize) -> Option<(Answer, Duration)> {
        let ills = &self.pods[k].ills;
        if ills.unloaded.contains(&m) {
            return Some((Answer::NoModel, Duration::ZERO));
        }
        ills.holes.get(&m).map(|after| (Answer::Error, *after))
    }
}

/// How often a node looks whom to ask.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// So long after a model moved a node has asked everybody that lost it, whatever the pauses.
const KNOWN_BY_ASKING: Duration = Duration::from_secs(9);
