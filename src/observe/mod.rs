//! What a node knows: its own counts, exact and live; its peers' rows, of known age; and what the two say about a pod.

mod cost;
mod model;
mod pod;
mod shape;
mod view;

pub use cost::{Cost, SizeClass};
pub(crate) use model::Models;
pub use model::{CostModel, Model};
pub(crate) use pod::Lane;
pub use pod::{Ejection, Pod, PodLoad, PodSpec, PodStats};
pub use shape::{Batching, ModelShape};
pub use view::{Belief, Footprint, MemberView, PeerShare, PodView, View};
