//! Passive ejection: a pod that fails a model's requests, while others serve them, is left alone for that model.
//!
//! Nobody else can tell: a Triton whose model process died calls itself ready and fails each request, for ever, and a pick that
//! looks at load alone would take it for the least loaded of all. Each node goes by how its own requests end, and holds each
//! pod against the others (see [`evidence`](super::evidence)): what fails everywhere is nobody's fault.
//!
//! A pod is let back after a while, a longer one each time, and tried with one request at a time until one is served. Nothing
//! is ever left alone so much that the rest could not bear it: where fewer than a share of a model's pods would be left, picks
//! go by load alone again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Health;
use super::evidence::{Ended, in_a_row, worse};
use crate::core::Event;
use crate::id::PodId;
use crate::mutant::{self, Mutant};
use crate::observe::{Because, Lane, ModelOut, Pod};
use crate::pick::Draw;
use crate::time::Time;

/// No pod is left alone for longer, however often it failed: it may have been mended long ago.
const MOST_OUT: Duration = Duration::from_secs(300);
/// After so long without another, an ejection counts no more.
const FORGET: Duration = Duration::from_secs(60);
/// How often shares of failures are compared, and over what: the last six stretches of this length. Longer finds what fails
/// more seldom, and holds against a pod what it did before it was mended.
const COMPARE: Duration = Duration::from_secs(1);
const STRETCH: Duration = Duration::from_secs(5);
const STRETCHES: usize = 6;

/// A model, by its index, on a pod.
type Key = (usize, PodId);

/// See the module's description.
#[derive(Debug, Default)]
pub(in crate::core) struct Sickbay {
    /// Those who failed since they served.
    suspects: BTreeMap<Key, Suspect>,
    cases: BTreeMap<Key, Case>,
    /// What was served and failed by the beginning of each of the last stretches, the oldest first.
    windows: BTreeMap<Key, VecDeque<Ended>>,
    compare_at: Time,
    compares: bool,
    stretch_at: Time,
    /// Whom picks are kept away from.
    told: BTreeSet<Key>,
    /// Models of which they would be kept away from too many.
    panics: BTreeSet<usize>,
}

/// What there was when a row of failures was seen first.
#[derive(Debug)]
struct Suspect {
    /// What it had served itself: with more, the row is another one.
    served: u32,
    /// What each of the others had served and failed.
    others: BTreeMap<PodId, Ended>,
}

/// A pod that was left alone for a model.
#[derive(Clone, Copy, Debug, Default)]
struct Case {
    /// How often, as far as that is not forgotten.
    strikes: u32,
    out_until: Option<Time>,
    /// When it was let back.
    back_at: Time,
}

impl Case {
    /// How many of its strikes count at `now`.
    fn strikes(&self, now: Time) -> u32 {
        let forgotten = now.since(self.back_at).as_secs() / FORGET.as_secs();
        self.strikes.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// One model on one pod, as it is looked at.
pub(super) struct Patient<'a> {
    key: Key,
    pod: &'a Pod,
    pub(super) lane: Arc<Lane>,
    ended: Ended,
    held: bool,
}

impl<'a> Patient<'a> {
    pub(super) fn new(now: Time, pod: &'a Pod, lane: Arc<Lane>) -> Patient<'a> {
        let ended = ended(&lane);
        let held = lane.ends.held_until() > now;
        Patient { key: (lane.model.index, pod.id()), pod, lane, ended, held }
    }
}

fn ended(lane: &Lane) -> Ended {
    Ended { served: lane.served(), failed: lane.ends.failed() }
}

/// What came of a look.
pub(super) enum Change {
    /// Picks are to be kept away from others than before.
    Told,
    /// Something for people to know.
    Event(Event),
}

impl Change {
    pub(super) fn event(self) -> Option<Event> {
        match self {
            Change::Told => None,
            Change::Event(event) => Some(event),
        }
    }
}

impl Sickbay {
    /// The models of which something may have changed: those that fail somewhere.
    pub(super) fn models_to_look_at(&mut self, now: Time, tick: bool, pods: &[Arc<Pod>]) -> BTreeSet<usize> {
        let keys = self.cases.keys().chain(self.suspects.keys()).chain(&self.told);
        let mut models: BTreeSet<usize> = keys.map(|(model, _)| *model).collect();
        models.extend(&self.panics);
        self.compares = tick && self.compare_at <= now;
        let turns = tick && self.stretch_at <= now;
        let mut windows = BTreeMap::new();
        for pod in pods {
            // Behind the first index stand all names that are not kept apart.
            for lane in pod.lanes().iter().filter(|lane| lane.model.index > 0) {
                let key = (lane.model.index, pod.id());
                if tick {
                    lane.ends.look();
                }
                if turns {
                    let mut window = self.windows.remove(&key).unwrap_or_default();
                    window.push_back(ended(lane));
                    window.drain(..window.len().saturating_sub(STRETCHES));
                    windows.insert(key, window);
                }
                let fails_more = || {
                    let first = self.windows.get(&key).and_then(VecDeque::front).map_or(0, |first| first.failed);
                    lane.ends.failed() != first
                };
                if lane.ends.streak() > 0 || lane.ends.held_until() > now || self.compares && fails_more() {
                    models.insert(lane.model.index);
                }
            }
        }
        if turns {
            // Of pods that are gone nothing is kept.
            self.windows = windows;
            self.cases.retain(|key, _| self.windows.contains_key(key));
            self.suspects.retain(|key, _| self.windows.contains_key(key));
            self.stretch_at = now + STRETCH;
        }
        if self.compares {
            self.compare_at = now + COMPARE;
        }
        models
    }

    /// Looks at one model, as it is on each pod that was asked for it.
    pub(super) fn look_at(
        &mut self,
        now: Time,
        health: &Health,
        patients: &[Patient<'_>],
        draw: &dyn Fn(&Pod) -> Draw,
        changes: &mut Vec<Change>,
    ) {
        if health.failures == 0 {
            return;
        }
        for patient in patients {
            if patient.pod.is_ejected() {
                self.start_over(patient);
            } else if self.is_out(&patient.key) {
                self.let_back(now, health, patient, patients, changes);
            } else if let Some(because) = self.fails(health, patient, patients) {
                self.eject(now, health, patient, because, draw, changes);
            }
        }
    }

    fn is_out(&self, key: &Key) -> bool {
        self.cases.get(key).is_some_and(|case| case.out_until.is_some())
    }

    /// It cannot be reached: whatever comes back is another life of it, and is tried like one that was let back.
    fn start_over(&mut self, patient: &Patient<'_>) {
        patient.lane.ends.count_from(0);
        self.suspects.remove(&patient.key);
        self.windows.remove(&patient.key);
        if self.cases.remove(&patient.key).is_some() {
            patient.pod.begin_trial(&patient.lane);
        }
    }

    /// Lets a pod back whose time is over: one more failure, and it is out again.
    fn let_back(
        &mut self,
        now: Time,
        health: &Health,
        patient: &Patient<'_>,
        patients: &[Patient<'_>],
        changes: &mut Vec<Change>,
    ) {
        let Some(case) = self.cases.get_mut(&patient.key) else { return };
        if case.out_until.is_none_or(|until| until > now) || mutant::is(Mutant::OutForEver) {
            return;
        }
        (case.out_until, case.back_at) = (None, now);
        patient.lane.ends.count_from(health.failures - 1);
        patient.pod.begin_trial(&patient.lane);
        // What the others did lately is known: the one failure must not wait for more.
        let lately = |other: &Patient<'_>| Some((other.key.1, *self.windows.get(&other.key)?.front()?));
        let others = self.others(patient, patients).filter_map(lately).collect();
        self.suspects.insert(patient.key, Suspect { served: patient.ended.served, others });
        self.windows.insert(patient.key, VecDeque::from([patient.ended]));
        changes.push(Change::Event(Event::ModelReadmitted {
            pod: patient.pod.name().to_owned(),
            model: patient.lane.model.name().to_owned(),
        }));
    }

    /// The others that a pod is held against.
    fn others<'p, 'a>(
        &'p self,
        patient: &Patient<'a>,
        patients: &'p [Patient<'a>],
    ) -> impl Iterator<Item = &'p Patient<'a>> {
        let key = patient.key;
        let there = move |other: &Patient<'_>| !other.pod.is_ejected() && !other.pod.fitness.lacks.has(key.0);
        patients.iter().filter(move |other| other.key != key && there(other) && !self.is_out(&other.key))
    }

    /// Whether a pod fails the model more than the others do.
    fn fails(&mut self, health: &Health, patient: &Patient<'_>, patients: &[Patient<'_>]) -> Option<Because> {
        let streak = patient.lane.ends.streak();
        let served = patient.ended.served;
        if streak == 0 {
            self.suspects.remove(&patient.key);
        } else if self.suspects.get(&patient.key).is_none_or(|suspect| suspect.served != served) {
            // All of them: who is out now, and comes back, must not be counted from its beginning.
            let others = patients.iter().map(|other| (other.key.1, other.ended)).collect();
            self.suspects.insert(patient.key, Suspect { served, others });
        }
        if streak >= health.failures {
            let before = &self.suspects[&patient.key].others;
            // Whoever is not among them was not asked for the model before.
            let since = |o: &Patient<'_>| o.ended.since(before.get(&o.key.1).copied().unwrap_or_default());
            let since = self.others(patient, patients).map(since);
            if in_a_row(streak, since.fold(Ended::default(), Ended::plus)) || mutant::is(Mutant::BlameTheFirst) {
                return Some(Because::FailsInARow);
            }
        }
        if self.compares {
            let lately = |p: &Patient<'_>| Some(p.ended.minus(*self.windows.get(&p.key)?.front()?));
            let others = self.others(patient, patients).filter_map(lately).fold(Ended::default(), Ended::plus);
            if lately(patient).is_some_and(|own| worse(own, others)) {
                return Some(Because::FailsMore);
            }
        }
        None
    }

    fn eject(
        &mut self,
        now: Time,
        health: &Health,
        patient: &Patient<'_>,
        because: Because,
        draw: &dyn Fn(&Pod) -> Draw,
        changes: &mut Vec<Change>,
    ) {
        let case = self.cases.entry(patient.key).or_default();
        case.strikes = case.strikes(now) + 1;
        let span = health.eject.saturating_mul(case.strikes).min(MOST_OUT);
        // Nodes that ejected it together should not try it together.
        let part = draw(patient.pod).below(0, 1024) as u32;
        let span = span * 3 / 4 + span / 2 * part / 1024;
        case.out_until = Some(now + span);
        patient.pod.end_trial(&patient.lane);
        patient.pod.stats().count_ejection(because);
        self.suspects.remove(&patient.key);
        changes.push(Change::Event(Event::ModelEjected {
            pod: patient.pod.name().to_owned(),
            model: patient.lane.model.name().to_owned(),
            because,
            span,
        }));
    }

    /// Has picks keep away from who is out or asked for it, unless of `all` pods that have the model too few would be left; so many
    /// of them can be reached.
    pub(super) fn keep_away(
        &mut self,
        now: Time,
        health: &Health,
        (model, patients): (usize, &[Patient<'_>]),
        (reachable, all): (usize, usize),
        changes: &mut Vec<Change>,
    ) {
        let is_sick = |p: &&Patient<'_>| self.is_out(&p.key) || p.held;
        let sick: BTreeSet<Key> = patients.iter().filter(is_sick).map(|p| p.key).collect();
        let counts = |p: &&Patient<'_>| !p.pod.is_ejected() && !p.pod.fitness.lacks.has(model);
        let left = reachable.saturating_sub(patients.iter().filter(counts).filter(is_sick).count());
        let panics = !sick.is_empty() && (left as f64) < health.panic_share * all as f64;
        let panics = panics && !mutant::is(Mutant::NeverPanic);
        if self.panics.contains(&model) != panics {
            let name = patients.first().map_or(String::new(), |patient| patient.lane.model.name().to_owned());
            changes.push(Change::Event(Event::Panic { model: name, left, of: all, over: !panics }));
        }
        match panics {
            true => self.panics.insert(model),
            false => self.panics.remove(&model),
        };
        for patient in patients {
            let out = sick.contains(&patient.key) && !panics;
            match out {
                true => self.told.insert(patient.key),
                false => self.told.remove(&patient.key),
            };
            if patient.pod.fitness.fails.set(model, out) {
                changes.push(Change::Told);
            }
        }
        self.told.retain(|key| key.0 != model || sick.contains(key));
        let forgotten = |case: &Case| case.out_until.is_none() && case.strikes(now) == 0;
        self.cases.retain(|key, case| key.0 != model || !forgotten(case));
    }

    /// What `pod` is left alone for, and why, as people read it.
    pub(super) fn of(&self, now: Time, pod: &Pod) -> impl Iterator<Item = ModelOut> {
        let ms = |until: Time| Some(until.since(now).as_secs_f64() * 1e3);
        let out = move |lane: Arc<Lane>| {
            let until = self.cases.get(&(lane.model.index, pod.id())).and_then(|case| case.out_until);
            let held = lane.ends.held_until();
            let (why, for_ms) = match until {
                _ if self.panics.contains(&lane.model.index) && (until.is_some() || held > now) => ("panic", None),
                Some(until) => ("failing", ms(until)),
                None if held > now => ("held_off", ms(held)),
                None if lane.ends.is_on_trial() => ("on_trial", None),
                None => return None,
            };
            Some(ModelOut { model: lane.model.name().to_owned(), why, for_ms })
        };
        pod.lanes().into_iter().filter_map(out).collect::<Vec<_>>().into_iter()
    }
}
