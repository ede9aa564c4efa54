//! Picks: no pod starves, no herd, a grey pod is left alone, one that is back is used.

use std::time::Duration;

use plimsoll::pick::{PolicyKind, Rung};
use plimsoll::time::Time;

use super::{Family, Found, Look, Rule};
use crate::arrivals::Arrivals;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::rng::Share;
use crate::run::Phase;
use crate::world::{Done, End, World};

/// Shares are taken over windows of this length at least, after as long a calm, with so many requests for each pod: at 40
/// expected, chance gives 4 or fewer once in 10^12.
const WINDOW: Duration = Duration::from_secs(5);
const PER_POD: u64 = 40;
/// The half-life of what is known of a pod's speed is a minute; what is left after three says nothing any more.
const SPEED_REMEMBERED: Duration = Duration::from_secs(180);
/// A pod must get this share of the mean.
const LEAST_SHARE: f64 = 0.1;
/// Waits are worse than by chance when they are longer than this many times, and so much more.
const WORSE: f64 = 2.0;
const WORSE_MS: f64 = 20.0;
/// Waits by chance grow beyond all bounds towards a full load, and in a few seconds a few pods may have bad luck.
const MOST_BUSY: f64 = 0.8;
const MANY_PODS: usize = 6;
/// A grey pod takes this many percent or more; nodes learn it within this long; then it gets at most this share of so many
/// requests for each pod.
const GREY_PERCENT: u32 = 1000;
const LEARNED: Duration = Duration::from_secs(5);
const GREY_SHARE: f64 = 0.5;
const GREY_PER_POD: u64 = 20;
/// Pods that are well are readmitted: asked at most 2 s apart, after at most 1 s without an answer.
const READMITTED: Duration = Duration::from_secs(5);

pub(super) struct Picks {
    /// Whether pods are alike for every request, and picks are the product's.
    even: bool,
    /// Whether a pod is at work while a node thinks so: when one that was cancelled is through is only guessed.
    known_busy: bool,
    /// Whether waits by chance are known in closed form.
    closed_form: bool,
    window: Option<Window>,
    grey: Vec<Grey>,
}

/// A stretch of calm.
struct Window {
    since: Time,
    picks: Vec<u64>,
    busy: Vec<Duration>,
    done: usize,
    under_way: usize,
}

/// A pod that is slow for a while, from when nodes should know.
struct Grey {
    pod: usize,
    from: Time,
    to: Time,
    picks: Option<Vec<u64>>,
}

impl Picks {
    pub(super) fn new(plan: &Plan) -> Picks {
        let config = &plan.world;
        let default = matches!(config.policy, Policy::Product(PolicyKind::Plimsoll) | Policy::Strict);
        let even = default && config.clients.served_by == Share::ALWAYS;
        let alone = config.server.batching.is_none() && config.clients.deadline_ms.is_none();
        let closed_form = alone && config.arrivals == Arrivals::Poisson && config.clients.cost_error <= 1.0;
        let room = config.load * config.pods as f64 <= 0.8 * (config.pods as f64 - 1.0) && config.load >= 0.4;
        let may_be_grey = even && closed_form && room && config.pods >= 3;
        let ms = Duration::from_millis;
        let grey = plan.faults.iter().filter_map(|planned| match planned.fault {
            Fault::PodSlow { pod, percent, for_ms } if percent >= GREY_PERCENT && may_be_grey => {
                let began = Time::ZERO + ms(plan.form_ms + planned.at_ms);
                let to = began + ms(for_ms).min(ms(plan.ask_ms.saturating_sub(planned.at_ms)));
                Some(Grey { pod, from: began + LEARNED, to, picks: None })
            }
            _ => None,
        });
        let known_busy = config.clients.deadline_ms.is_none() && config.clients.cancel == Share::NEVER;
        Picks { even, known_busy, closed_form, window: None, grey: grey.collect() }
    }
}

impl Family for Picks {
    fn look(&mut self, look: &Look, world: &World, found: &mut Found) {
        let asking = matches!(look.phase, Phase::Asking | Phase::Living);
        if self.even && asking {
            self.look_at_window(look, world, found);
            self.look_at_grey(look, world, found);
        } else {
            self.window = None;
        }
        if look.number.is_multiple_of(10) {
            readmitted(look, world, found);
        }
    }
}

impl Picks {
    fn look_at_window(&mut self, look: &Look, world: &World, found: &mut Found) {
        let usual = by_the_view(world) && all_are_fit(world);
        let calm = look.weather.hostile_at.is_none() && world.dead().count() == 0 && usual;
        let calm_for = look.now.since(look.weather.calm_since(world));
        let began = || Window {
            since: look.now,
            picks: world.tally().picks.clone(),
            busy: world.busy(),
            done: world.done.len(),
            under_way: world.under_way(),
        };
        let pods_are_up = (0..world.config().pods).all(|k| world.pod_is_itself(k));
        if !calm || !pods_are_up || calm_for < WINDOW {
            self.window = None;
            return;
        }
        let window = self.window.get_or_insert_with(began);
        let picked: u64 = world.tally().picks.iter().zip(&window.picks).map(|(now, then)| now - then).sum();
        let lasted = look.now.since(window.since);
        if lasted < WINDOW || picked < PER_POD * world.config().pods as u64 {
            return;
        }
        if self.known_busy {
            starvation(look, window, world, picked, found);
        }
        // What waited when it began would be counted as this window's doing.
        let pods = world.config().pods;
        if self.closed_form && pods >= MANY_PODS && window.under_way <= pods {
            herd(&world.done[window.done..], window.since, lasted, world, found);
        }
        self.window = Some(began());
    }

    fn look_at_grey(&mut self, look: &Look, world: &World, found: &mut Found) {
        for grey in self.grey.iter_mut().filter(|grey| look.now >= grey.from) {
            let usual = by_the_view(world) && all_are_fit(world);
            let calm = grey_alone(look, world, grey.pod) && usual && look.weather.hostile_at.is_none();
            if look.now > grey.to || !calm {
                grey.picks = None;
                continue;
            }
            let then = grey.picks.get_or_insert_with(|| world.tally().picks.clone());
            let since: Vec<u64> = world.tally().picks.iter().zip(then.iter()).map(|(now, then)| now - then).collect();
            let (all, mine) = (since.iter().sum::<u64>(), since[grey.pod]);
            if all < GREY_PER_POD * since.len() as u64 {
                continue;
            }
            let fair = all as f64 / since.len() as f64;
            found.judge(Rule::GreyPod, None, Some(grey.pod), mine as f64 <= GREY_SHARE * fair, || {
                format!("expected at most half of {fair} requests, as it is slow; got {mine}")
            });
            grey.picks = None;
        }
    }
}

/// Whether picks go by the view, on every node.
fn by_the_view(world: &World) -> bool {
    world.live().into_iter().all(|n| world.core(n).picker().rung() == Rung::Fill)
}

/// Whether nothing is held against any pod, on every node.
fn all_are_fit(world: &World) -> bool {
    let mut fit = true;
    world.live().into_iter().for_each(|n| world.each_pod(n, |_, pod| fit &= pod.is_fit()));
    fit
}

/// Whether nothing is wrong, and has been wrong of late, but pod `grey`.
fn grey_alone(look: &Look, world: &World, grey: usize) -> bool {
    let weather = look.weather;
    let long_ago = |then: Time| look.now.since(then) > LEARNED;
    let nodes = (0..world.config().nodes).all(|n| world.node_is_well(n) && long_ago(weather.node_well_since(n)));
    let pods = (0..world.config().pods).filter(|k| *k != grey).all(|k| long_ago(weather.pod_well_since(k)));
    nodes && pods && long_ago(weather.links_well_since()) && long_ago(weather.surge_since()) && world.pod_is_up(grey)
}

fn starvation(look: &Look, window: &Window, world: &World, picked: u64, found: &mut Found) {
    // While a faster pod is free, a slower one should get nothing.
    if !world.config().server.speeds.is_empty() {
        return;
    }
    let pods = window.picks.len();
    let busy: Vec<f64> =
        world.busy().iter().zip(&window.busy).map(|(now, then)| now.saturating_sub(*then).as_secs_f64()).collect();
    let (fair, mean_busy) = (picked as f64 / pods as f64, busy.iter().sum::<f64>() / pods as f64);
    for (k, busy) in busy.into_iter().enumerate() {
        // And one that was slow is believed to be until that is forgotten.
        if look.weather.pod_slow_until(k).is_some_and(|until| look.now.since(until) < SPEED_REMEMBERED) {
            continue;
        }
        let got = (world.tally().picks[k] - window.picks[k]) as f64;
        let fed = got >= LEAST_SHARE * fair || busy >= LEAST_SHARE * mean_busy;
        found.judge(Rule::Starvation, None, Some(k), fed, || {
            format!("expected at least {LEAST_SHARE} of {fair} requests; got {got}, busy {busy} s of {mean_busy}")
        });
    }
}

/// Compares the mean wait with that of a pod that is picked by chance: rho E[S²] / (2 E[S] (1 - rho)).
fn herd(done: &[Done], since: Time, lasted: Duration, world: &World, found: &mut Found) {
    let served = || done.iter().filter(|done| done.end == End::Served && done.asked_at >= since);
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let count = served().count().max(1) as f64;
    let sum: f64 = served().map(|done| ms(done.served)).sum();
    let squares: f64 = served().map(|done| ms(done.served) * ms(done.served)).sum();
    let slots = world.config().pods as f64 * f64::from(world.config().server.slots);
    let rho = sum / (ms(lasted) * slots);
    if rho <= 0.0 || rho > MOST_BUSY {
        return;
    }
    let hops = 2.0 * (world.config().hop_us as f64 + 0.5 * world.config().hop_jitter_us as f64) / 1e3;
    let wait = served().map(|done| ms(done.took.saturating_sub(done.served))).sum::<f64>() / count - hops;
    let chance = rho * squares / (2.0 * sum * (1.0 - rho));
    found.judge(Rule::Herd, None, None, wait <= WORSE * chance + WORSE_MS, || {
        format!("expected a mean wait of at most {WORSE} x {chance} ms, as by chance, and {WORSE_MS}; got {wait} ms")
    });
}

fn readmitted(look: &Look, world: &World, found: &mut Found) {
    for n in world.live().into_iter().filter(|n| world.node_is_well(*n)) {
        let node_well = look.weather.node_well_since(n);
        world.each_pod(n, |k, pod| {
            if pod.is_ejected() && world.pod_is_itself(k) {
                let well_for = look.now.since(look.weather.pod_well_since(k).max(node_well));
                found.judge(Rule::Readmitted, Some(n), Some(k), well_for <= READMITTED, || {
                    format!("expected it to be picked again, as it is well for {well_for:?}; got it still out")
                });
            }
        });
    }
}
