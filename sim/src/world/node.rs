//! Nodes: their lives, their clocks, and when their cores are turned.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use plimsoll::core::{AskId, Core, CoreConfig, Reserved, Strict};
use plimsoll::id::{Epoch, NodeId};
use plimsoll::pick::Wake;
use plimsoll::time::Time;

use super::ask::Key;
use super::health::Seen;
use super::{Happening, World, id_of};
use crate::arrivals::ArrivalStream;
use crate::baseline::{self, Latencies};
use crate::config::Config;
use crate::policy::Policy;
use crate::rng::{Rng, hash};

/// What waits for a node that does not keep up; beyond, its sockets would drop too.
const BACKLOG: usize = 4096;

#[derive(Clone, Default)]
pub(super) struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Relaxed);
    }
}

pub(super) struct SimNode {
    pub(super) core: Option<Core>,
    pub(super) id: NodeId,
    woken: Flag,
    /// Which life: what was meant for an earlier one is dropped.
    pub(super) life: u32,
    /// The largest epoch it started with.
    pub(super) epoch: u64,
    /// Which of the addresses it has.
    pub(super) address: usize,
    pub(super) started: Time,
    /// Its former lives, the last one last.
    pub(super) former: Vec<FormerLife>,
    /// Its clock runs fast (or slow) by this many millionths.
    drift_ppm: i64,
    pub(super) paused: bool,
    /// Time it takes over each input.
    pub(super) slow: Duration,
    pub(super) busy_until: Time,
    /// What came while it was paused or busy.
    pub(super) inbox: Vec<Happening>,
    timer_at: Option<Time>,
    changes_at: Option<Time>,
    pub(super) arrivals: ArrivalStream,
    pub(super) sizes: Rng,
    pub(super) clients: Rng,
    /// Requests its clients asked for.
    pub(super) asked: u64,
    /// Those for which strict mode is picking, and since when by the world's time.
    pub(super) reserving: BTreeMap<AskId, (Key, Time)>,
    /// What it saw of latencies, where its policy goes by them.
    pub(super) latencies: Latencies,
    /// What it saw of how requests end.
    pub(super) seen: Seen,
    /// True tickets per pod, for the incarnations it knows.
    pub(super) ledger: Vec<u32>,
    /// Which incarnation of each pod it knows; none where it knows of none.
    pub(super) known: Vec<Option<u32>>,
    /// Which of them it knows to be about to end.
    pub(super) drains: Vec<bool>,
}

impl SimNode {
    pub(super) fn new(config: &Config, n: usize) -> SimNode {
        let drift = u64::from(config.drift_ppm);
        let drift_ppm = Rng::new(config.seed, "drift", n as u64).below(2 * drift + 1) as i64 - drift as i64;
        SimNode {
            core: None,
            id: id_of(n),
            woken: Flag::default(),
            life: 0,
            epoch: 0,
            address: n,
            started: Time::ZERO,
            former: Vec::new(),
            drift_ppm,
            paused: false,
            slow: Duration::ZERO,
            busy_until: Time::ZERO,
            inbox: Vec::new(),
            timer_at: None,
            changes_at: None,
            arrivals: ArrivalStream::new(&config.arrivals, config.seed, n),
            sizes: Rng::new(config.seed, "sizes", n as u64),
            clients: Rng::new(config.seed, "clients", n as u64),
            asked: 0,
            reserving: BTreeMap::new(),
            latencies: Latencies::default(),
            seen: Seen::default(),
            ledger: vec![0; config.pods],
            drains: vec![false; config.pods],
            known: vec![Some(0); config.pods],
        }
    }

    /// Its own time at the world's `now`.
    pub(super) fn local(&self, now: Time) -> Time {
        let real = now.since(self.started).as_nanos() as i64;
        Time::from_nanos((real + scaled(real, self.drift_ppm)) as u64)
    }

    /// The world's time at which its clock shows `local`: never early.
    fn world_time(&self, local: Time) -> Time {
        let local = local.as_nanos() as i64;
        let real = match self.drift_ppm {
            0 => local,
            ppm => (i128::from(local) * 1_000_000 / i128::from(1_000_000 + ppm)) as i64 + 1,
        };
        self.started + Duration::from_nanos(real as u64)
    }
}

fn strict(config: &Config) -> Strict {
    let mut strict = Strict::default();
    strict.timeout = Duration::from_micros(config.strict.timeout_us);
    strict.shards = NonZeroU16::new(config.strict.shards);
    strict
}

/// A life of a node that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormerLife {
    pub(crate) ended: Time,
    /// The epoch that it had in the end.
    pub(crate) epoch: Epoch,
    /// Whether it said goodbye.
    pub(crate) left: bool,
}

fn scaled(nanos: i64, ppm: i64) -> i64 {
    (i128::from(nanos) * i128::from(ppm) / 1_000_000) as i64
}

pub(super) fn address(slot: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (slot / 256) as u8, (slot % 256) as u8], 7600))
}

impl World {
    /// Starts node `n` with `epoch`, on its address.
    pub fn start(&mut self, n: usize, epoch: u64) {
        let node = &mut self.nodes[n];
        let mut config = CoreConfig::new(format!("node-{n}"), address(node.address));
        config.epoch = Epoch(epoch);
        // Every start draws anew, as in the product.
        config.seed = hash(&[self.config.seed, 15, u64::from(node.life)]);
        config.budget_bits = self.config.budget_bits;
        config.tell_costs = self.config.clients.tell_costs;
        config.subset = self.config.subset;
        config.slow_start = Duration::from_millis(self.config.slow_start_ms);
        config.health.failures = self.config.failures;
        (config.direct, config.always_relay) = (self.config.direct, self.config.always_relay);
        node.latencies = Latencies::default();
        let woken = Flag::default();
        let wake = Box::new(woken.clone());
        let core = match self.config.policy {
            Policy::Product(kind) => {
                config.policy = kind;
                Core::new(config, Time::ZERO, wake)
            }
            Policy::Strict => {
                config.strict = Some(strict(&self.config));
                Core::new(config, Time::ZERO, wake)
            }
            Policy::Baseline(baseline) => {
                Core::with_policy(config, Time::ZERO, wake, baseline::of(baseline, &node.latencies))
            }
            // Nobody asks it: it knows the pods, and which are out.
            Policy::Exact(_) => Core::new(config, Time::ZERO, wake),
        };
        node.life += 1;
        self.tally.forget(n);
        let node = &mut self.nodes[n];
        node.epoch = node.epoch.max(epoch);
        node.known = self.pods.iter().map(|pod| pod.announced).collect();
        node.drains = self.pods.iter().map(|pod| pod.drains).collect();
        node.seen = Seen::default();
        node.ledger.fill(0);
        (node.core, node.woken, node.started, node.timer_at) = (Some(core), woken, self.now, None);
        let joins = self.config.gossip && !self.config.policy.is_deaf();
        let join = if joins { self.join_list(n) } else { Vec::new() };
        let specs = self.specs_for(n);
        self.nodes[n].latencies.set_pods(self.known_to(n));
        if let Some(core) = &mut self.nodes[n].core {
            core.set_pods(Time::ZERO, specs);
            core.set_join(Time::ZERO, join);
        }
        self.note("start", [n as u64, epoch, 0]);
        self.turn(n);
        self.ask_later(n);
    }

    pub(super) fn join_list(&self, n: usize) -> Vec<SocketAddr> {
        self.config.joins(n).into_iter().map(address).collect()
    }

    /// Kills node `n`: its tickets and connections die with it, and nobody is told.
    pub fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if let Some(core) = &node.core {
            let epoch = core.me().epoch;
            // Whoever starts next has a clock that went on from here, unless it was set back.
            node.epoch = node.epoch.max(epoch.0);
            node.former.push(FormerLife { ended: self.now, epoch, left: false });
        }
        (node.core, node.timer_at, node.changes_at, node.paused) = (None, None, None, false);
        node.inbox.clear();
        node.reserving.clear();
        node.ledger.fill(0);
        self.note("crash", [n as u64, 0, 0]);
        self.forget_requests_of(n);
        self.watch_connections(|(a, b)| a == n || b == n);
    }

    /// Stops node `n` in its tracks (SIGSTOP): what comes for it waits.
    pub fn pause(&mut self, n: usize) {
        self.nodes[n].paused = self.nodes[n].core.is_some();
    }

    /// Lets it run again: first what came, then its timers.
    pub fn resume(&mut self, n: usize) {
        if !std::mem::replace(&mut self.nodes[n].paused, false) {
            return;
        }
        self.tally.resumed(n, self.now);
        for happening in std::mem::take(&mut self.nodes[n].inbox) {
            self.happen(happening);
        }
    }

    /// Node `n` says goodbye and ends.
    pub fn leave(&mut self, n: usize) {
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            core.leave(now);
        }
        self.turn(n);
        self.crash(n);
        self.nodes[n].former.last_mut().into_iter().for_each(|life| life.left = true);
    }

    pub(super) fn is(&self, n: usize, life: u32) -> bool {
        self.nodes[n].core.is_some() && self.nodes[n].life == life
    }

    /// Whether node `n` takes an input now; if not, `happening` is kept for when it does.
    pub(super) fn takes(&mut self, n: usize, happening: impl FnOnce() -> Happening) -> bool {
        let node = &mut self.nodes[n];
        if node.paused {
            // A stopped process's sockets fill up; timers and answers of its own do not count much.
            if node.inbox.len() < BACKLOG {
                node.inbox.push(happening());
            }
            return false;
        }
        if node.slow > Duration::ZERO {
            if node.busy_until > self.now {
                let (wait, most) = (node.busy_until.since(self.now), node.slow * BACKLOG as u32);
                if wait <= most {
                    node.busy_until = node.busy_until + node.slow;
                    let at = node.busy_until.since(self.now);
                    let happening = happening();
                    self.later(at, happening);
                }
                return false;
            }
            node.busy_until = self.now + node.slow;
            let until = node.busy_until;
            self.tally.slow_until(n, until);
        }
        true
    }

    pub(super) fn timer(&mut self, n: usize, life: u32) {
        if !self.is(n, life) || self.nodes[n].timer_at.is_none_or(|at| at > self.now) {
            return;
        }
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::Timer { node: n as u32, life });
        }
        self.nodes[n].timer_at = None;
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            self.inputs += 1;
            core.handle_timeout(now);
            let next = core.next_timeout();
            self.tally_timer(n, next, now);
            if self.outside.is_none() {
                self.ask_who_owes(n);
                self.read_gauges(n);
            }
        }
        self.note("timer", [n as u64, 0, 0]);
        self.turn(n);
    }

    pub(super) fn changes(&mut self, n: usize, life: u32) {
        if !self.is(n, life) {
            return;
        }
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::Changes { node: n as u32, life });
        }
        self.nodes[n].changes_at = None;
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            self.inputs += 1;
            core.handle_changes(now);
        }
        self.turn(n);
    }

    /// After anything touched node `n`: carry what it sends, and remember when it wants to be called.
    pub(super) fn turn(&mut self, n: usize) {
        // A core that nobody asks has nothing to say, and wants nothing.
        if self.outside.is_some() {
            return;
        }
        let mut heard = Vec::new();
        while let Some(core) = &mut self.nodes[n].core {
            while let Some(event) = core.poll_event() {
                heard.push(event);
            }
            let reserved: Vec<Reserved> = std::iter::from_fn(|| core.poll_reserved()).collect();
            if !reserved.is_empty() {
                // All of them are charged already.
                reserved.iter().flat_map(|reserved| &reserved.picked).for_each(|ticket| self.count_charge(n, ticket));
                reserved.into_iter().for_each(|reserved| self.reserved(n, reserved));
                continue;
            }
            let Some(transmit) = core.poll_transmit() else { break };
            self.send(n, transmit);
        }
        for event in heard {
            self.heed(n, &event);
            self.events.push((self.now, n, event));
        }
        let (now, node) = (self.now, &mut self.nodes[n]);
        let Some(core) = &node.core else { return };
        let at = node.world_time(core.next_timeout()).max(now);
        let life = node.life;
        let sooner = node.timer_at.is_none_or(|timer| at < timer);
        if sooner {
            node.timer_at = Some(at);
        }
        let reaction = Duration::from_micros(self.config.reaction_us) + node.slow;
        let react = node.woken.0.swap(false, Relaxed) && node.changes_at.is_none();
        if react {
            node.changes_at = Some(now + reaction);
        }
        if sooner {
            self.later(at.since(now), Happening::Timer { node: n as u32, life });
        }
        if react {
            self.later(reaction, Happening::Changes { node: n as u32, life });
        }
    }
}
