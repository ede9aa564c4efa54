//! What really happened, counted where it happens, and the rules that must hold at every single event.

use std::time::Duration;

use plimsoll::gossip::wire::{Channel, MAX_DATAGRAM, MAX_STREAM};
use plimsoll::pick::Ticket;
use plimsoll::time::Time;

use super::World;
use super::ask::{Asked, End};
use crate::check::Rule;
use crate::config::Config;

/// Whoever was refused by a dead pod sends it nothing from so much later on.
const LEARNS_WITHIN: Duration = Duration::from_secs(1);
/// Requests end so much after their deadlines at the latest.
const DEADLINE_SLACK: Duration = Duration::from_secs(1);
/// Clocks drift, and a reaction takes its time.
const DECIDED_SLACK: Duration = Duration::from_millis(2);
/// A refusal may be the work of a pod that was away so much before it was asked for: nodes learn of pods one by one, and
/// what is out is asked for at most that much later.
const AWAY_BEFORE: Duration = Duration::from_secs(5);
/// Predictions are read as floats.
const ROUNDING: Duration = Duration::from_millis(1);
/// Remainders that wait to be taken in; more are missed.
const QUEUE: u64 = 4096;
/// Turns in one instant that are too many: the clock of the world would stand still.
const MOST_TURNS_AT_ONCE: u32 = 100;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    pub(crate) ended: u64,
    pub(crate) served: u64,
    /// Died with their nodes.
    pub(crate) forgotten: u64,
    /// Tickets charged, and cancelled or failed, ever, by pod.
    pub(crate) picks: Vec<u64>,
    pub(crate) cancels: Vec<u64>,
    /// Tickets charged and ended ever, by pod.
    pub(crate) moves: Vec<u64>,
    /// No remainder is predicted to end later.
    pub(crate) remains_until: Time,
    /// When each pod last did what callers may notice.
    hurt_at: Vec<Option<Time>>,
    /// When each pod last loaded or unloaded a model.
    moved_at: Vec<Option<Time>>,
    /// By node: turns by its timers, when it last was let run again, and how often it was turned in this instant.
    pub(crate) turns: Vec<u64>,
    resumed_at: Vec<Time>,
    /// By node: when it last was slow, its backlog included.
    slow_until: Vec<Time>,
    /// By node: when it last heard anything of any other.
    pub(crate) heard_at: Vec<Time>,
    at_once: Vec<(Time, u32)>,
    /// By node and pod: in which life the pod refused it first, and when.
    refused: Vec<Option<(u32, Time)>>,
}

impl Tally {
    pub(super) fn new(config: &Config) -> Tally {
        let (nodes, pods) = (config.nodes, config.pods);
        Tally {
            asked: 0,
            ended: 0,
            served: 0,
            forgotten: 0,
            picks: vec![0; pods],
            cancels: vec![0; pods],
            moves: vec![0; pods],
            remains_until: Time::ZERO,
            hurt_at: vec![None; pods],
            moved_at: vec![None; pods],
            turns: vec![0; nodes],
            resumed_at: vec![Time::ZERO; nodes],
            slow_until: vec![Time::ZERO; nodes],
            heard_at: vec![Time::ZERO; nodes],
            at_once: vec![(Time::ZERO, 0); nodes],
            refused: vec![None; nodes * pods],
        }
    }

    pub(super) fn resumed(&mut self, n: usize, now: Time) {
        self.resumed_at[n] = now;
    }

    /// Node `n` is slow, and has a backlog until then.
    pub(super) fn slow_until(&mut self, n: usize, then: Time) {
        self.slow_until[n] = self.slow_until[n].max(then);
    }

    /// Node `n` starts again, and knows nothing of what its former life learned.
    pub(super) fn forget(&mut self, n: usize) {
        let pods = self.picks.len();
        self.refused[n * pods..(n + 1) * pods].fill(None);
    }

    /// Node `n` takes pod `k` for another from now on, of which it learned nothing yet.
    pub(super) fn forget_pod(&mut self, n: usize, k: usize) {
        let pods = self.picks.len();
        self.refused[n * pods + k] = None;
    }

    /// Pod `k` loaded or unloaded a model.
    pub(super) fn moved(&mut self, k: usize, now: Time) {
        self.moved_at[k] = Some(now);
    }

    /// When pod `k` last did.
    pub(super) fn moved_at(&self, k: usize) -> Option<Time> {
        self.moved_at[k]
    }

    /// Pod `k` did something that callers may notice.
    pub(super) fn hurt(&mut self, k: usize, now: Time) {
        self.hurt_at[k] = Some(now);
    }
}

impl World {
    /// Notes that `rule` was looked at, and broken where `holds` is false.
    pub(crate) fn judge(
        &mut self,
        rule: Rule,
        node: Option<usize>,
        pod: Option<usize>,
        holds: bool,
        what: impl FnOnce() -> String,
    ) {
        self.marks.add(rule, 1);
        if !holds {
            self.fail(rule.id(), node, pod, what());
        }
    }

    /// Node `n` charged `ticket` on pod `k`.
    pub(super) fn tally_pick(&mut self, n: usize, k: usize, ticket: &Ticket, model: usize, tried: bool) {
        self.tally.picks[k] += 1;
        self.tally.moves[k] += 1;
        let models = &ticket.pod().spec().models;
        let serves = models.is_empty() || models.contains(&self.model_name(model));
        self.judge(Rule::Serves, Some(n), Some(k), serves && !tried, || {
            format!("expected a pod that serves model {model} and was not tried; got {models:?}, tried: {tried}")
        });
        let pod = &self.pods[k];
        if !pod.up
            && let Some((life, at)) = self.tally.refused[n * self.pods.len() + k]
            && life == pod.life
        {
            let known_out = ticket.pod().is_ejected();
            let late = self.now.since(at) > LEARNS_WITHIN;
            self.judge(Rule::DeadPodTraffic, Some(n), Some(k), known_out || !late, || {
                format!("expected no request: it refused at {at:?} and is dead since; got one, and it is not out")
            });
        }
    }

    /// A ticket of node `n`'s was cancelled or failed at pod `k`, where so many remainders were counted before and after.
    pub(super) fn tally_remainder(
        &mut self,
        (n, k): (usize, usize),
        (before, after): (u32, u32),
        costs_ms: f64,
        predicted_end: Time,
    ) {
        let left = predicted_end.since(self.local(n));
        self.tally.remains_until = self.tally.remains_until.max(self.now + left);
        if costs_ms >= 1.0 && left > ROUNDING + left / 1000 && self.tally.cancels.iter().sum::<u64>() < QUEUE {
            self.judge(Rule::Remains, Some(n), Some(k), after == before + 1, || {
                format!("expected a remainder of {costs_ms} ms until in {left:?}; got {before}, then {after}")
            });
        }
    }

    /// Node `n` was refused by pod `k`, where nobody listens.
    pub(super) fn tally_refused(&mut self, n: usize, k: usize) {
        let (now, life) = (self.now, self.pods[k].life);
        let entry = &mut self.tally.refused[n * self.pods.len() + k];
        if entry.is_none_or(|(before, _)| before != life) {
            *entry = Some((life, now));
        }
    }

    /// Whether callers may give up.
    fn can_cancel(&self) -> bool {
        self.config.clients.cancel > crate::rng::Share::NEVER || self.config.clients.deadline_ms.is_some()
    }

    /// A request ended, like that.
    pub(super) fn tally_end(&mut self, asked: &Asked, end: End) {
        self.tally.ended += 1;
        self.tally.served += u64::from(end == End::Served);
        let (n, k, took) = (asked.node, asked.pod, self.now.since(asked.asked_at));
        let had_cause = match end {
            End::Served => true,
            // Who picks elsewhere depends on others.
            _ if self.outside.is_some() => true,
            End::Cancelled => self.can_cancel(),
            // A caller may fail for want of a store's answer; under that policy it is the store's fault, not the product's.
            End::Failed => self.outside.is_some() || self.hurt_since(k, asked.asked_at),
            End::Refused => {
                let since = Time::ZERO + asked.asked_at.since(Time::ZERO).saturating_sub(AWAY_BEFORE);
                self.config.server.max_queue.is_some() || (0..self.pods.len()).any(|k| self.hurt_since(k, since))
            }
        };
        self.judge(Rule::Blameless, Some(n), Some(k), had_cause, || {
            format!("expected an answer, as nothing was wrong with the pods; got {end:?} after {took:?}")
        });
        if let Some(deadline) = self.config.clients.deadline_ms.map(Duration::from_millis) {
            let stopped = self.tally.resumed_at[n] > asked.asked_at;
            self.judge(Rule::InTime, Some(n), Some(k), stopped || took <= deadline + DEADLINE_SLACK, || {
                format!("expected an end within {deadline:?} and 1 s; got {end:?} after {took:?}")
            });
        }
    }

    /// Node `n` was asked for a strict pick at `since`, and has it.
    pub(super) fn tally_decided(&mut self, n: usize, since: Time) {
        let (took, timeout) = (self.now.since(since), Duration::from_micros(self.config.strict.timeout_us));
        // Stopped, or with a backlog, it decides when it gets round to it.
        let excused = !self.node_is_well(n) || self.tally.resumed_at[n] >= since || self.tally.slow_until[n] >= since;
        if !excused {
            self.judge(Rule::Decided, Some(n), None, took <= timeout + DECIDED_SLACK, || {
                format!("expected a pick within {timeout:?}; got it after {took:?}")
            });
        }
    }

    fn hurt_since(&self, k: usize, then: Time) -> bool {
        let pod = &self.pods[k];
        let away = !pod.up || pod.announced != Some(pod.incarnation);
        away || !pod.ills.are_well()
            || pod.errors > crate::rng::Share::NEVER
            || self.tally.hurt_at[k].is_some_and(|at| at >= then)
    }

    /// Node `n`'s timers were handled at its time `local`.
    pub(super) fn tally_timer(&mut self, n: usize, next: Time, local: Time) {
        self.tally.turns[n] += 1;
        let (now, (at, turns)) = (self.now, self.tally.at_once[n]);
        let turns = if at == now { turns + 1 } else { 1 };
        self.tally.at_once[n] = (now, turns);
        self.judge(Rule::NoSpin, Some(n), None, next > local && turns < MOST_TURNS_AT_ONCE, || {
            format!("expected the next timer after {local:?}; got {next:?}, {turns} turns in one instant")
        });
    }

    pub(super) fn tally_send(&mut self, n: usize, channel: Channel, bytes: usize) {
        let most = if channel == Channel::Datagram { MAX_DATAGRAM } else { MAX_STREAM };
        self.judge(Rule::Fits, Some(n), None, bytes <= most, || {
            format!("expected at most {most} bytes; got {bytes} for one {channel:?}")
        });
    }
}
