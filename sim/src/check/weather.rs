//! What excuses a belief: faults that are under way or just over.
//!
//! Two sources, because neither alone is enough: the plan's schedule (a fault of 10 ms is over between two looks) and the
//! world as it stands (of two faults that overlap, the first to pass may heal both, or restore what the second broke).

use std::time::Duration;

use plimsoll::time::Time;

use crate::fault::{Fault, Trick};
use crate::plan::Plan;
use crate::run::Phase;
use crate::world::World;

/// Since when each part of the world has been well. Times are the world's.
#[derive(Debug)]
pub(crate) struct Weather {
    /// From, to, and which of the plan's faults.
    schedule: Vec<(Time, Time, Fault)>,
    /// Of the schedule, those that have begun.
    begun: usize,
    active: Vec<usize>,
    looked_at: Time,
    /// The last time at which something was wrong with each node, its links included.
    nodes: Vec<Time>,
    pods: Vec<Time>,
    /// Until when each pod was slower than it should be.
    slow: Vec<Option<Time>>,
    /// The last time at which all links were other than they should be.
    links: Time,
    surge: Time,
    /// The last time at which a node was slow. Its own probes time out in its own queue, and it declares everybody down.
    sick: Time,
    /// The last hostile act, and who turned ever.
    pub(crate) hostile_at: Option<Time>,
    pub(crate) turned: Vec<bool>,
    /// Whether a hostile member may have invented others.
    pub(crate) ghosts: bool,
    pub(crate) replayed: bool,
    /// Faults that began so far.
    pub(crate) struck: usize,
    settles_at: Option<Time>,
}

impl Weather {
    pub(crate) fn new(plan: &Plan) -> Weather {
        let ms = |ms: u64| Time::ZERO + Duration::from_millis(ms);
        let settles_at = (plan.ending.live_ms > 0).then(|| ms(plan.form_ms + plan.ask_ms));
        let schedule = plan.faults.iter().map(|planned| {
            let from = ms(plan.form_ms + planned.at_ms);
            // What was held back or delayed comes later still.
            let after = match planned.fault {
                Fault::Delay { add_ms, .. } => add_ms,
                Fault::PodReplace { spread_ms, .. } | Fault::PodDrain { spread_ms, .. } => spread_ms,
                _ => 0,
            };
            (from, from + Duration::from_millis(planned.fault.lasts_ms() + after), planned.fault.clone())
        });
        let schedule: Vec<_> = schedule.filter(|(from, ..)| settles_at.is_none_or(|at| *from < at)).collect();
        Weather {
            schedule,
            begun: 0,
            active: Vec::new(),
            looked_at: Time::ZERO,
            nodes: vec![Time::ZERO; plan.world.nodes],
            pods: vec![Time::ZERO; plan.world.pods],
            slow: vec![None; plan.world.pods],
            links: Time::ZERO,
            surge: Time::ZERO,
            sick: Time::ZERO,
            hostile_at: None,
            turned: vec![false; plan.world.nodes],
            ghosts: false,
            replayed: false,
            struck: 0,
            settles_at,
        }
    }

    /// Takes in what happened since the last look.
    pub(crate) fn look(&mut self, world: &World) {
        let now = world.now();
        while let Some((from, ..)) = self.schedule.get(self.begun).filter(|(from, ..)| *from <= now) {
            debug_assert!(*from >= self.looked_at, "plans are in order of time");
            self.active.push(self.begun);
            self.begun += 1;
            self.struck += 1;
        }
        for which in std::mem::take(&mut self.active) {
            let (from, mut to, fault) = self.schedule[which].clone();
            if let (Some(settles), false) = (self.settles_at, matches!(fault, Fault::Clog { .. } | Fault::Delay { .. }))
            {
                to = to.min(settles);
            }
            self.strike(&fault, from, to.min(now));
            if to > now {
                self.active.push(which);
            }
        }
        self.look_at_nodes(world, now);
        for (k, well_at) in self.pods.iter_mut().enumerate() {
            if !world.pod_is_itself(k) {
                *well_at = now;
            }
        }
        if !world.links_are_as_planned() {
            self.links = now;
        }
        self.looked_at = now;
    }

    fn look_at_nodes(&mut self, world: &World, now: Time) {
        let nodes = self.nodes.len();
        for n in 0..nodes {
            if !world.node_is_well(n) {
                self.nodes[n] = now;
                if world.node_is_slow(n) {
                    self.sick = now;
                }
            } else {
                self.nodes[n] = self.nodes[n].max(world.started(n));
            }
        }
        if world.walls() > 0 {
            for (a, b) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))) {
                if !world.is_open(a, b) {
                    (self.nodes[a], self.nodes[b]) = (now, now);
                }
            }
        }
    }

    fn strike(&mut self, fault: &Fault, from: Time, until: Time) {
        for n in fault.nodes() {
            self.nodes[n] = self.nodes[n].max(until);
        }
        if let Some(k) = fault.pod() {
            self.pods[k] = self.pods[k].max(until);
            if matches!(fault, Fault::PodSlow { .. }) {
                self.slow[k] = self.slow[k].max(Some(until));
            }
        }
        match fault {
            Fault::Loss { .. } | Fault::Delay { .. } => self.links = self.links.max(until),
            Fault::NodeSlow { .. } => self.sick = self.sick.max(until),
            Fault::Surge { .. } | Fault::ModelChange { .. } => self.surge = self.surge.max(until),
            Fault::Replay { .. } => self.replayed = true,
            Fault::Hostile { node, trick, .. } => {
                self.hostile_at = self.hostile_at.max(Some(from));
                self.turned[*node] = true;
                self.ghosts |= matches!(trick, Trick::Ghosts | Trick::Flips);
            }
            _ => {}
        }
    }

    /// When something was wrong with node `n` last; its start counts.
    pub(crate) fn node_well_since(&self, n: usize) -> Time {
        self.nodes[n]
    }

    pub(crate) fn pod_well_since(&self, k: usize) -> Time {
        self.pods[k]
    }

    /// Until when pod `k` was slower than it should be; none where it never was.
    pub(crate) fn pod_slow_until(&self, k: usize) -> Option<Time> {
        self.slow[k]
    }

    pub(crate) fn links_well_since(&self) -> Time {
        self.links
    }

    /// When membership was last disturbed by what is wrong elsewhere: links, slow nodes, hostile ones.
    pub(crate) fn membership_well_since(&self) -> Time {
        self.links.max(self.sick).max(self.hostile_at.unwrap_or_default())
    }

    pub(crate) fn surge_since(&self) -> Time {
        self.surge
    }

    /// When anything was wrong with anything that is not dead.
    pub(crate) fn calm_since(&self, world: &World) -> Time {
        let nodes = self.nodes.iter().enumerate().filter(|(n, _)| world.is_up(*n)).map(|(_, at)| *at);
        let pods = self.pods.iter().enumerate().filter(|(k, _)| world.pod_is_up(*k)).map(|(_, at)| *at);
        nodes.chain(pods).fold(self.links.max(self.surge), Time::max).max(self.hostile_at.unwrap_or_default())
    }
}

/// One look at a world.
pub(crate) struct Look<'a> {
    pub(crate) now: Time,
    pub(crate) phase: Phase,
    /// When the phase began.
    pub(crate) since: Time,
    /// Whether this is its end.
    pub(crate) over: bool,
    /// How many looks there were before.
    pub(crate) number: u64,
    pub(crate) weather: &'a Weather,
}

impl Look<'_> {
    /// How long the phase has lasted.
    pub(crate) fn lasted(&self) -> Duration {
        self.now.since(self.since)
    }
}
