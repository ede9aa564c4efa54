//! Requests of policies that stand outside the nodes: the question goes out, is decided one at a time, and comes back.
//!
//! A node's core is there and is not asked: it says which pods the node knows and has taken out, as for any other policy.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::observe::Pod;
use plimsoll::pick::PickError;
use plimsoll::time::Time;

use super::ask::{End, Held, Key};
use super::{Happening, World};
use crate::config::Config;
use crate::exact::{self, Candidates, Exact, Fallback};
use crate::policy::Policy;
use crate::rng::{Rng, hash};

/// Who decides, and how it is.
pub(super) struct Outside {
    policy: Box<dyn Exact>,
    stalled_until: Time,
    dead: bool,
}

impl Outside {
    pub(super) fn of(config: &Config) -> Option<Outside> {
        let Policy::Exact(kind) = config.policy else { return None };
        Some(Outside { policy: exact::of(kind, config), stalled_until: Time::ZERO, dead: false })
    }
}

/// The world as `config` has it, with the pods that its policy knows.
pub(super) fn fleet_of(config: Config) -> Config {
    match config.policy {
        Policy::Exact(kind) => exact::fleet_of(kind, config),
        _ => config,
    }
}

impl World {
    /// Has a request placed: at once by an oracle, else once the question has arrived.
    pub(super) fn ask_outside(&mut self, key: Key) {
        let now = self.now;
        let Some(outside) = &self.outside else { return };
        let way = outside.policy.way();
        if let Some(asked) = self.asked(key) {
            asked.waits_since = Some(now);
        }
        match way {
            Duration::ZERO => self.question(key, now),
            way => self.later(way, Happening::Question { request: key, asked: now }),
        }
    }

    /// A question is where it is decided.
    pub(super) fn question(&mut self, request: Key, asked: Time) {
        // Whoever gave up meanwhile would be charged for, and give it back a round trip later.
        if self.asked(request).is_none_or(|it| it.waits_since != Some(asked)) {
            return;
        }
        let (now, gives_up) = (self.now, asked + Duration::from_millis(self.config.redis.deadline_ms));
        let Some(outside) = &self.outside else { return };
        let (way, until) = (outside.policy.way(), outside.stalled_until.max(now));
        if outside.dead || until + way > gives_up {
            return self.later(gives_up.since(now), Happening::NoAnswer { request, asked });
        }
        if until > now {
            return self.later(until.since(now), Happening::Question { request, asked });
        }
        let Some((pod, cost_us)) = self.place(request) else { return self.none_left(request) };
        match way {
            Duration::ZERO => self.placed(request, asked, pod, cost_us),
            way => self.later(way, Happening::Placed { request, asked, pod: pod as u32, cost_us }),
        }
    }

    /// Which pod takes it, and what that was charged; none if there is none.
    fn place(&mut self, request: Key) -> Option<(usize, u64)> {
        let candidates = self.candidates(request);
        let cost_us = self.asked(request)?.cost_us();
        let World { outside, pods, now, .. } = self;
        let look = |k: usize| (pods[k].up && !pods[k].hung).then_some(&pods[k].server);
        let exact = &mut outside.as_mut()?.policy;
        (!candidates.is_empty()).then(|| (exact.place(*now, cost_us, &candidates, &look), cost_us))
    }

    /// The decision is back: off it goes, if it is still wanted.
    pub(super) fn placed(&mut self, request: Key, asked: Time, k: usize, cost_us: u64) {
        let Some(it) = self.asked(request).filter(|it| it.waits_since == Some(asked)) else {
            return self.return_charge(k, cost_us);
        };
        let n = it.node;
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::Placed { request, asked, pod: k as u32, cost_us });
        }
        self.waits_no_more(request);
        match self.pod_of(n, k) {
            Some(pod) => self.set_off(request, k, Held::Place { pod, charged_us: Some(cost_us) }),
            // Discovery took the pod away in between.
            None => {
                self.return_charge(k, cost_us);
                self.try_once(request);
            }
        }
    }

    /// The deadline for an answer is over.
    pub(super) fn no_answer(&mut self, request: Key, asked: Time) {
        let Some(it) = self.asked(request).filter(|it| it.waits_since == Some(asked)) else { return };
        let (n, chance, tries) = (it.node, it.chance, it.tried.len() as u64);
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::NoAnswer { request, asked });
        }
        self.waits_no_more(request);
        if self.config.redis.fallback == Fallback::Error {
            return self.end(request, End::Failed, Duration::ZERO);
        }
        let candidates = self.candidates(request);
        if candidates.is_empty() {
            return self.none_left(request);
        }
        let k = *Rng::from_hash(hash(&[chance, 15, tries])).pick(&candidates);
        match self.pod_of(n, k) {
            Some(pod) => self.set_off(request, k, Held::Place { pod, charged_us: None }),
            None => self.none_left(request),
        }
    }

    fn set_off(&mut self, request: Key, k: usize, held: Held) {
        let Some(asked) = self.asked(request) else { return };
        let (n, service) = (asked.node, asked.ask.service);
        self.note("pick", [n as u64, k as u64, request.into()]);
        let hop = self.send_to_pod(request, k, held);
        let arrives = self.now + hop;
        if let Some(outside) = &mut self.outside {
            outside.policy.sent(k, arrives, service);
        }
    }

    fn waits_no_more(&mut self, request: Key) {
        self.asked(request).into_iter().for_each(|asked| asked.waits_since = None);
    }

    fn none_left(&mut self, request: Key) {
        self.waits_no_more(request);
        let Some(asked) = self.asked(request) else { return };
        let (n, m) = (asked.node, asked.model);
        let known = self.core(n).picker().pods().len();
        let error = match known {
            0 => PickError::NoPods,
            known => PickError::NoneLeft { model: self.model_name(m), known },
        };
        self.nothing_picked(request, &error);
    }

    /// What a request was charged is given back, as soon as whoever keeps count hears of it.
    pub(super) fn return_charge(&mut self, k: usize, cost_us: u64) {
        let Some(outside) = &self.outside else { return };
        match outside.policy.way() {
            Duration::ZERO => self.give_back(k, cost_us),
            way => self.later(way, Happening::GiveBack { pod: k as u32, cost_us }),
        }
    }

    /// What dead callers had in flight is given back once their lease is over.
    pub(super) fn return_after_lease(&mut self, charges: Vec<(usize, u64)>) {
        let lease = Duration::from_millis(self.config.redis.lease_ms);
        for (k, cost_us) in charges {
            self.later(lease, Happening::GiveBack { pod: k as u32, cost_us });
        }
    }

    pub(super) fn give_back(&mut self, k: usize, cost_us: u64) {
        let now = self.now;
        let Some(outside) = &mut self.outside else { return };
        if outside.stalled_until > now {
            let after = outside.stalled_until.since(now);
            return self.later(after, Happening::GiveBack { pod: k as u32, cost_us });
        }
        if !outside.dead {
            outside.policy.give_back(k, cost_us);
        }
    }

    pub(super) fn stall_store(&mut self, lasts: Duration) {
        let until = self.now + lasts;
        if let Some(outside) = &mut self.outside {
            outside.stalled_until = outside.stalled_until.max(until);
        }
    }

    pub(super) fn kill_store(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.dead = true;
            outside.policy.forget();
        }
    }

    pub(super) fn restart_store(&mut self) {
        if let Some(outside) = &mut self.outside {
            (outside.dead, outside.stalled_until) = (false, Time::ZERO);
        }
    }

    /// The pods that may take a request, as the product has it: those that serve its model and were not tried, without
    /// those that its node has taken out, unless all are.
    fn candidates(&mut self, request: Key) -> Candidates {
        let Some(asked) = self.asked(request) else { return Candidates::new() };
        let (n, model, tried) = (asked.node, asked.model, asked.tried.clone());
        let model = self.model_name(model);
        let may = |pod: &Pod| {
            let models = &pod.spec().models;
            (models.is_empty() || models.contains(&model)) && (tried.is_empty() || !tried.contains(&pod.id()))
        };
        let pods = self.core(n).picker().pods();
        let all = || self.known_to(n).zip(pods.iter()).filter(|(_, pod)| may(pod));
        let admitted: Candidates = all().filter(|(_, pod)| !pod.is_ejected()).map(|((k, _), _)| k).collect();
        if admitted.is_empty() { all().map(|((k, _), _)| k).collect() } else { admitted }
    }

    fn pod_of(&self, n: usize, k: usize) -> Option<Arc<Pod>> {
        let place = self.known_to(n).position(|(known, _)| known == k)?;
        self.core(n).picker().pods().get(place).cloned()
    }

    /// The pods that node `n` knows and their incarnations, in the order in which its core was told of them, and keeps
    /// them.
    pub(super) fn known_to(&self, n: usize) -> impl Iterator<Item = (usize, u32)> {
        let known = self.nodes[n].known.iter().enumerate();
        known.filter_map(|(k, incarnation)| incarnation.map(|incarnation| (k, incarnation)))
    }
}
