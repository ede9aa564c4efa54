//! What a node knows: its own counts, exact and live; its peers' rows, of known age; and what the two say about a pod.

mod batches;
mod cost;
mod lane;
mod model;
mod pod;
mod schedule;
mod shape;
mod view;

pub use batches::BatchLaw;
pub use cost::{Cost, SizeClass};
pub(crate) use lane::Lane;
pub use lane::Part;
pub use model::{CostModel, Model};
pub(crate) use model::{MAX_MODELS, Models};
pub use pod::{Ejection, Pod, PodLoad, PodSpec, PodStats};
pub use schedule::Open;
pub(crate) use schedule::{By, Change, MOST_LISTED};
pub use shape::{Batching, ModelShape};
pub use view::{Belief, Footprint, MemberView, PeerShare, PodView, View};
