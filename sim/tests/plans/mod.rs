//! Plans by chance, for testing the checkers: small worlds, in which each kind of fault is on or off by itself.

use plimsoll_sim::arrivals::Arrivals;
use plimsoll_sim::fault::{Fault, Trick};
use plimsoll_sim::law::Law;
use plimsoll_sim::plan::{Ending, Plan};
use plimsoll_sim::server::{Batching, ServerSpec};
use plimsoll_sim::{Clients, Config, Costs, Join, Link, Rng, Share};

/// A plan that `seed` draws.
pub(crate) fn mixed(seed: u64) -> Plan {
    let mut chance = Rng::new(seed, "mixed plans", 0);
    let world = world(seed, &mut chance);
    let ask_ms = 8_000 + chance.below(25_000);
    let mut plan = Plan::new("mixed", world, ask_ms);
    plan.ending = ending(&plan.world, &mut chance);
    let kinds: Vec<u64> = (0..KINDS).filter(|_| chance.below(3) == 0).collect();
    let count = if kinds.is_empty() || chance.below(6) == 0 { 0 } else { 1 + chance.below(14) };
    for _ in 0..count {
        let kind = *chance.pick(&kinds);
        let fault = fault(kind, &plan.world, &mut chance);
        plan = plan.with(chance.below(ask_ms), fault);
    }
    plan
}

fn one_in(chance: &mut Rng, n: u64) -> bool {
    chance.below(n) == 0
}

fn up_to(chance: &mut Rng, share: u64) -> Share {
    Share::millionths(chance.below(share) as u32)
}

fn world(seed: u64, chance: &mut Rng) -> Config {
    let nodes = 1 + chance.below(12) as usize;
    let pods = 1 + chance.below(12) as usize;
    let joins = [Join::All, Join::All, Join::Ring, Join::First(1), Join::First(2), Join::Some(2)];
    let laws = [
        Law::default(),
        Law::default(),
        Law::Exponential { mean_ms: 20.0, predictable: false },
        Law::Lognormal { mean_ms: 15.0, sigma: 1.0, predictable: true },
        Law::Constant { mean_ms: 10.0 },
    ];
    let arrivals = [
        Arrivals::Poisson,
        Arrivals::Poisson,
        Arrivals::Bursty { swing: Share::millionths(500_000), dwell_ms: 200 },
        Arrivals::Spikes { factor: 4, every_ms: 5000, lasts_ms: 500 },
    ];
    Config {
        seed,
        nodes,
        pods,
        load: *chance.pick(&[0.1, 0.3, 0.5, 0.7, 0.85, 0.95]),
        budget_bits: *chance.pick(&[1_000_000, 1_000_000, 1_000_000, 100_000, 10_000_000]),
        join: chance.pick(&joins).clone(),
        drift_ppm: *chance.pick(&[0, 0, 500, 20_000]),
        law: chance.pick(&laws).clone(),
        arrivals: chance.pick(&arrivals).clone(),
        clients: clients(chance),
        link: link(chance),
        server: server(chance),
        ..Config::default()
    }
}

fn clients(chance: &mut Rng) -> Clients {
    let models = *chance.pick(&[1, 1, 1, 4]);
    Clients {
        costs: *chance.pick(&[Costs::Learned, Costs::Given]),
        cost_error: *chance.pick(&[0.0, 0.5]),
        cancel: if one_in(chance, 3) { up_to(chance, 300_000) } else { Share::NEVER },
        deadline_ms: one_in(chance, 4).then(|| 50 + chance.below(2000)),
        retries: chance.below(3) as u32,
        insist: one_in(chance, 6),
        bytes_tell: if one_in(chance, 6) { up_to(chance, 999_999) } else { Share::ALWAYS },
        tell_costs: !one_in(chance, 6),
        zipf: if one_in(chance, 6) { 1 } else { 0 },
        models,
        served_by: if models > 1 && one_in(chance, 2) { Share::millionths(400_000) } else { Share::ALWAYS },
    }
}

fn link(chance: &mut Rng) -> Link {
    let mut link = Link::default();
    if one_in(chance, 3) {
        link.loss = up_to(chance, 100_000);
    }
    if one_in(chance, 5) {
        link.duplicate = up_to(chance, 300_000);
    }
    if one_in(chance, 6) {
        (link.spike, link.spike_ms) = (up_to(chance, 50_000), chance.below(500));
    }
    if one_in(chance, 6) {
        (link.burst, link.burst_ms) = (up_to(chance, 100_000), 50 + chance.below(1000));
    }
    if one_in(chance, 8) {
        link.corrupt = up_to(chance, 20_000);
    }
    if one_in(chance, 5) {
        (link.delay_us, link.jitter_us) = (chance.below(60_000), chance.below(60_000));
    }
    link
}

fn server(chance: &mut Rng) -> ServerSpec {
    ServerSpec {
        slots: *chance.pick(&[1, 1, 1, 2, 4]),
        max_queue: one_in(chance, 4).then(|| 1 + chance.below(20) as u32),
        batching: one_in(chance, 5).then(Batching::default),
        speeds: if one_in(chance, 4) { vec![50 + chance.below(100) as u32, 100] } else { Vec::new() },
        drops_cancelled: one_in(chance, 2),
    }
}

fn ending(world: &Config, chance: &mut Rng) -> Ending {
    let some = |of: usize, chance: &mut Rng| {
        let kept: Vec<usize> = (0..of).filter(|_| chance.below(3) > 0).collect();
        if one_in(chance, 3) { Vec::new() } else { kept }
    };
    Ending {
        live_ms: *chance.pick(&[0, 15_000, 25_000, 30_000]),
        nodes: some(world.nodes, chance),
        pods: some(world.pods, chance),
        quiet_ms: 30_000,
    }
}

const KINDS: u64 = 21;

fn fault(kind: u64, world: &Config, chance: &mut Rng) -> Fault {
    let (node, pod) = (chance.below(world.nodes as u64) as usize, chance.below(world.pods as u64) as usize);
    let other = |chance: &mut Rng| chance.below(world.nodes as u64 - 1) as usize;
    let for_ms = match chance.below(3) {
        0 => chance.below(200),
        1 => chance.below(3_000),
        _ => chance.below(15_000),
    };
    let lone = world.nodes == 1;
    let pair = |chance: &mut Rng| {
        let to = other(chance);
        (node, if to >= node { to + 1 } else { to })
    };
    match kind {
        0 => Fault::NodeCrash { node, for_ms, clock_back: one_in(chance, 3) },
        1 => Fault::NodeRestart { node, for_ms },
        2 if !lone => {
            let (node, with) = pair(chance);
            Fault::NodeSwap { node, with, for_ms }
        }
        3 => Fault::NodePause { node, for_ms },
        4 => Fault::NodeSlow { node, us: chance.below(3_000), for_ms },
        5 if !lone => {
            let (from, to) = pair(chance);
            Fault::Wall { from, to, for_ms }
        }
        6 => Fault::Partition { group: (0..world.nodes).filter(|_| one_in(chance, 2)).collect(), for_ms },
        7 if !lone => {
            let (from, to) = pair(chance);
            Fault::Clog { from, to, for_ms: for_ms.min(5_000) }
        }
        8 => Fault::Loss { share: up_to(chance, 600_000), for_ms },
        9 => Fault::Delay { add_ms: chance.below(300), for_ms },
        10 => Fault::Replay { node, count: chance.below(100) as u32 },
        11 => Fault::Hostile { node, trick: *chance.pick(&Trick::ALL), count: 1 + chance.below(10) as u32 },
        12 => Fault::PodCrash { pod, for_ms },
        13 => Fault::PodHang { pod, for_ms },
        14 => Fault::PodSlow { pod, percent: 200 + chance.below(5_000) as u32, for_ms },
        15 => Fault::PodErrors { pod, share: up_to(chance, 1_000_000), for_ms },
        16 => Fault::PodReplace { pod, for_ms, spread_ms: chance.below(3_000) },
        17 => Fault::ModelHole { pod, model: chance.below(8) as usize, after_ms: chance.below(2_000), for_ms },
        18 => Fault::ModelUnload { pod, model: chance.below(8) as usize, for_ms },
        19 => Fault::PodDrain { pod, spread_ms: chance.below(3_000), for_ms },
        _ => Fault::Surge { percent: chance.below(400) as u32, for_ms: for_ms.min(5_000) },
    }
}
