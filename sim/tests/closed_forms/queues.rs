//! One pod: M/M/1, M/M/c, M/D/1, M/G/1, batches; and what holds for any world: Little's law, and busy shares.

use std::time::Duration;

use plimsoll::pick::PolicyKind;
use plimsoll::time::Time;
use plimsoll_sim::law::Law;
use plimsoll_sim::measure::{Measured, measure};
use plimsoll_sim::plan::Plan;
use plimsoll_sim::server::{BatchLaw, Batching, ServerSpec};
use plimsoll_sim::{Config, Done, Policy, Share, World};

use crate::estimate::{Estimate, Table, effort};

/// Mean service of every law here, ms.
pub(crate) const MEAN_MS: f64 = 10.0;

pub(crate) fn exponential() -> Law {
    Law::Exponential { mean_ms: MEAN_MS, predictable: false }
}

/// One caller, and hops that take no time.
pub(crate) fn config(policy: PolicyKind, pods: usize, load: f64, law: Law) -> Config {
    let policy = Policy::Product(policy);
    Config { seed: 3, nodes: 1, pods, policy, load, law, hop_us: 0, hop_jitter_us: 0, ..Config::default() }
}

/// Plays about so many requests (times [`effort`]), and returns all but the first tenth in the order in which they were asked for.
pub(crate) fn play(config: Config, requests: f64) -> (Vec<Done>, Measured) {
    let slots = config.pods as f64 * f64::from(config.server.slots);
    let mean_ms = config.law.load().expect("a good law").mean().as_secs_f64() * 1e3;
    let ask_ms = requests * effort() * mean_ms / config.load / slots;
    let (mut measured, _) = measure(&Plan::new("steady", config, ask_ms as u64));
    let mut done = std::mem::take(&mut measured.done);
    done.sort_by_key(|done| done.asked_at);
    (done, measured)
}

pub(crate) fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

pub(crate) fn waits(done: &[Done]) -> Vec<f64> {
    done.iter().map(|done| ms(done.took - done.served)).collect()
}

pub(crate) fn sojourns(done: &[Done]) -> Vec<f64> {
    done.iter().map(|done| ms(done.took)).collect()
}

/// Of each request, whether `of` holds: their mean is a share.
pub(crate) fn share(done: &[Done], of: impl Fn(&Done) -> bool) -> Estimate {
    let hits: Vec<f64> = done.iter().map(|done| if of(done) { 1.0 } else { 0.0 }).collect();
    Estimate::of_batches(&hits)
}

fn one_pod(load: f64, law: Law) -> Config {
    config(PolicyKind::RoundRobin, 1, load, law)
}

/// Memoryless arrivals and services: the whole distribution is known. The sojourn is exponential with mean
/// 1 / (mu - lambda), so that its p99 is ln(100) times that, and a share of 1 - rho waits for nothing.
#[test]
fn a_queue_without_memory_is_m_m_1() {
    let mut table = Table::default();
    for (load, requests, most) in [(0.3, 10e3, 0.25), (0.5, 20e3, 0.25), (0.8, 60e3, 0.25)] {
        let (done, measured) = play(one_pod(load, exponential()), requests);
        let mean_ms = MEAN_MS / (1.0 - load);
        let at = |what: &str| format!("M/M/1 at {load}: {what}");
        table.row(&at("mean wait, ms"), mean_ms * load, Estimate::of_batches(&waits(&done)), most);
        table.row(&at("mean sojourn, ms"), mean_ms, Estimate::of_batches(&sojourns(&done)), most);
        table.row(&at("share that waits"), load, share(&done, |done| done.took > done.served), most);
        for (name, q) in [("p50", 0.5_f64), ("p90", 0.9), ("p99", 0.99)] {
            let bound = -(1.0 - q).ln() * mean_ms;
            let over = share(&done, |done| ms(done.took) > bound);
            table.row(&at(&format!("share over {name} = {bound:.1} ms")), 1.0 - q, over, 1.0);
        }
        let busy: Vec<f64> = measured.shares.iter().map(|pods| pods[0]).collect();
        table.row(&at("busy share"), load, Estimate::of_batches(&busy), most);
    }
}

/// Beyond means: every single wait, to the nanosecond, is what the arrivals and services before it make it. With one slot that
/// is Lindley's recursion, with more the one of Kiefer and Wolfowitz: who comes starts when the first slot is free.
#[test]
fn every_wait_is_that_of_its_own_past() {
    for slots in [1, 4] {
        let mut world =
            World::new(Config { server: ServerSpec { slots, ..ServerSpec::default() }, ..one_pod(0.9, exponential()) });
        world.set_load(0.9);
        world.run_for(Duration::from_secs(60));
        // Until the last one is done.
        world.set_load(0.0);
        world.run_for(Duration::from_secs(10));
        world.done.sort_by_key(|done| done.asked_at);
        let mut free_at = vec![Time::ZERO; slots as usize];
        for (k, done) in world.done.iter().enumerate() {
            let slot = free_at.iter_mut().min().expect("there are slots");
            let end = done.asked_at.max(*slot) + done.served;
            assert_eq!(done.asked_at + done.took, end, "request {k} at {slots} slots");
            *slot = end;
        }
        assert!(world.done.len() > 5000);
    }
}

/// Several slots share one queue: the share that waits is Erlang's C, and the wait of those is exponential with mean
/// 1 / (c mu - lambda).
#[test]
fn a_pod_with_four_slots_is_m_m_c() {
    let mut table = Table::default();
    let slots = 4_u32;
    for (load, requests) in [(0.5, 20e3), (0.8, 50e3)] {
        let mut config = one_pod(load, exponential());
        config.server.slots = slots;
        let (done, measured) = play(config, requests);
        let c = erlang_c(slots, load);
        let wait_ms = MEAN_MS / (f64::from(slots) * (1.0 - load));
        let at = |what: &str| format!("M/M/4 at {load}: {what}");
        table.row(&at("share that waits"), c, share(&done, |done| done.took > done.served), 0.2);
        table.row(&at("mean wait, ms"), c * wait_ms, Estimate::of_batches(&waits(&done)), 0.3);
        let bound = wait_ms * 10_f64.ln();
        let over = share(&done, |done| ms(done.took - done.served) > bound);
        table.row(&at("share that waits over ln(10) / (c mu - lambda)"), c / 10.0, over, 1.0);
        let busy: Vec<f64> = measured.shares.iter().map(|pods| pods[0]).collect();
        table.row(&at("busy share"), load, Estimate::of_batches(&busy), 0.06);
    }
}

/// The share that waits for one of `c` slots (Erlang 1917).
fn erlang_c(c: u32, load: f64) -> f64 {
    let offered = f64::from(c) * load;
    // offered^k / k!, for k up to c.
    let terms: Vec<f64> = (1..=c)
        .scan(1.0, |term, k| {
            *term *= offered / f64::from(k);
            Some(*term)
        })
        .collect();
    let all_busy = terms[c as usize - 1] / (1.0 - load);
    let not_all = 1.0 + terms[..c as usize - 1].iter().sum::<f64>();
    all_busy / (not_all + all_busy)
}

/// Any law of services: Pollaczek and Khinchine have the mean wait from its first two moments, and a share of 1 - rho waits
/// for nothing, whatever the law.
#[test]
fn any_law_waits_as_pollaczek_and_khinchine_say() {
    let mut table = Table::default();
    let (small, heavy, share_of_heavy, sigma) = (5.0, 120.0, 0.15, 0.3_f64);
    let bimodal = Law::Bimodal { small_ms: small, heavy_ms: heavy, heavy: Share::millionths(150_000), sigma };
    let square = |mean: f64, sigma: f64| mean * mean * (sigma * sigma).exp();
    let of_bimodal = (
        small * (1.0 - share_of_heavy) + heavy * share_of_heavy,
        square(small, sigma) * (1.0 - share_of_heavy) + square(heavy, sigma) * share_of_heavy,
    );
    let lognormal = Law::Lognormal { mean_ms: MEAN_MS, sigma: 0.8, predictable: false };
    for (name, law, (mean, second)) in [
        ("M/D/1", Law::Constant { mean_ms: MEAN_MS }, (MEAN_MS, MEAN_MS * MEAN_MS)),
        ("M/G/1, bimodal", bimodal, of_bimodal),
        ("M/G/1, lognormal", lognormal, (MEAN_MS, square(MEAN_MS, 0.8))),
    ] {
        for (load, requests) in [(0.5, 20e3), (0.8, 50e3)] {
            let (done, _) = play(one_pod(load, law.clone()), requests);
            let wait = load * second / mean / (2.0 * (1.0 - load));
            let at = |what: &str| format!("{name} at {load}: {what}");
            table.row(&at("mean wait, ms"), wait, Estimate::of_batches(&waits(&done)), 0.45);
            table.row(&at("share that waits"), load, share(&done, |done| done.took > done.served), 0.1);
            let served: Vec<f64> = done.iter().map(|done| ms(done.served)).collect();
            match name {
                "M/D/1" => assert!(served.iter().all(|served| *served == mean)),
                _ => table.row(&at("mean service, ms"), mean, Estimate::of(&served), 0.1),
            }
        }
    }
}

/// A pod that always has a full batch waiting does batch after batch: its rate is the size of a batch over its mean
/// length. Padded, that is the mean of the longest of eight exponentials, H(8) times theirs, and a share more for the
/// others; additive, the fixed part and a share of the sum. Batches are independent, so that their count in a span T has
/// the variance T Var(b) / E(b)^3 (renewals).
#[test]
fn a_saturated_batcher_does_what_its_law_says() {
    let mut table = Table::default();
    let (size, span) = (8_u32, Duration::from_secs_f64(100.0 * effort()));
    let k = || (1..=size).map(f64::from);
    let (harmonic, squares): (f64, f64) = (k().map(|k| 1.0 / k).sum(), k().map(|k| 1.0 / (k * k)).sum());
    let (slope, fixed, per) = (0.15, 5.0, 0.5);
    let padding = 1.0 + slope * f64::from(size - 1);
    let n = f64::from(size);
    for (name, law, mean, variance) in [
        ("padded", BatchLaw::Padded { slope }, MEAN_MS * harmonic * padding, squares * (MEAN_MS * padding).powi(2)),
        (
            "additive",
            BatchLaw::Additive { fixed_ms: fixed, per },
            fixed + per * n * MEAN_MS,
            n * (per * MEAN_MS).powi(2),
        ),
    ] {
        let batching = Some(Batching { max: size, law, ..Batching::default() });
        let server = ServerSpec { batching, ..ServerSpec::default() };
        let mut world = World::new(Config { server, ..one_pod(3.0, exponential()) });
        world.set_load(3.0);
        world.run_for(Duration::from_secs(5));
        let before = world.done.len();
        world.run_for(span);
        assert!(world.server(0).waiting() > 1000, "it is saturated");
        let served = (world.done.len() - before) as f64;
        let batches = ms(span) / mean;
        let error = (ms(span) * variance / mean.powi(3)).sqrt();
        let rate = |batches: f64| batches * n / span.as_secs_f64();
        let measured = Estimate::known(served / span.as_secs_f64(), rate(error));
        table.row(&format!("batches of 8, {name}: requests a second"), rate(batches), measured, 0.06);
    }
}

/// Little: what is in flight on average is what arrives in a second times how long each takes, in any world. The ledger of
/// true tickets is looked at every millisecond; a request that takes w meets w looks on average, give or take half of
/// one: over n of them, sqrt(n) / 2. This is the whole default world, with four callers, eight pods and hops.
#[test]
fn the_ledger_keeps_littles_law() {
    let mut table = Table::default();
    for policy in [PolicyKind::Plimsoll, PolicyKind::RoundRobin] {
        let mut world = World::new(Config { policy: Policy::Product(policy), load: 0.7, ..Config::default() });
        world.run_for(Duration::from_secs(2));
        let (start, looks) = (world.now(), (10_000.0 * effort()) as u32);
        world.set_load(0.7);
        let mut seen = 0;
        for _ in 0..looks {
            world.run_for(Duration::from_millis(1));
            seen += (0..4).flat_map(|n| world.ledger(n).to_vec()).sum::<u32>();
        }
        let end = world.now();
        // Those still in flight at the end count as far as they got.
        world.set_load(0.0);
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.under_way(), 0);
        let within = |done: &Done| ms((done.asked_at + done.took).min(end).since(done.asked_at));
        let asked: Vec<&Done> = world.done.iter().filter(|done| done.asked_at >= start).collect();
        let theory = asked.iter().map(|done| within(done)).sum::<f64>() / f64::from(looks);
        let error = (asked.len() as f64).sqrt() / 2.0 / f64::from(looks);
        let measured = Estimate::known(f64::from(seen) / f64::from(looks), error);
        table.row(&format!("Little's law, {policy:?}: in flight"), theory, measured, 0.01);
    }
}
