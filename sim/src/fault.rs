//! Faults: what goes wrong, where and for how long.

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::policy::{ExactKind, Policy};
use crate::rng::Share;

/// One thing that goes wrong. What lasts ends after its `for_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// A node is killed: its tickets and connections die with it, and nobody is told. It starts again on its address.
    NodeCrash {
        /// Which.
        node: usize,
        /// Down for this long.
        for_ms: u64,
        /// Its clock was set back: it comes with a lower epoch than before.
        #[serde(default)]
        clock_back: bool,
    },
    /// A node says goodbye and starts again: a deploy.
    NodeRestart {
        /// Which.
        node: usize,
        /// Down for this long.
        for_ms: u64,
    },
    /// Two nodes are killed and start again, each on the other's address.
    NodeSwap {
        /// The one.
        node: usize,
        /// The other.
        with: usize,
        /// Down for this long.
        for_ms: u64,
    },
    /// A node is stopped in its tracks (SIGSTOP): what comes for it waits.
    NodePause {
        /// Which.
        node: usize,
        /// For this long.
        for_ms: u64,
    },
    /// A node takes this long over every input.
    NodeSlow {
        /// Which.
        node: usize,
        /// Per input, µs.
        us: u64,
        /// For this long.
        for_ms: u64,
    },
    /// Nothing gets through one way.
    Wall {
        /// From this node.
        from: usize,
        /// To that one.
        to: usize,
        /// For this long.
        for_ms: u64,
    },
    /// The nodes of a group are cut off from all others, both ways.
    Partition {
        /// The group.
        group: Vec<usize>,
        /// For this long.
        for_ms: u64,
    },
    /// A link holds everything, then lets it go at once.
    Clog {
        /// From this node.
        from: usize,
        /// To that one.
        to: usize,
        /// For this long.
        for_ms: u64,
    },
    /// Every link loses packets.
    Loss {
        /// This share of them.
        share: Share,
        /// For this long.
        for_ms: u64,
    },
    /// Every link takes longer.
    Delay {
        /// By this much.
        add_ms: u64,
        /// For this long.
        for_ms: u64,
    },
    /// Old datagrams arrive again.
    Replay {
        /// At this node.
        node: usize,
        /// As many.
        count: u32,
    },
    /// A node's process turns on the others: as a member, with a valid certificate.
    Hostile {
        /// Which.
        node: usize,
        /// What it does.
        trick: Trick,
        /// As many messages to everybody.
        count: u32,
    },
    /// A pod dies with all it has, and starts again under its address.
    PodCrash {
        /// Which.
        pod: usize,
        /// Down for this long.
        for_ms: u64,
    },
    /// A pod stops (SIGSTOP): it takes connections and answers nothing.
    PodHang {
        /// Which.
        pod: usize,
        /// For this long.
        for_ms: u64,
    },
    /// A pod takes longer over everything it starts.
    PodSlow {
        /// Which.
        pod: usize,
        /// In percent: 1000 is ten times as long.
        percent: u32,
        /// For this long.
        for_ms: u64,
    },
    /// A pod fails a share of its requests at once.
    PodErrors {
        /// Which.
        pod: usize,
        /// This share.
        share: Share,
        /// For this long.
        for_ms: u64,
    },
    /// A pod fails all requests of one model, and calls itself ready: the model's process died.
    ModelHole {
        /// Which pod.
        pod: usize,
        /// Which model, modulo those there are.
        #[serde(default)]
        model: usize,
        /// Each after so long; 0 is at once.
        after_ms: u64,
        /// For this long.
        for_ms: u64,
    },
    /// A pod unloads a model, and loads it again.
    ModelUnload {
        /// Which pod.
        pod: usize,
        /// Which model, modulo those there are.
        #[serde(default)]
        model: usize,
        /// For this long.
        for_ms: u64,
    },
    /// Discovery says that a pod is about to end, and then that it is not.
    PodDrain {
        /// Which.
        pod: usize,
        /// Nodes learn within this.
        spread_ms: u64,
        /// For this long.
        for_ms: u64,
    },
    /// A pod is taken away and comes back as a new incarnation; nodes learn of both at different moments.
    PodReplace {
        /// Which.
        pod: usize,
        /// Gone for this long.
        for_ms: u64,
        /// Nodes learn within this.
        spread_ms: u64,
    },
    /// The store of a world that has one answers nothing, then all at once. Other policies do not notice.
    RedisStall {
        /// For this long.
        for_ms: u64,
    },
    /// The store of a world that has one dies, and comes back empty. Other policies do not notice.
    RedisDeath {
        /// Down for this long.
        for_ms: u64,
    },
    /// Clients ask for more.
    Surge {
        /// In percent of the load: 200 is twice as much.
        percent: u32,
        /// For this long.
        for_ms: u64,
    },
    /// Requests take longer, or less, whoever runs them: a new version of a model. They come as often as before.
    ModelChange {
        /// In percent: 300 is three times as long.
        percent: u32,
        /// For this long.
        for_ms: u64,
    },
}

/// What a hostile member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trick {
    /// Bytes that are no message.
    Noise,
    /// Messages of its own with flipped bits.
    Flips,
    /// Messages of its own, cut short.
    Cuts,
    /// Rows that claim as much as can be said.
    HugeRows,
    /// Rows from a far future epoch and seq.
    FutureRows,
    /// Rows and Hellos in another member's name.
    Forged,
    /// SWIM packets that declare everybody down.
    Downs,
    /// Members that do not exist.
    Ghosts,
    /// More reservations than anybody needs, and grants that nobody asked for.
    Reserves,
    /// Costs that no request has, of models that nobody knows and of the one that all do.
    Costs,
}

impl Trick {
    /// All of them.
    pub const ALL: [Trick; 10] = [
        Trick::Noise,
        Trick::Flips,
        Trick::Cuts,
        Trick::HugeRows,
        Trick::FutureRows,
        Trick::Forged,
        Trick::Downs,
        Trick::Ghosts,
        Trick::Reserves,
        Trick::Costs,
    ];
}

impl Fault {
    /// The names of all kinds, in the order in which they stand here.
    pub const KINDS: [&str; 24] = [
        "node-crash",
        "node-restart",
        "node-swap",
        "node-pause",
        "node-slow",
        "wall",
        "partition",
        "clog",
        "loss",
        "delay",
        "replay",
        "hostile",
        "pod-crash",
        "pod-hang",
        "pod-slow",
        "pod-errors",
        "pod-replace",
        "surge",
        "redis-stall",
        "redis-death",
        "model-change",
        "model-hole",
        "model-unload",
        "pod-drain",
    ];

    /// Its kind, as plans have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::NodeCrash { .. } => "node-crash",
            Fault::NodeRestart { .. } => "node-restart",
            Fault::NodeSwap { .. } => "node-swap",
            Fault::NodePause { .. } => "node-pause",
            Fault::NodeSlow { .. } => "node-slow",
            Fault::Wall { .. } => "wall",
            Fault::Partition { .. } => "partition",
            Fault::Clog { .. } => "clog",
            Fault::Loss { .. } => "loss",
            Fault::Delay { .. } => "delay",
            Fault::Replay { .. } => "replay",
            Fault::Hostile { .. } => "hostile",
            Fault::PodCrash { .. } => "pod-crash",
            Fault::PodHang { .. } => "pod-hang",
            Fault::PodSlow { .. } => "pod-slow",
            Fault::PodErrors { .. } => "pod-errors",
            Fault::PodReplace { .. } => "pod-replace",
            Fault::RedisStall { .. } => "redis-stall",
            Fault::RedisDeath { .. } => "redis-death",
            Fault::Surge { .. } => "surge",
            Fault::ModelChange { .. } => "model-change",
            Fault::ModelHole { .. } => "model-hole",
            Fault::ModelUnload { .. } => "model-unload",
            Fault::PodDrain { .. } => "pod-drain",
        }
    }

    /// How long it lasts, ms; 0 for what is over at once.
    pub fn lasts_ms(&self) -> u64 {
        match self {
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
            | Fault::RedisStall { for_ms }
            | Fault::RedisDeath { for_ms }
            | Fault::Surge { for_ms, .. }
            | Fault::ModelChange { for_ms, .. } => *for_ms,
            Fault::Replay { .. } | Fault::Hostile { .. } => 0,
        }
    }

    /// The nodes it names.
    pub fn nodes(&self) -> Vec<usize> {
        match self {
            Fault::NodeCrash { node, .. }
            | Fault::NodeRestart { node, .. }
            | Fault::NodePause { node, .. }
            | Fault::NodeSlow { node, .. }
            | Fault::Replay { node, .. }
            | Fault::Hostile { node, .. } => vec![*node],
            Fault::NodeSwap { node, with, .. } => vec![*node, *with],
            Fault::Wall { from, to, .. } | Fault::Clog { from, to, .. } => vec![*from, *to],
            Fault::Partition { group, .. } => group.clone(),
            _ => Vec::new(),
        }
    }

    /// The pod it names.
    pub fn pod(&self) -> Option<usize> {
        match self {
            Fault::PodCrash { pod, .. }
            | Fault::PodHang { pod, .. }
            | Fault::PodSlow { pod, .. }
            | Fault::PodErrors { pod, .. }
            | Fault::ModelHole { pod, .. }
            | Fault::ModelUnload { pod, .. }
            | Fault::PodDrain { pod, .. }
            | Fault::PodReplace { pod, .. } => Some(*pod),
            _ => None,
        }
    }

    /// Why it cannot happen in a world of `config`, if it cannot.
    pub(crate) fn problem(&self, config: &Config) -> Option<String> {
        if let Some(node) = self.nodes().into_iter().find(|node| *node >= config.nodes) {
            return Some(format!("there is no node {node}: nodes are 0 to {}", config.nodes - 1));
        }
        if let Some(pod) = self.pod().filter(|pod| *pod >= config.pods) {
            return Some(format!("there is no pod {pod}: pods are 0 to {}", config.pods - 1));
        }
        if config.policy == Policy::Exact(ExactKind::CentralQueue) && self.pod().is_some() {
            return Some("central_queue has no pods of their own to strike: take another policy".into());
        }
        match self {
            Fault::Wall { from, to, .. } | Fault::Clog { from, to, .. } if from == to => {
                Some(format!("`from` and `to` are both {from}: a node has no link with itself"))
            }
            Fault::NodeSwap { node, with, .. } if node == with => {
                Some(format!("`node` and `with` are both {node}: a node has no address to swap with itself"))
            }
            Fault::PodSlow { percent: 0, .. } => {
                Some("`percent = 0`: must be 1 or more; 100 is as fast as ever".into())
            }
            Fault::NodeSlow { us, .. } => above("us", *us, 1_000_000),
            Fault::Delay { add_ms, .. } => above("add_ms", *add_ms, 60_000),
            Fault::PodReplace { spread_ms, .. } | Fault::PodDrain { spread_ms, .. } => {
                above("spread_ms", *spread_ms, 3_600_000)
            }
            Fault::ModelHole { after_ms, .. } => above("after_ms", *after_ms, 60_000),
            Fault::ModelChange { percent: 0, .. } => {
                Some("`percent = 0`: must be 1 or more; 100 is as long as ever".into())
            }
            Fault::Surge { percent, .. } | Fault::ModelChange { percent, .. } => {
                above("percent", u64::from(*percent), 100_000)
            }
            Fault::Replay { count, .. } | Fault::Hostile { count, .. } => above("count", u64::from(*count), 10_000),
            _ => None,
        }
    }
}

/// Says that `value` is above `most`, if it is: what is larger than any world needs only makes numbers overflow.
fn above(field: &str, value: u64, most: u64) -> Option<String> {
    (value > most).then(|| format!("`{field} = {value}`: must be at most {most}"))
}
