//! Who is healed in the end: nodes that can find each other, and pods that can bear what they will be asked.

use std::collections::{BTreeMap, BTreeSet};

use super::Draw;
use crate::config::{Clients, Config};
use crate::fault::Fault;
use crate::plan::{Ending, Plan};

/// How long the healed part must work, ms.
const LIVE_MS: u64 = 12_000;
/// How long clients are silent then, ms.
const QUIET_MS: u64 = 10_000;

/// The ending of `plan`, without the nodes that were `hostile`: a fleet recovers from those by throwing them out.
pub(super) fn draw(seed: u64, plan: &Plan, hostile: &[usize]) -> Ending {
    let mut draw = Draw::new(seed, "plan/ending", 0);
    let world = &plan.world;
    let (all_nodes, all_pods) = (draw.coin(), draw.coin());
    let wanted = if all_nodes { world.nodes } else { draw.range(1, world.nodes as u64) as usize };
    let nodes = together(&mut draw, &graph(plan), hostile, wanted);
    let least = least_pods(world, nodes.len());
    let wanted = if all_pods { world.pods } else { draw.range(least as u64, world.pods as u64) as usize };
    let mut pods = draw.some_of(world.pods, wanted);
    pods.sort_unstable();
    let named = |names: Vec<usize>, of: usize| if names.len() == of { Vec::new() } else { names };
    Ending { live_ms: LIVE_MS, nodes: named(nodes, world.nodes), pods: named(pods, world.pods), quiet_ms: QUIET_MS }
}

/// Pods that `nodes` of the nodes' clients do not drown: the dead ones' clients ask for nothing any more.
fn least_pods(world: &Config, nodes: usize) -> usize {
    if world.clients.served_by != Clients::default().served_by {
        // Which pods serve what is drawn by chance: without some of them others may drown.
        return world.pods;
    }
    let asked = world.load * world.arrivals.mean_rate() * world.pods as f64 * nodes as f64 / world.nodes as f64;
    ((asked / 0.95) as usize + 1).min(world.pods)
}

/// Who is told to join whom, both ways, by the addresses that they have in the end.
fn graph(plan: &Plan) -> BTreeMap<usize, BTreeSet<usize>> {
    let nodes = plan.world.nodes;
    let mut holder: Vec<usize> = (0..nodes).collect();
    for planned in plan.faults.iter().filter(|planned| planned.at_ms < plan.ask_ms) {
        if let Fault::NodeSwap { node, with, .. } = &planned.fault {
            holder.iter_mut().for_each(|held| match *held {
                h if h == *node => *held = *with,
                h if h == *with => *held = *node,
                _ => {}
            });
        }
    }
    let mut graph: BTreeMap<usize, BTreeSet<usize>> = (0..nodes).map(|n| (n, BTreeSet::new())).collect();
    for n in 0..nodes {
        for other in plan.world.joins(n).into_iter().map(|slot| holder[slot]).filter(|other| *other != n) {
            graph.entry(n).or_default().insert(other);
            graph.entry(other).or_default().insert(n);
        }
    }
    graph
}

/// `wanted` nodes, or as many as there are, that make one piece of the graph: each can find the others.
fn together(draw: &mut Draw, graph: &BTreeMap<usize, BTreeSet<usize>>, not: &[usize], wanted: usize) -> Vec<usize> {
    let free: Vec<usize> = graph.keys().copied().filter(|n| !not.contains(n)).collect();
    let mut core = BTreeSet::new();
    let mut edge = BTreeSet::from([*draw.0.pick(&free)]);
    while let Some(n) = (!edge.is_empty() && core.len() < wanted).then(|| {
        let edge: Vec<usize> = edge.iter().copied().collect();
        *draw.0.pick(&edge)
    }) {
        edge.remove(&n);
        core.insert(n);
        let next = graph[&n].iter().filter(|other| !core.contains(*other) && !not.contains(other));
        edge.extend(next);
    }
    core.into_iter().collect()
}
