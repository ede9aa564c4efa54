//! What a node believes, as plain values for people and tools: `plimsoll view`, `plimsoll members`, the admin API.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{Epoch, Seq};

/// What one node believes about every pod.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "driver", derive(serde::Serialize))]
#[non_exhaustive]
pub struct View {
    /// The node that believes it.
    pub node: String,
    /// Its policy.
    pub policy: &'static str,
    /// The rung of the ladder its picks stand on: see [`crate::pick::Rung`].
    pub rung: &'static str,
    /// Work of the others that it has not heard of yet, by their rates and the age of their news, ms.
    pub unseen_ms: f64,
    /// How old news is on the mean, weighted by the work it is about, ms. What is never told counts with how long it lasts.
    pub news_age_ms: f64,
    /// The news age at which the unseen work would fill the idle slots, ms: mean service x (1 - load) / load. A view that is
    /// older than this is worth little; a quarter of it is as good as fresh. None where nothing was picked for yet.
    pub critical_age_ms: Option<f64>,
    /// All work that is picked for, by this node and as the others say, as a share of what the pods can do.
    pub load: f64,
    /// Running mean cost of what it picks for, ms.
    pub mean_cost_ms: f64,
    /// Changes of requests that cost so much or more are told at once, ms; 0 where the budget allows all.
    pub theta_ms: f64,
    /// The share of its work that is told at once by this theta, 0 to 1.
    pub told_at_once: f64,
    /// How old news is when it arrives here, running mean, ms: small changes.
    pub news_age_small_ms: f64,
    /// The same of heavy changes.
    pub news_age_heavy_ms: f64,
    /// The pods, in the order of configuration or discovery.
    pub pods: Vec<PodView>,
    /// What requests cost, by model and size: nothing where nothing was learned or heard.
    pub costs: Vec<CostView>,
}

/// What requests of one size cost, as believed.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "driver", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CostView {
    /// The model.
    pub model: String,
    /// Payloads of so many bytes and up to half as much again.
    pub bytes: u64,
    /// What they cost, ms.
    pub ms: f64,
}

/// One pod, as believed.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "driver", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its incarnation.
    pub id: String,
    /// Where it takes gRPC.
    pub addr: String,
    /// The zone that it runs in, where somebody knows.
    pub zone: Option<String>,
    /// Requests it can run at once.
    pub slots: u32,
    /// Its speed relative to the others, configured or learned.
    pub speed: f64,
    /// Whether picks of this node avoid it: it cannot be reached, or fails all models that they asked it for.
    pub ejected: bool,
    /// Whether it is about to end: it gets what no other pod is left for.
    pub draining: bool,
    /// Models that picks of this node avoid it for, or try it with, at most a hundred.
    pub models_out: Vec<ModelOut>,
    /// The share of the picks that it takes part in: less than 1 while it starts slowly.
    pub start_share: f64,
    /// Requests in flight from all nodes, and remainders; peers count by the weight of their rows.
    pub in_flight: f64,
    /// Tickets of this node.
    pub own_in_flight: u32,
    /// Of the peers.
    pub peers_in_flight: f64,
    /// Cancelled requests of this node that it may still run.
    pub own_remainders: u32,
    /// Estimated work of all of it, ms.
    pub cost_ms: f64,
    /// How long a new request would wait there before it begins, by all that is known, ms.
    pub wait_ms: f64,
    /// Tickets charged by this node since it started.
    pub picks: u64,
    /// Of these: answered.
    pub served: u64,
    /// Of these: failed.
    pub failed: u64,
    /// Of these: refused before the pod began.
    pub refused: u64,
    /// Of these: given up by the caller.
    pub cancelled: u64,
    /// Times this node ejected it, or a model of it.
    pub ejections: u64,
    /// The same by reason.
    pub ejections_by: BTreeMap<&'static str, u64>,
    /// What each peer has there.
    pub peers: Vec<PeerShare>,
}

/// A model that picks avoid a pod for.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "driver", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ModelOut {
    /// The model.
    pub model: String,
    /// `lacking`: the pod says that it does not have it ready. `failing`: it fails its requests while others serve them.
    /// `held_off`: it asked to be spared. `panic`: it would be avoided, but too few pods would be left. `on_trial`: it is back,
    /// and gets one request at a time until it served one.
    pub why: &'static str,
    /// For how long still, ms, where that is known.
    pub for_ms: Option<f64>,
}

/// What one peer has in flight on one pod.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "driver", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerShare {
    /// The peer.
    pub node: String,
    /// Its tickets and remainders there.
    pub in_flight: u32,
    /// Their typical cost, ms.
    pub cost_ms: f64,
    /// How old the newest news about it is, ms.
    pub news_age_ms: f64,
    /// Time since anything was received from the peer, ms.
    pub row_age_ms: f64,
    /// How much its row counts, 0 to 1.
    pub weight: f64,
}

/// One member of the cluster, as this node believes.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "driver", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberView {
    /// Its name, or its id where the name was not heard yet.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where it gossips.
    pub addr: String,
    /// `alive`, `suspect`, `down` (it failed) or `left` (it said goodbye); a node says `alive` of itself.
    pub state: &'static str,
    /// Which start of it.
    pub epoch: u64,
    /// SWIM identity renewals within the epoch.
    pub r#gen: u32,
    /// Whether it is the node that was asked.
    pub this_node: bool,
    /// Time since anything was received from it, ms; none where nothing was.
    pub row_age_ms: Option<f64>,
    /// How much its row counts, 0 to 1.
    pub weight: f64,
}

/// What one node believes about one member, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Belief {
    /// Alive or suspect, not down.
    pub active: bool,
    /// Its epoch, as membership has it.
    pub epoch: Epoch,
    /// Whether it said goodbye.
    pub leaving: bool,
    /// The epoch of its row; a row counts only where it is the member's.
    pub row_epoch: Epoch,
    /// The number of the last full row; within an epoch it only grows.
    pub row_seq: Seq,
    /// Since anything came from it; none where nothing ever did.
    pub row_age: Option<Duration>,
    /// How often its row comes in full, as it said.
    pub row_every: Duration,
    /// What its row counts, in 1/256.
    pub weight_x256: u64,
}

/// How much a node keeps, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// Members that are alive or suspect, without this node.
    pub active: usize,
    /// Nodes that it keeps a row or a name of, the down ones too.
    pub peers: usize,
    /// Identities that SWIM remembers.
    pub members: usize,
    /// SWIM's timers.
    pub timers: usize,
    /// Pairs of pod and model that this node counted on.
    pub own_lanes: usize,
    /// Pods and models in this node's index table.
    pub own_names: usize,
    /// Changes that wait to be told once more.
    pub repeats: usize,
    /// Entries in all peers' rows.
    pub peer_entries: usize,
    /// Pods in all peers' index tables.
    pub peer_names: usize,
    /// Picks of strict mode that wait for an answer, or to be polled.
    pub asked: usize,
    /// Reservations of others, those that count no more included.
    pub reservations: usize,
    /// Entries of others that wait to be passed on.
    pub relayed: usize,
    /// Reasons for which peers' messages were refused, kept so that each is told once.
    pub refusals: usize,
    /// Models that peers told the costs of, and nobody asked for here.
    pub told_models: usize,
}
