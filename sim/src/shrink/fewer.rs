//! The same plan with fewer nodes or pods, which are numbered anew, and with weaker faults.

use crate::config::Join;
use crate::fault::Fault;
use crate::plan::{Plan, Planned};

/// Makes `plan` what `before` is with the nodes in `kept` only; false where nothing is left.
pub(super) fn nodes(before: &Plan, plan: &mut Plan, kept: &[usize]) -> bool {
    if kept.is_empty() {
        return false;
    }
    let new = |node: usize| kept.iter().position(|old| *old == node);
    plan.world.nodes = kept.len();
    // As much as before for each of those that are left.
    plan.world.load = before.world.load * kept.len() as f64 / before.world.nodes as f64;
    plan.world.join = match &before.world.join {
        Join::Lists(lists) => {
            Join::Lists(kept.iter().map(|node| lists[*node].iter().filter_map(|n| new(*n)).collect()).collect())
        }
        join => join.clone(),
    };
    plan.ending.nodes = before.ending.nodes.iter().filter_map(|node| new(*node)).collect();
    plan.faults = planned(before, |fault| renamed_nodes(fault, &new));
    // Nobody named would mean everybody.
    before.ending.nodes.is_empty() || !plan.ending.nodes.is_empty()
}

/// The same with pods.
pub(super) fn pods(before: &Plan, plan: &mut Plan, kept: &[usize]) -> bool {
    if kept.is_empty() {
        return false;
    }
    let new = |pod: usize| kept.iter().position(|old| *old == pod);
    plan.world.pods = kept.len();
    plan.ending.pods = before.ending.pods.iter().filter_map(|pod| new(*pod)).collect();
    plan.faults = planned(before, |fault| renamed_pod(fault, &new));
    before.ending.pods.is_empty() || !plan.ending.pods.is_empty()
}

fn planned(before: &Plan, renamed: impl Fn(&Fault) -> Option<Fault>) -> Vec<Planned> {
    let faults = before.faults.iter();
    faults.filter_map(|planned| Some(Planned { at_ms: planned.at_ms, fault: renamed(&planned.fault)? })).collect()
}

/// The fault with its nodes' new numbers; none where one of them is gone.
fn renamed_nodes(fault: &Fault, new: &dyn Fn(usize) -> Option<usize>) -> Option<Fault> {
    let mut fault = fault.clone();
    match &mut fault {
        Fault::NodeCrash { node, .. }
        | Fault::NodeRestart { node, .. }
        | Fault::NodePause { node, .. }
        | Fault::NodeSlow { node, .. }
        | Fault::Replay { node, .. }
        | Fault::Hostile { node, .. } => *node = new(*node)?,
        Fault::NodeSwap { node: one, with: other, .. }
        | Fault::Wall { from: one, to: other, .. }
        | Fault::Clog { from: one, to: other, .. } => (*one, *other) = (new(*one)?, new(*other)?),
        Fault::Partition { group, .. } => {
            *group = group.iter().filter_map(|node| new(*node)).collect();
            return (!group.is_empty()).then_some(fault);
        }
        _ => {}
    }
    Some(fault)
}

fn renamed_pod(fault: &Fault, new: &dyn Fn(usize) -> Option<usize>) -> Option<Fault> {
    let mut fault = fault.clone();
    match &mut fault {
        Fault::PodCrash { pod, .. }
        | Fault::PodHang { pod, .. }
        | Fault::PodSlow { pod, .. }
        | Fault::PodErrors { pod, .. }
        | Fault::ModelHole { pod, .. }
        | Fault::ModelUnload { pod, .. }
        | Fault::PodDrain { pod, .. }
        | Fault::PodReplace { pod, .. } => *pod = new(*pod)?,
        _ => {}
    }
    Some(fault)
}

/// A fault that lasts half as long, or happens half as often; none where it is as weak as can be.
pub(super) fn weaker(fault: &Fault) -> Option<Fault> {
    let mut fault = fault.clone();
    let half = match &mut fault {
        Fault::Replay { count, .. } | Fault::Hostile { count, .. } => {
            let before = *count;
            *count = (before / 2).max(1);
            *count < before
        }
        Fault::NodeCrash { for_ms, .. }
        | Fault::NodeRestart { for_ms, .. }
        | Fault::NodeSwap { for_ms, .. }
        | Fault::NodePause { for_ms, .. }
        | Fault::NodeSlow { for_ms, .. }
        | Fault::Wall { for_ms, .. }
        | Fault::Partition { for_ms, .. }
        | Fault::Clog { for_ms, .. }
        | Fault::Loss { for_ms, .. }
        | Fault::Delay { for_ms, .. }
        | Fault::PodCrash { for_ms, .. }
        | Fault::PodHang { for_ms, .. }
        | Fault::PodSlow { for_ms, .. }
        | Fault::PodErrors { for_ms, .. }
        | Fault::ModelHole { for_ms, .. }
        | Fault::ModelUnload { for_ms, .. }
        | Fault::PodDrain { for_ms, .. }
        | Fault::PodReplace { for_ms, .. }
        | Fault::Surge { for_ms, .. }
        | Fault::ModelChange { for_ms, .. }
        | Fault::RedisStall { for_ms }
        | Fault::RedisDeath { for_ms } => {
            let before = *for_ms;
            *for_ms = before / 2;
            before > 0
        }
    };
    half.then_some(fault)
}
