//! The fleet of a seed: how many callers and pods, how loaded, what they ask for, how bad its links are on a good day.

use std::time::Duration;

use plimsoll::core::SUBSET;
use plimsoll::pick::PolicyKind;

use super::Draw;
use crate::arrivals::Arrivals;
use crate::config::{Clients, Config, Costs, Join, Strict};
use crate::law::Law;
use crate::link::Link;
use crate::policy::Policy;
use crate::rng::Share;
use crate::server::{BatchLaw, Batching, ServerSpec};

/// What a plan is about before anything goes wrong.
pub(super) struct Shape {
    pub(super) world: Config,
    pub(super) form_ms: u64,
    pub(super) ask_ms: u64,
}

/// The shape of `seed`'s fleet; a small one if `lite`.
pub(super) fn draw(seed: u64, lite: bool) -> Shape {
    let mut size = Draw::new(seed, "plan/size", 0);
    let nodes = match size.range(0, 31) {
        _ if lite => size.range(2, 6),
        0 => size.range(25, 48),
        _ => size.range(2, 24),
    } as usize;
    let pods = size.range(1, if lite { 8 } else { 48 }) as usize;
    // More slots than this in all, and requests would have to be rare or last for minutes.
    let slots = [1, 1, 1, 2, 4, 8][size.range(0, 5) as usize].min(96 / pods as u64).max(1) as u32;
    let arrivals = arrivals(&mut Draw::new(seed, "plan/arrivals", 0));
    let clients = clients(&mut Draw::new(seed, "plan/clients", 0), pods);
    let load = size.range(20, 95) as f64 / 100.0;
    // What comes must be gone some day: spikes are on top of the load, and a model has only the pods that serve it.
    let most = 0.95 * clients.served_by.as_f64() / arrivals.mean_rate();
    let rate = size.scale(20, if lite { 60 } else { 300 });
    let load = load.min(most);
    let mean_ms = load * pods as f64 * f64::from(slots) * 1000.0 / rate as f64;
    let mean_ms = ((mean_ms * 10.0) as u64).clamp(10, 5000) as f64 / 10.0;
    let policy = match size.range(0, 3) {
        0 => Policy::Product(*size.0.pick(&PolicyKind::ALL)),
        _ => Policy::default(),
    };
    let (policy, strict) = strict(&mut Draw::new(seed, "plan/strict", 0), policy);
    let mut world = Config {
        seed,
        nodes,
        pods,
        policy,
        load,
        law: law(&mut Draw::new(seed, "plan/law", 0), mean_ms),
        server: ServerSpec { slots, ..server(&mut Draw::new(seed, "plan/server", 0), mean_ms) },
        arrivals,
        clients,
        link: if lite { Link::default() } else { link(&mut Draw::new(seed, "plan/link", 0)) },
        join: join(&mut Draw::new(seed, "plan/join", 0), nodes),
        strict,
        subset: subset(&mut Draw::new(seed, "plan/subset", 0)),
        gauges: Draw::new(seed, "plan/gauges", 0).coin(),
        slow_start_ms: *Draw::new(seed, "plan/slow-start", 0).0.pick(&[0, 1000, 10_000]),
        ..Config::default()
    };
    relays(&mut Draw::new(seed, "plan/relays", 0), &mut world);
    times(&mut Draw::new(seed, "plan/times", 0), &mut world);
    let mut length = Draw::new(seed, "plan/length", 0);
    let form_ms = if length.coin() { 2000 } else { length.range(0, 4) * 1000 };
    let ask_ms = length.scale(INPUTS.0, INPUTS.1) * 1000 / inputs_per_s(&world);
    Shape { world, form_ms, ask_ms: ask_ms.clamp(4000, 40_000) }
}

/// A third of those that pick by the default pick strictly.
fn strict(draw: &mut Draw, policy: Policy) -> (Policy, Strict) {
    let on = draw.range(0, 2) == 0 && policy == Policy::default();
    let strict = Strict { timeout_us: draw.scale(1000, 30_000), shards: draw.scale(1, 16) as u16 };
    (if on { Policy::Strict } else { policy }, strict)
}

/// A plan's asking is as long as makes about so many inputs: all kinds of fleets get their share of the time.
const INPUTS: (u64, u64) = (10_000, 80_000);

/// About how many inputs a second of `world` takes: each request twice, and each time news of it to every other node, as
/// far as the budgets go.
fn inputs_per_s(world: &Config) -> u64 {
    let mean = world.law.load().map_or(Duration::from_millis(20), |sizes| sizes.mean());
    let requests = world.load * world.pods as f64 * f64::from(world.server.slots) / mean.as_secs_f64();
    let (nodes, requests) = (world.nodes as u64, requests as u64);
    let news = (2 * requests * (nodes - 1)).min(nodes * world.budget_bits / 1500);
    (3 * requests + news + 20 * nodes).max(1)
}

/// Fleets of the swarm's size would not leave pods out by themselves.
fn subset(draw: &mut Draw) -> usize {
    draw.maybe(|draw| draw.range(1, 16) as usize).unwrap_or(SUBSET)
}

/// Nor would they have users enough for relays, or use them.
fn relays(draw: &mut Draw, world: &mut Config) {
    if let Some(direct) = draw.maybe(|draw| draw.range(1, 16) as usize) {
        (world.direct, world.always_relay) = (direct, true);
    }
}

fn times(draw: &mut Draw, world: &mut Config) {
    world.budget_bits = draw.scale(64_000, 4_000_000);
    world.reaction_us = draw.maybe(|draw| draw.range(0, 500)).unwrap_or(20);
    world.drift_ppm = draw.maybe(|draw| draw.scale(10, 500)).unwrap_or(0) as u32;
    world.hop_us = draw.scale(50, 5000);
    world.hop_jitter_us = draw.scale(1, 10_000);
    if let Some(cold) = draw.maybe(|draw| draw.range(1, 50)) {
        world.cold_requests = cold as u32;
    }
    world.cold_percent = draw.scale(200, 5000) as u32;
}

fn law(draw: &mut Draw, mean_ms: f64) -> Law {
    let (kind, sigma, predictable) = (draw.range(0, 4), draw.range(1, 15) as f64 / 10.0, draw.coin());
    let heavy = draw.share(10_000, 400_000);
    match kind {
        0 | 1 => {
            // Heavy ones take 24 times as long, as in the mix that the default policy was measured on.
            let small_ms = mean_ms / (1.0 + 23.0 * heavy.as_f64());
            Law::Bimodal { small_ms, heavy_ms: 24.0 * small_ms, heavy, sigma: sigma / 3.0 }
        }
        2 => Law::Lognormal { mean_ms, sigma, predictable },
        3 => Law::Exponential { mean_ms, predictable },
        _ => Law::Constant { mean_ms },
    }
}

fn arrivals(draw: &mut Draw) -> Arrivals {
    let (kind, swing, dwell_ms) = (draw.range(0, 3), draw.share(100_000, 1_000_000), draw.scale(20, 2000));
    let (factor, every_ms, lasts) = (draw.range(2, 8) as u32, draw.range(1000, 8000), draw.range(2, 20));
    match kind {
        0 => Arrivals::Bursty { swing, dwell_ms },
        1 => Arrivals::Spikes { factor, every_ms, lasts_ms: every_ms / lasts },
        _ => Arrivals::Poisson,
    }
}

fn clients(draw: &mut Draw, pods: usize) -> Clients {
    let usual = Clients::default();
    let served_by = draw.maybe(|draw| draw.share(250_000, 900_000)).filter(|_| pods > 1);
    let models = draw.maybe(|draw| draw.range(2, 6)).unwrap_or(1) as usize;
    Clients {
        costs: if draw.coin() { Costs::Given } else { Costs::Learned },
        cost_error: draw.maybe(|draw| draw.range(1, 10) as f64 / 10.0).unwrap_or(0.0),
        cancel: draw.maybe(|draw| draw.share(10_000, 500_000)).unwrap_or(usual.cancel),
        deadline_ms: draw.maybe(|draw| draw.scale(20, 5000)),
        retries: draw.range(0, 3) as u32,
        zipf: draw.maybe(|draw| draw.range(1, 2) as u32).filter(|_| draw.coin()).unwrap_or(0),
        models,
        served_by: served_by.unwrap_or(usual.served_by),
        ..usual
    }
}

fn server(draw: &mut Draw, mean_ms: f64) -> ServerSpec {
    let max_queue = draw.maybe(|draw| draw.scale(1, 64) as u32);
    let batching = draw.maybe(|draw| batching(draw, mean_ms)).filter(|_| draw.coin());
    let speed = |draw: &mut Draw| draw.range(50, 200) as u32;
    let speeds = draw.maybe(|draw| vec![speed(draw), speed(draw), 100]).filter(|_| draw.coin()).unwrap_or_default();
    ServerSpec { max_queue, batching, speeds, drops_cancelled: draw.coin(), ..ServerSpec::default() }
}

fn batching(draw: &mut Draw, mean_ms: f64) -> Batching {
    let per = draw.range(1, 8) as f64 / 10.0;
    let padded = BatchLaw::Padded { slope: draw.range(0, 8) as f64 / 10.0 };
    // One alone takes as long as without batching, many take less.
    let additive = BatchLaw::Additive { fixed_ms: mean_ms * (1.0 - per), per };
    let law = if draw.coin() { padded } else { additive };
    let queue_delay = draw.maybe(|draw| Duration::from_micros(draw.scale(100, 10_000))).unwrap_or_default();
    Batching { max: draw.range(2, 16) as u32, queue_delay, law }
}

/// On a good day: what is worse strikes as a fault, and passes.
fn link(draw: &mut Draw) -> Link {
    let usual = Link::default();
    let never = Share::NEVER;
    Link {
        delay_us: draw.scale(20, 10_000),
        jitter_us: draw.scale(1, 20_000),
        loss: draw.maybe(|draw| draw.share(1000, 50_000)).unwrap_or(never),
        burst: draw.maybe(|draw| draw.share(1000, 20_000)).unwrap_or(never),
        burst_ms: draw.scale(20, 1000),
        burst_loss: draw.share(500_000, 1_000_000),
        duplicate: draw.maybe(|draw| draw.share(1000, 500_000)).unwrap_or(never),
        corrupt: draw.maybe(|draw| draw.share(1000, 20_000)).unwrap_or(never),
        spike: draw.maybe(|draw| draw.share(100, 10_000)).unwrap_or(never),
        spike_ms: draw.scale(10, 1000),
        ..usual
    }
}

fn join(draw: &mut Draw, nodes: usize) -> Join {
    let few = draw.range(1, 3) as usize;
    match draw.range(0, 7) {
        0 => Join::First(few),
        1 => Join::Ring,
        2 => Join::Some(few),
        3 => Join::Lists(tree(draw, nodes)),
        _ => Join::All,
    }
}

/// Every node but one is told of one other, or is the only one that the other is told of: as little as can make one
/// cluster.
fn tree(draw: &mut Draw, nodes: usize) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); nodes];
    let order = draw.some_of(nodes, nodes);
    for k in 1..nodes {
        let (one, other) = (order[k], order[draw.range(0, k as u64 - 1) as usize]);
        if draw.coin() {
            lists[one].push(other);
        } else {
            lists[other].push(one);
        }
    }
    lists
}
