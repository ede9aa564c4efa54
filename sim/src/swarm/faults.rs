//! What goes wrong, and when: kinds are switched on or off first, then each fault is drawn from a stream of its own.

use super::Draw;
use crate::config::Config;
use crate::fault::{Fault, Trick};
use crate::plan::Plan;

/// A kind of fault: its name, and what one strike of it is, with times from its beginning. A strike is often several
/// faults: whole racks are walled off, and deploys take one caller after the other.
pub(super) struct Kind {
    pub(super) name: &'static str,
    strike: fn(&mut Draw, &Field) -> Vec<(u64, Fault)>,
}

/// What strikes can hit.
pub(super) struct Field<'a> {
    world: &'a Config,
    /// Who may turn hostile.
    hostile: Vec<usize>,
    /// The longest that one may last, ms.
    most_ms: u64,
}

/// The faults of a plan.
pub(super) struct Schedule {
    pub(super) faults: Vec<(u64, Fault)>,
    /// Nodes that turned hostile.
    pub(super) hostile: Vec<usize>,
}

/// All kinds that can strike the product: it has no Redis.
pub(super) const ALL: [Kind; 22] = [
    Kind { name: "node-crash", strike: node_crash },
    Kind { name: "node-restart", strike: node_restart },
    Kind { name: "node-swap", strike: node_swap },
    Kind { name: "node-pause", strike: node_pause },
    Kind { name: "node-slow", strike: node_slow },
    Kind { name: "wall", strike: wall },
    Kind { name: "partition", strike: partition },
    Kind { name: "clog", strike: clog },
    Kind { name: "loss", strike: loss },
    Kind { name: "delay", strike: delay },
    Kind { name: "replay", strike: replay },
    Kind { name: "hostile", strike: hostile },
    Kind { name: "pod-crash", strike: pod_crash },
    Kind { name: "pod-hang", strike: pod_hang },
    Kind { name: "pod-slow", strike: pod_slow },
    Kind { name: "pod-errors", strike: pod_errors },
    Kind { name: "pod-replace", strike: pod_replace },
    Kind { name: "surge", strike: surge },
    Kind { name: "model-change", strike: model_change },
    Kind { name: "model-hole", strike: model_hole },
    Kind { name: "model-unload", strike: model_unload },
    Kind { name: "pod-drain", strike: pod_drain },
];

/// Crashes and restarts.
pub(super) const LITE: [Kind; 3] = [
    Kind { name: "node-crash", strike: node_crash },
    Kind { name: "node-restart", strike: node_restart },
    Kind { name: "pod-crash", strike: pod_crash },
];

/// The faults of `plan` under `seed`, of `kinds` only.
pub(super) fn draw(seed: u64, plan: &Plan, kinds: &[Kind]) -> Schedule {
    let world = &plan.world;
    let weights: Vec<(u64, &Kind)> = kinds.iter().map(|kind| (weight(seed, kind.name), kind)).collect();
    let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
    let mut how = Draw::new(seed, "plan/faults", 0);
    let hostiles = how.range(1, (world.nodes as u64 / 4).max(1)) as usize;
    let hostile = if world.nodes > 2 { how.some_of(world.nodes, hostiles) } else { Vec::new() };
    let most_ms = plan.ask_ms / 2;
    let field = Field { world, hostile, most_ms };
    let strikes = if total == 0 { 0 } else { how.scale(1, plan.ask_ms / 500) };
    let mut faults = Vec::new();
    for strike in 0..strikes {
        let mut draw = Draw::new(seed, "plan/strike", strike);
        let at = draw.range(0, plan.ask_ms - 1);
        let kind = drawn(&weights, draw.range(0, total - 1));
        let happens = (kind.strike)(&mut draw, &field);
        faults.extend(happens.into_iter().map(|(after, fault)| (at + after, fault)));
    }
    faults.retain(|(at, _)| *at < plan.ask_ms);
    let turned = |n: &usize| faults.iter().any(|(_, f)| matches!(f, Fault::Hostile { node, .. } if node == n));
    let hostile = field.hostile.iter().copied().filter(turned).collect();
    Schedule { faults, hostile }
}

/// Off in half of the plans, else 1 to 100.
fn weight(seed: u64, kind: &str) -> u64 {
    let mut draw = Draw::new(seed, &format!("plan/weight/{kind}"), 0);
    draw.maybe(|draw| draw.range(1, 100)).unwrap_or(0)
}

fn drawn<'a>(weights: &[(u64, &'a Kind)], mut at: u64) -> &'a Kind {
    for (weight, kind) in weights {
        match at.checked_sub(*weight) {
            None => return kind,
            Some(rest) => at = rest,
        }
    }
    unreachable!("`at` is below the sum of the weights")
}

impl Field<'_> {
    fn node(&self, draw: &mut Draw) -> usize {
        draw.range(0, self.world.nodes as u64 - 1) as usize
    }

    fn pod(&self, draw: &mut Draw) -> usize {
        draw.range(0, self.world.pods as u64 - 1) as usize
    }

    fn model(&self, draw: &mut Draw) -> usize {
        draw.range(0, self.world.clients.models as u64 - 1) as usize
    }

    /// From a blink to half of the asking.
    fn for_ms(&self, draw: &mut Draw) -> u64 {
        draw.scale(50, self.most_ms)
    }

    /// Some nodes, at least one and not all: one alone as often as any number.
    fn group(&self, draw: &mut Draw) -> Vec<usize> {
        let most = self.world.nodes as u64 - 1;
        let count = if draw.coin() { 1 } else { draw.range(1, most) };
        let mut group = draw.some_of(self.world.nodes, count as usize);
        group.sort_unstable();
        group
    }

    /// One, or some, or all of `of`: what is done to one machine, to a zone, or to everything at once.
    fn few(&self, draw: &mut Draw, of: usize) -> Vec<usize> {
        let count = match draw.range(0, 7) {
            0 => of as u64,
            1 | 2 => draw.range(1, of as u64),
            _ => 1,
        };
        draw.some_of(of, count as usize)
    }
}

fn node_crash(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (nodes, for_ms, clock_back) = (field.few(draw, field.world.nodes), field.for_ms(draw), draw.coin());
    nodes.into_iter().map(|node| (0, Fault::NodeCrash { node, for_ms, clock_back })).collect()
}

fn node_restart(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (nodes, for_ms) = (field.few(draw, field.world.nodes), draw.scale(50, field.most_ms / 4));
    // All at once, or one after the other.
    let step = draw.maybe(|draw| draw.scale(50, 2000)).unwrap_or(0);
    let restart = |(k, node)| (k as u64 * step, Fault::NodeRestart { node, for_ms });
    nodes.into_iter().enumerate().map(restart).collect()
}

fn node_swap(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (pair, for_ms) = (draw.some_of(field.world.nodes, 2), field.for_ms(draw));
    vec![(0, Fault::NodeSwap { node: pair[0], with: pair[1], for_ms })]
}

fn node_pause(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (nodes, for_ms) = (field.few(draw, field.world.nodes), field.for_ms(draw));
    nodes.into_iter().map(|node| (0, Fault::NodePause { node, for_ms })).collect()
}

fn node_slow(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    vec![(0, Fault::NodeSlow { node: field.node(draw), us: draw.scale(20, 20_000), for_ms: field.for_ms(draw) })]
}

/// From a group to all others, or from one node to one other.
fn wall(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (group, for_ms, inwards) = (field.group(draw), field.for_ms(draw), draw.coin());
    let pair = draw.some_of(field.world.nodes, 2);
    if draw.coin() {
        return vec![(0, Fault::Wall { from: pair[0], to: pair[1], for_ms })];
    }
    let others = (0..field.world.nodes).filter(|n| !group.contains(n));
    let links = others.flat_map(|other| group.iter().map(move |n| (*n, other)));
    let wall = |(from, to)| if inwards { (to, from) } else { (from, to) };
    links.map(wall).map(|(from, to)| (0, Fault::Wall { from, to, for_ms })).collect()
}

/// Once, or again and again; in a quarter of the cases one node alone, for longer than any row counts.
fn partition(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    if draw.range(0, 3) == 0 {
        return vec![(0, Fault::Partition { group: vec![field.node(draw)], for_ms: draw.range(5000, 9000) })];
    }
    let (group, for_ms) = (field.group(draw), field.for_ms(draw));
    let flaps = draw.maybe(|draw| draw.range(2, 6)).unwrap_or(1);
    let pause = draw.scale(50, 3000);
    let for_ms = for_ms / flaps + 1;
    (0..flaps).map(|k| (k * (for_ms + pause), Fault::Partition { group: group.clone(), for_ms })).collect()
}

/// Links of one node stop one by one, and go on in another order.
fn clog(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (node, out) = (field.node(draw), draw.coin());
    let others = draw.some_of(field.world.nodes, field.world.nodes).into_iter().filter(|n| *n != node);
    let count = draw.scale(1, field.world.nodes as u64 - 1);
    let mut clogs = Vec::new();
    for (k, other) in others.take(count as usize).enumerate() {
        let (from, to) = if out { (node, other) } else { (other, node) };
        clogs.push((k as u64 * 20, Fault::Clog { from, to, for_ms: draw.scale(20, 5000) }));
    }
    clogs
}

fn loss(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    vec![(0, Fault::Loss { share: draw.share(10_000, 400_000), for_ms: field.for_ms(draw) })]
}

fn delay(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    vec![(0, Fault::Delay { add_ms: draw.scale(1, 3000), for_ms: field.for_ms(draw) })]
}

fn replay(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let nodes = field.few(draw, field.world.nodes);
    let count = draw.scale(1, 200) as u32;
    nodes.into_iter().map(|node| (0, Fault::Replay { node, count })).collect()
}

fn hostile(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let trick = *draw.0.pick(&Trick::ALL);
    // Each lie about ghosts names twenty, and everybody must find out about every one of them.
    let count = draw.scale(1, if trick == Trick::Ghosts { 2 } else { 30 }) as u32;
    let Some(node) = (!field.hostile.is_empty()).then(|| *draw.0.pick(&field.hostile)) else { return Vec::new() };
    vec![(0, Fault::Hostile { node, trick, count })]
}

fn pod_crash(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (pods, for_ms) = (field.few(draw, field.world.pods), field.for_ms(draw));
    pods.into_iter().map(|pod| (0, Fault::PodCrash { pod, for_ms })).collect()
}

fn pod_hang(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    vec![(0, Fault::PodHang { pod: field.pod(draw), for_ms: field.for_ms(draw) })]
}

fn pod_slow(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    vec![(
        0,
        Fault::PodSlow { pod: field.pod(draw), percent: draw.scale(110, 10_000) as u32, for_ms: field.for_ms(draw) },
    )]
}

fn pod_errors(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    vec![(
        0,
        Fault::PodErrors { pod: field.pod(draw), share: draw.share(10_000, 1_000_000), for_ms: field.for_ms(draw) },
    )]
}

fn pod_replace(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (pods, for_ms) = (field.few(draw, field.world.pods), draw.scale(50, field.most_ms));
    let spread_ms = draw.scale(1, 5000);
    pods.into_iter().map(|pod| (0, Fault::PodReplace { pod, for_ms, spread_ms })).collect()
}

/// On one pod, or on all: what fails everywhere is no pod's fault.
fn model_hole(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (pods, for_ms, model) = (field.few(draw, field.world.pods), field.for_ms(draw), field.model(draw));
    let after_ms = draw.maybe(|draw| draw.scale(1, 2000)).unwrap_or(0);
    pods.into_iter().map(|pod| (0, Fault::ModelHole { pod, model, after_ms, for_ms })).collect()
}

/// At once, or one after the other, so that the model moves.
fn model_unload(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (pods, for_ms, model) = (field.few(draw, field.world.pods), field.for_ms(draw), field.model(draw));
    let step = draw.maybe(|draw| draw.scale(1, 2 * for_ms)).unwrap_or(0);
    let unload = |(k, pod)| (k as u64 * step, Fault::ModelUnload { pod, model, for_ms });
    pods.into_iter().enumerate().map(unload).collect()
}

fn pod_drain(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let (pods, for_ms) = (field.few(draw, field.world.pods), field.for_ms(draw));
    let spread_ms = draw.scale(1, 5000);
    pods.into_iter().map(|pod| (0, Fault::PodDrain { pod, spread_ms, for_ms })).collect()
}

/// More, or much less: what comes back after silence is a surge too.
fn surge(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let percent = if draw.coin() { draw.range(110, 500) } else { draw.range(0, 50) };
    // What piles up while more comes than can be served must be gone before the end.
    let for_ms = draw.scale(50, if percent > 100 { 3000.min(field.most_ms) } else { field.most_ms });
    vec![(0, Fault::Surge { percent: percent as u32, for_ms })]
}

/// A version that takes longer, or less, and the old one again.
fn model_change(draw: &mut Draw, field: &Field) -> Vec<(u64, Fault)> {
    let percent = if draw.coin() { draw.range(110, 500) } else { draw.range(10, 90) };
    // As above.
    let for_ms = draw.scale(50, if percent > 100 { 3000.min(field.most_ms) } else { field.most_ms });
    vec![(0, Fault::ModelChange { percent: percent as u32, for_ms })]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind that the generator forgot is a fault that no seed ever finds.
    #[test]
    fn every_kind_of_fault_is_drawn_by_its_name() {
        let names: Vec<&str> = ALL.iter().map(|kind| kind.name).collect();
        let of_the_product: Vec<&str> = Fault::KINDS.into_iter().filter(|kind| !kind.starts_with("redis")).collect();
        assert_eq!(names, of_the_product);
        let world = Config { nodes: 9, ..Config::default() };
        let field = Field { world: &world, hostile: vec![3], most_ms: 10_000 };
        for (k, kind) in ALL.iter().chain(&LITE).enumerate() {
            for seed in 0..200 {
                let happens = (kind.strike)(&mut Draw::new(seed, "test", k as u64), &field);
                assert!(!happens.is_empty(), "{}", kind.name);
                for (_, fault) in happens {
                    assert_eq!((fault.kind(), fault.problem(&world)), (kind.name, None), "seed {seed}: {fault:?}");
                }
            }
        }
    }
}
