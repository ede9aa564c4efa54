//! Pods: servers that die, hang, slow down and are replaced, and what nodes know of them.

use std::time::Duration;

use plimsoll::observe::PodSpec;
use plimsoll::pick::Readmission;
use plimsoll::time::Time;

use super::ask::Answer;
use super::health::Models;
use super::{Happening, World};
use crate::config::{Config, spec};
use crate::rng::{Rng, Share, hash};
use crate::server::{Finished, Server};

pub(super) struct SimPod {
    pub(super) server: Server,
    pub(super) up: bool,
    pub(super) hung: bool,
    pub(super) hung_since: Option<Time>,
    /// Which incarnation it is.
    pub(super) incarnation: u32,
    /// Which incarnation discovery tells of; none while it is taken away.
    pub(super) announced: Option<u32>,
    /// Which life of its process: what was meant for an earlier one is dropped.
    pub(super) life: u32,
    pub(super) errors: Share,
    /// What is wrong with its models.
    pub(super) ills: Models,
    /// Whether discovery says that it is about to end.
    pub(super) drains: bool,
    /// Models that it serves; empty for all.
    pub(super) models: Vec<String>,
    armed: Option<Time>,
}

impl SimPod {
    pub(super) fn new(config: &Config, k: usize) -> SimPod {
        let mut server = Server::new(&config.server);
        server.set_speed(config.server.speed(k));
        SimPod {
            server,
            up: true,
            hung: false,
            hung_since: None,
            incarnation: 0,
            announced: Some(0),
            life: 0,
            errors: Share::NEVER,
            ills: Models::default(),
            drains: false,
            models: models_of(config, k),
            armed: None,
        }
    }
}

/// The name of the `m`-th model.
pub(super) fn model_name(models: usize, m: usize) -> String {
    if models == 1 { "model".to_owned() } else { format!("model-{m}") }
}

/// Each model is on the pods that its own order of pods, drawn by chance, has first.
fn models_of(config: &Config, k: usize) -> Vec<String> {
    let clients = &config.clients;
    if clients.served_by == Share::ALWAYS {
        return Vec::new();
    }
    let serving = ((config.pods as f64 * clients.served_by.as_f64()) as usize).clamp(1, config.pods);
    let rank = |m: usize, pod: usize| (hash(&[config.seed, 11, m as u64, pod as u64]), pod);
    let serves = |m: &usize| (0..config.pods).filter(|other| rank(*m, *other) < rank(*m, k)).count() < serving;
    let mut models: Vec<String> = (0..clients.models).filter(serves).map(|m| model_name(clients.models, m)).collect();
    if models.is_empty() {
        // An empty list would mean all.
        models.push("none".to_owned());
    }
    models
}

impl World {
    /// What node `n` knows of the pods.
    pub(super) fn specs_for(&self, n: usize) -> Vec<PodSpec> {
        let known = self.nodes[n].known.iter().enumerate();
        known.filter_map(|(k, incarnation)| incarnation.map(|i| self.spec(k, i, self.nodes[n].drains[k]))).collect()
    }

    fn spec(&self, k: usize, incarnation: u32, draining: bool) -> PodSpec {
        let mut spec = spec(k, self.config.server.slots);
        spec.batching = self.config.server.batching.as_ref().map(crate::server::Batching::as_configured);
        spec.uid = (incarnation > 0).then(|| format!("pod-{k}-{incarnation}"));
        spec.models.clone_from(&self.pods[k].models);
        spec.draining = draining;
        spec
    }

    /// Node `n` learns what discovery says of pod `k` by now.
    pub(super) fn learn_pod(&mut self, n: usize, life: u32, k: usize) {
        let (announced, drains) = (self.pods[k].announced, self.pods[k].drains);
        let node = &mut self.nodes[n];
        if node.core.is_none() || node.life != life || (node.known[k], node.drains[k]) == (announced, drains) {
            return;
        }
        node.drains[k] = drains;
        if std::mem::replace(&mut node.known[k], announced) != announced {
            node.seen.forget(k);
            // Tickets of an earlier incarnation end on it.
            node.ledger[k] = 0;
            self.tally.hurt(k, self.now);
            self.tally.forget_pod(n, k);
        }
        let specs = self.specs_for(n);
        self.nodes[n].latencies.set_pods(self.known_to(n));
        self.set_pods(n, specs);
    }

    /// Discovery says something new of pod `k`, and each node hears of it within `spread`.
    pub(super) fn announce(&mut self, k: usize, incarnation: Option<u32>, spread: Duration) {
        self.pods[k].announced = incarnation;
        for n in 0..self.nodes.len() {
            let word = [self.config.seed, 12, self.now.as_nanos(), n as u64, k as u64];
            let after = Rng::from_hash(hash(&word)).between(Duration::ZERO, spread);
            let life = self.nodes[n].life;
            self.later(after, Happening::Learn { node: n as u32, life, pod: k as u32 });
        }
    }

    /// Discovery says that pod `k` is about to end, or that it is not.
    pub(super) fn drain_pod(&mut self, k: usize, drains: bool, spread: Duration) {
        if std::mem::replace(&mut self.pods[k].drains, drains) != drains {
            let announced = self.pods[k].announced;
            self.announce(k, announced, spread);
        }
    }

    /// Kills pod `k`: what it had is lost, and its callers see their connections break.
    pub fn crash_pod(&mut self, k: usize) {
        self.catch_up(k);
        self.note("pod down", [k as u64, 0, 0]);
        self.tally.hurt(k, self.now);
        let pod = &mut self.pods[k];
        (pod.up, pod.hung, pod.hung_since, pod.armed) = (false, false, None, None);
        pod.life += 1;
        for job in self.pods[k].server.crash() {
            self.answer(job.into(), Answer::Broken);
        }
    }

    /// Starts pod `k` again, under its address.
    pub fn restart_pod(&mut self, k: usize) {
        self.note("pod up", [k as u64, 0, 0]);
        self.tally.hurt(k, self.now);
        let now = self.now;
        let pod = &mut self.pods[k];
        if !std::mem::replace(&mut pod.up, true) {
            pod.server.restart(now);
            pod.server.set_cold(self.config.cold_requests, self.config.cold_percent);
            self.heal_models(k);
        }
    }

    /// Stops pod `k` (SIGSTOP), or lets it run again.
    pub fn hang_pod(&mut self, k: usize, hung: bool) {
        self.catch_up(k);
        let (now, pod) = (self.now, &mut self.pods[k]);
        if !pod.up || pod.hung == hung {
            return;
        }
        (pod.hung, pod.hung_since) = (hung, hung.then_some(now));
        if hung {
            pod.server.hang(now)
        } else {
            pod.server.resume(now)
        }
        self.arm(k);
    }

    /// What pod `k` starts from now on takes `percent` of its usual time.
    pub(super) fn slow_pod(&mut self, k: usize, percent: u32) {
        self.catch_up(k);
        self.pods[k].server.set_slowdown(percent);
    }

    /// Pod `k` fails nothing any more.
    pub(super) fn cure_pod(&mut self, k: usize) {
        if std::mem::replace(&mut self.pods[k].errors, Share::NEVER) > Share::NEVER {
            self.tally.hurt(k, self.now);
        }
    }

    /// Pod `k`, and when it wants to be looked at.
    pub(super) fn arm(&mut self, k: usize) {
        let pod = &mut self.pods[k];
        let Some(at) = pod.server.next() else { return };
        if pod.armed.is_none_or(|armed| at < armed) {
            pod.armed = Some(at);
            let life = pod.life;
            self.later(at.since(self.now), Happening::Server { pod: k as u32, life });
        }
    }

    pub(super) fn serve(&mut self, k: usize, life: u32) {
        let pod = &mut self.pods[k];
        if pod.life != life || !pod.up || pod.armed.is_some_and(|at| at > self.now) {
            return;
        }
        pod.armed = None;
        self.catch_up(k);
        self.arm(k);
    }

    /// What is done at pod `k` by now is answered: before anything changes there, so that what was over is not touched.
    pub(super) fn catch_up(&mut self, k: usize) {
        if !self.pods[k].up {
            return;
        }
        let mut finished = Vec::new();
        self.pods[k].server.advance(self.now, &mut finished);
        for Finished { id, started, ended } in finished {
            self.answer(id.into(), Answer::Served { started, ended });
        }
    }

    /// A node that took pod `k` out asks whether it is back.
    pub(super) fn probe(&mut self, n: usize, life: u32, k: usize, mut schedule: Box<Readmission>) {
        if !self.is(n, life) {
            return;
        }
        let pods = self.core(n).picker().pods();
        let name = format!("pod-{k}");
        let Some(pod) = pods.iter().find(|pod| pod.name() == name && pod.is_ejected()) else { return };
        if self.pods[k].up && !self.pods[k].hung {
            pod.readmit();
            self.nodes[n].seen.forget(k);
            let now = self.local(n);
            pod.heard(now);
            self.note("readmit", [n as u64, k as u64, 0]);
            return;
        }
        let answer = if self.pods[k].hung { Readmission::ANSWER } else { Duration::ZERO };
        let after = answer + schedule.next_pause();
        self.later(after, Happening::Probe { node: n as u32, life, pod: k as u32, schedule });
    }
}
