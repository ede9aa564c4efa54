//! Many pods, one caller who knows exactly what is in flight: random splitting, and the power of two choices.

use std::time::Duration;

use plimsoll::pick::PolicyKind;
use plimsoll_sim::World;

use crate::estimate::{Estimate, Table, effort};
use crate::queues::{MEAN_MS, config, exponential, ms, play, share, sojourns};

/// A Poisson stream that is split by chance is Poisson in every part: sixteen pods are sixteen M/M/1, and the sojourns of all
/// are distributed as those of one.
#[test]
fn random_splitting_makes_independent_queues() {
    let mut table = Table::default();
    let load = 0.7;
    let (done, measured) = play(config(PolicyKind::Random, 16, load, exponential()), 50e3);
    let mean_ms = MEAN_MS / (1.0 - load);
    table.row("random over 16 pods at 0.7: mean sojourn, ms", mean_ms, Estimate::of_batches(&sojourns(&done)), 0.25);
    let bound = mean_ms * 100_f64.ln();
    let over = share(&done, |done| ms(done.took) > bound);
    table.row("random over 16 pods at 0.7: share over p99", 0.01, over, 1.5);
    // Every pod gets its part, and works as long as the others.
    for pod in [0, 7, 15] {
        let busy: Vec<f64> = measured.shares.iter().map(|pods| pods[pod]).collect();
        table.row(
            &format!("random over 16 pods at 0.7: busy share of pod {pod}"),
            load,
            Estimate::of_batches(&busy),
            0.2,
        );
    }
}

/// Two choices out of many: in the limit of many pods a share lambda^(2^i - 1) of them has i requests or more, and a request
/// stays T = sum of lambda^((2^i - 2)) services (Mitzenmacher 2001). 64 pods are not yet many: the next term, of order 1/64, is
/// [`Refined`]'s. Without it this test would miss the measured mean by five of its errors at a load of 0.9.
#[test]
fn two_choices_have_the_fixed_point_that_is_known() {
    let mut table = Table::default();
    let pods = 64;
    for (load, seconds) in [(0.7, 8.0), (0.9, 16.0)] {
        let seen = watch(pods, load, seconds * effort());
        let refined = Refined::of(load);
        let at = |what: &str| format!("2 choices of {pods} at {load}: {what}");
        let sojourn = (1..LEVELS).map(|i| refined.with_at_least(i, pods)).sum::<f64>() / load;
        table.row(&at("mean sojourn, services"), sojourn, seen.sojourn, 0.15);
        for i in 1..=3 {
            let theory = refined.with_at_least(i, pods);
            table.row(&at(&format!("share of pods with {i} or more")), theory, seen.with_at_least[i - 1], 0.5);
        }
    }
}

/// Two choices of two pods are the shortest of both queues, which is no mean field at all; but a chain of so few states can
/// be solved.
#[test]
fn two_choices_of_two_are_the_shorter_queue() {
    let mut table = Table::default();
    let load = 0.8;
    let seen = watch(2, load, 200.0 * effort());
    table.row("shorter of 2 queues at 0.8: mean sojourn, services", shorter_of_two(load), seen.sojourn, 0.3);
}

struct Seen {
    sojourn: Estimate,
    /// The share of pods that have 1, 2 and 3 requests or more.
    with_at_least: [Estimate; 3],
}

/// Looks at the pods once every service.
fn watch(pods: usize, load: f64, seconds: f64) -> Seen {
    let mut world = World::new(config(PolicyKind::P2c, pods, load, exponential()));
    world.set_load(load);
    // From empty to steady: at 0.9, a hundred services.
    world.run_for(Duration::from_secs(1));
    let (before, mut shares) = (world.done.len(), [vec![], vec![], vec![]]);
    for _ in 0..(seconds * 1e3 / MEAN_MS) as usize {
        world.run_for(Duration::from_secs_f64(MEAN_MS / 1e3));
        for (i, share) in shares.iter_mut().enumerate() {
            let with = world.ledger(0).iter().filter(|in_flight| **in_flight as usize > i).count();
            share.push(with as f64 / pods as f64);
        }
    }
    let mut done = world.done.split_off(before);
    done.sort_by_key(|done| done.asked_at);
    let services: Vec<f64> = done.iter().map(|done| ms(done.took) / MEAN_MS).collect();
    Seen { sojourn: Estimate::of_batches(&services), with_at_least: shares.map(|share| Estimate::of_batches(&share)) }
}

/// Queues of this length do not happen: 0.9^(2^9) is 1e-23.
const LEVELS: usize = 9;

/// The fixed point of two choices, and the term of order 1 / pods (Gast and Van Houdt, "A refined mean field
/// approximation", 2017), for choices without replacement, as the policy draws them.
///
/// With x(i) the share of pods that have i or more, x moves on average by f(x) + g(x) / pods:
///
/// ```text
/// f(i) = lambda (x(i-1)^2 - x(i)^2) - (x(i) - x(i+1))
/// g(i) = lambda (x(i) (1 - x(i)) - x(i-1) (1 - x(i-1)))         both drawn differ
/// ```
///
/// Around the root of f the fluctuations have the covariance W / pods with A W + W A' + Q = 0, where A is the derivative of f
/// and Q the rate of squared steps; the curvature of f turns them into a shift v / pods with A v + g + (f'' : W) / 2 = 0. Both
/// equations are relaxed to.
struct Refined {
    limit: [f64; LEVELS],
    shift: [f64; LEVELS],
}

impl Refined {
    fn of(load: f64) -> Refined {
        let mut limit = [0.0; LEVELS + 1];
        (0..LEVELS).for_each(|i| limit[i] = load.powi((1 << i) - 1));
        let x = |i: usize| limit[i];
        // The derivative has three diagonals; row 0 is the constant 1.
        let below = |i: usize| if i > 1 { 2.0 * load * x(i - 1) } else { 0.0 };
        let own = |i: usize| -2.0 * load * x(i) - 1.0;
        let derivative = |i: usize, of: &dyn Fn(usize) -> f64| {
            below(i) * of(i - 1) + own(i) * of(i) + if i + 1 < LEVELS { of(i + 1) } else { 0.0 }
        };
        let mut covariance = [[0.0; LEVELS]; LEVELS];
        for _ in 0..STEPS {
            let w = covariance;
            for i in 1..LEVELS {
                for j in 1..LEVELS {
                    let squared_steps = if i == j { 2.0 * (x(i) - x(i + 1)) } else { 0.0 };
                    let drift = derivative(i, &|k| w[k][j]) + derivative(j, &|k| w[i][k]) + squared_steps;
                    covariance[i][j] += STEP * drift;
                }
            }
        }
        let spread = |i: usize| x(i) * (1.0 - x(i));
        let push = |i: usize| {
            let differ = load * (spread(i) - spread(i - 1));
            differ + load * (covariance[i - 1][i - 1] - covariance[i][i])
        };
        let mut shift = [0.0; LEVELS];
        for _ in 0..STEPS {
            let v = shift;
            (1..LEVELS).for_each(|i| shift[i] += STEP * (derivative(i, &|k| v[k]) + push(i)));
        }
        Refined { limit: std::array::from_fn(x), shift }
    }

    /// The share of `pods` that have `i` requests or more.
    fn with_at_least(&self, i: usize, pods: usize) -> f64 {
        self.limit[i] + self.shift[i] / pods as f64
    }
}

/// The largest eigenvalue is below 5: a step of 0.2 is stable; the smallest at 0.9 is above 0.02, so that 4,000 of them leave
/// e^-16.
const STEP: f64 = 0.2;
const STEPS: usize = 4000;

/// The authors tabulate the mean number of requests per pod, with replacement, for ten pods: 1.2150 at 0.7, where the limit is
/// 1.1301. Drawing two that differ shifts it by less.
#[test]
fn the_refinement_is_that_of_its_authors() {
    let refined = Refined::of(0.7);
    let limit: f64 = refined.limit[1..].iter().sum();
    assert!((limit - 1.1301).abs() < 1e-4, "{limit}");
    let shift: f64 = refined.shift[1..].iter().sum();
    assert!((shift - 0.3907).abs() < 1e-3, "{shift}");
}

/// The mean sojourn, in services, where every request joins the shorter of two queues: the stationary distribution of the
/// chain of both lengths, each cut at 40 (0.64^40 is 2e-8), reached by stepping it.
fn shorter_of_two(load: f64) -> f64 {
    const MOST: usize = 40;
    let arrivals = 2.0 * load;
    // Every event is an arrival or one of two departures, which may find nobody.
    let total = arrivals + 2.0;
    let mut now = vec![vec![0.0; MOST + 1]; MOST + 1];
    now[0][0] = 1.0;
    for _ in 0..6000 {
        let mut next = vec![vec![0.0; MOST + 1]; MOST + 1];
        for (i, row) in now.iter().enumerate() {
            for (j, chance) in row.iter().enumerate() {
                let (arrives, departs) = (chance * arrivals / total, chance / total);
                next[i.saturating_sub(1)][j] += departs;
                next[i][j.saturating_sub(1)] += departs;
                match i.cmp(&j) {
                    std::cmp::Ordering::Less => next[(i + 1).min(MOST)][j] += arrives,
                    std::cmp::Ordering::Greater => next[i][(j + 1).min(MOST)] += arrives,
                    std::cmp::Ordering::Equal => {
                        next[(i + 1).min(MOST)][j] += arrives / 2.0;
                        next[i][(j + 1).min(MOST)] += arrives / 2.0;
                    }
                }
            }
        }
        now = next;
    }
    let cells =
        now.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, chance)| (i + j, chance)));
    cells.map(|(in_flight, chance)| in_flight as f64 * chance).sum::<f64>() / arrivals
}
