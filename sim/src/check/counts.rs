//! Counts: a node's own are exact, what it believes of others is bounded, and becomes true.

use std::time::Duration;

use plimsoll::observe::{Pod, PodLoad};
use plimsoll::time::Time;

use super::bounds::{Bounds, can_meet};
use super::{Family, Found, Look, Rule};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::run::Phase;
use crate::world::World;

/// Counts are compared every so many looks: twice a second.
const EVERY: u64 = 5;
/// What a hostile member may claim; beyond, a counter has wrapped.
const ABSURD: f64 = 1e12;
/// After silence, empty pods and the last predicted end, what was on its way is over; rows refresh and fade.
const SETTLES: Duration = Duration::from_secs(1);

pub(super) struct Counts {
    bounds: Bounds,
    /// When pods were empty and remainders over first, in silence.
    idle_since: Option<Time>,
    /// When no request was under way first, in silence.
    ended_since: Option<Time>,
    /// What each comparison saw, the latest last: as far back as news may be old.
    past: Vec<Past>,
}

/// What there was at each pod at one moment.
struct Past {
    at: Time,
    moves: Vec<u64>,
    remainders: Vec<u64>,
}

impl Counts {
    pub(super) fn new(plan: &Plan) -> Counts {
        Counts { bounds: Bounds::new(&plan.world), idle_since: None, ended_since: None, past: Vec::new() }
    }
}

impl Family for Counts {
    fn look(&mut self, look: &Look, world: &World, found: &mut Found) {
        if !(look.number.is_multiple_of(EVERY) || look.over) {
            return;
        }
        let idle = self.is_idle(look, world);
        let mut truth = vec![Truth::default(); world.config().pods];
        for n in world.live() {
            world.each_pod(n, |k, pod| {
                let load = pod.load(k);
                own(world, n, k, pod, found);
                bounded(look, world, (n, k), pod, &load, found);
                truth[k].own += u64::from(pod.own_in_flight());
                truth[k].remainders += u64::from(pod.own_remainders());
                if idle {
                    found.judge(Rule::Leak, Some(n), Some(k), load.in_flight == 0.0 && load.cost_ms == 0.0, || {
                        let (count, cost) = (load.in_flight, load.cost_ms);
                        let whose = whose(world, n, pod);
                        format!("expected no load after the silence; got {count} in flight, {cost} ms: {whose}")
                    });
                }
            });
        }
        self.reservations(look, world, found);
        self.counted_once(look, world, found);
        self.compare(look, world, &truth, found);
    }
}

/// What is really at a pod.
#[derive(Clone, Copy, Default)]
struct Truth {
    own: u64,
    remainders: u64,
}

fn own(world: &World, n: usize, k: usize, pod: &Pod, found: &mut Found) {
    let (counted, ledger) = (pod.own_in_flight(), world.ledger(n)[k]);
    found.judge(Rule::OwnExact, Some(n), Some(k), counted == ledger, || {
        format!("expected {ledger} in flight by the ledger; got {counted}")
    });
    let (picks, ends) = (pod.picks(), pod.stats().ends());
    found.judge(Rule::TicketsBalance, Some(n), Some(k), picks == ends + u64::from(counted), || {
        format!("expected {picks} picks to be {ends} ends and what is in flight; got {counted} in flight")
    });
}

/// Whose requests node `n` believes to be at `pod`.
fn whose(world: &World, n: usize, pod: &Pod) -> String {
    let own = format!("{} of its own, {} that it cancelled", pod.own_in_flight(), pod.own_remainders());
    let shares = world.core(n).peer_shares().filter(|(_, id, _)| *id == pod.id());
    let named = shares.map(|(node, _, count)| format!(", {count} of {}", world.name_of(node)));
    own + &named.collect::<String>()
}

fn bounded(look: &Look, world: &World, (n, k): (usize, usize), pod: &Pod, load: &PodLoad, found: &mut Found) {
    let (count, cost_ms) = (f64::from(load.in_flight), f64::from(load.cost_ms));
    // Each ticket counts once while it lasts, and perhaps once more as a remainder.
    let most = (world.tally().picks[k] + world.tally().cancels[k]) as f64;
    let most = if look.weather.hostile_at.is_some() { ABSURD } else { most };
    found.judge(Rule::CountsBounded, Some(n), Some(k), count <= most && cost_ms <= ABSURD, || {
        let whose = whose(world, n, pod);
        format!("expected at most {most} in flight, all there ever were; got {count}, {cost_ms} ms: {whose}")
    });
}

/// Whether the row of everybody else who is up counts in full for node `n`.
fn all_count_in_full(world: &World, n: usize) -> bool {
    let far = |m: usize| !world.have_shared_for(Duration::ZERO, n, m);
    let full = |m: usize| far(m) || world.belief(n, m).is_some_and(|belief| belief.weight_x256 == 256);
    world.live().into_iter().all(|m| m == n || full(m))
}

impl Counts {
    fn is_idle(&mut self, look: &Look, world: &World) -> bool {
        let busy = (0..world.config().pods).any(|k| world.server(k).in_flight() > 0);
        let remains = world.tally().remains_until;
        if look.phase != Phase::Quiet || busy || world.under_way() > 0 || look.now < remains {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(look.now);
        let since = since.max(look.weather.calm_since(world));
        // A slow clock's remainder ends later by its drift.
        let drift = (remains.since(Time::ZERO) / 1_000_000).saturating_mul(world.config().drift_ppm);
        look.now.since(since) > SETTLES + self.bounds.faded(look.weather) + 2 * drift
    }

    /// A reservation stands for a request that no row tells of yet.
    fn counted_once(&mut self, look: &Look, world: &World, found: &mut Found) {
        let (weather, config) = (look.weather, world.config());
        let calm_for = look.now.since(weather.calm_since(world));
        let calm = weather.hostile_at.is_none() && !weather.replayed && calm_for > self.bounds.known;
        // A pod that is there and back before the asker's core has looked leaves nothing to tell.
        let seen = config.reaction_us <= config.hop_us;
        // Where pods refuse, the asker's row may keep a pick back until it is known not to be refused.
        let told_at_once = config.server.max_queue.is_none();
        if config.policy != Policy::Strict || !self.bounds.lossless || !calm || !seen || !told_at_once {
            return;
        }
        let most = 2 * self.bounds.way + Duration::from_micros(config.reaction_us) + Duration::from_millis(1);
        for n in world.live() {
            let oldest = world.core(n).oldest_reservation(world.local(n)).unwrap_or_default();
            found.judge(Rule::CountedOnce, Some(n), None, oldest <= most, || {
                format!("expected reservations to count for {most:?} at most; got one of {oldest:?}")
            });
        }
    }

    /// Reservations are for requests: without any, there is none.
    fn reservations(&mut self, look: &Look, world: &World, found: &mut Found) {
        if look.phase != Phase::Quiet || world.under_way() > 0 || world.config().policy != Policy::Strict {
            self.ended_since = None;
            return;
        }
        let since = (*self.ended_since.get_or_insert(look.now)).max(look.weather.calm_since(world));
        if look.now.since(since) <= SETTLES + self.bounds.way {
            return;
        }
        for n in world.live().into_iter().filter(|n| world.node_is_well(*n)) {
            let strict = world.core(n).stats().strict;
            found.judge(Rule::ReservationsEnd, Some(n), None, strict.held == 0 && strict.waiting == 0, || {
                format!("expected no reservation, as nobody asks for anything since {since:?}; got {strict:?}")
            });
        }
    }

    /// Compares each node's count of the others' requests with what there is.
    fn compare(&mut self, look: &Look, world: &World, truth: &[Truth], found: &mut Found) {
        let weather = look.weather;
        let known = self.bounds.known + self.bounds.told;
        let calm = weather.hostile_at.is_none() && look.now.since(weather.calm_since(world)) > known;
        let dead_are_gone = world.dead().all(|(_, since)| look.now.since(since) > self.bounds.detected);
        let settled = world.interests_are_older_than(self.bounds.told);
        // All of two nodes that died and came back at each other's addresses is forgotten, the way to each other too.
        let live = world.live();
        let can_meet = live.is_empty() || can_meet(&world.config().join, &live, |n| world.told_to_join(n));
        if !self.bounds.fair || !calm || !dead_are_gone || !settled || !can_meet {
            self.past.clear();
            return;
        }
        let moves = world.tally().moves.clone();
        self.past.push(Past { at: look.now, moves, remainders: truth.iter().map(|t| t.remainders).collect() });
        let news = Time::ZERO + look.now.since(Time::ZERO).saturating_sub(self.bounds.told);
        while self.past.len() > 1 && self.past[1].at <= news {
            self.past.remove(0);
        }
        if self.past[0].at > news {
            return;
        }
        for n in world.live() {
            // Two refreshes that got lost in a row make a row fade, as they should.
            if !self.bounds.lossless && !all_count_in_full(world, n) {
                continue;
            }
            let interest = world.core(n).interest().0;
            world.each_pod(n, |k, pod| {
                // Of other pods it is told nothing.
                if !interest.uses(pod.id()) {
                    return;
                }
                let own = u64::from(pod.own_in_flight()) + u64::from(pod.own_remainders());
                let others = (truth[k].own + truth[k].remainders - own) as f64;
                let believed = pod.peers_in_flight();
                let slack = self.slack(k);
                found.judge(Rule::ViewTrue, Some(n), Some(k), (believed - others).abs() <= slack as f64, || {
                    let within = self.bounds.told;
                    let whose = whose(world, n, pod);
                    format!("expected {others} in flight from others, give or take {slack} that changed within {within:?}; got {believed}: {whose}")
                });
            });
        }
    }

    /// What changed at pod `k` since news is told: tickets that came and went, remainders that may have.
    fn slack(&self, k: usize) -> u64 {
        let (first, last) = (&self.past[0], &self.past[self.past.len() - 1]);
        let remainders = self.past.iter().map(|past| past.remainders[k]).max().unwrap_or(0);
        last.moves[k] - first.moves[k] + remainders
    }
}
