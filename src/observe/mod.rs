//! What a node knows: its own counts, exact and live; its peers' rows, of known age; and what the two say about a pod.

mod batches;
mod cost;
mod ends;
mod fitness;
mod gauge;
mod heard;
mod heights;
mod lane;
mod learn;
mod marks;
mod model;
mod models;
pub(crate) mod pace;
mod pod;
mod pod_tls;
mod schedule;
mod shape;
mod silence;
mod view;

pub use batches::BatchLaw;
pub(crate) use batches::average;
pub use cost::{Cost, Formula, SizeClass};
pub use fitness::Rank;
pub use heights::Part;
pub(crate) use lane::Lane;
pub use model::{CostModel, Model, SizeCost};
pub(crate) use models::{Formulas, Hearing, MAX_MODELS, Models};
pub use pod::{Because, Ejection, Pod, PodLoad, PodSpec, PodStats};
pub(crate) use pod::{FIRST_SHARE, Out, Parts};
pub use pod_tls::PodTls;
pub use schedule::Open;
pub(crate) use schedule::{By, Change};
pub use shape::{Batching, ModelShape};
pub use view::{Belief, CostView, Footprint, MemberView, ModelOut, PeerShare, PodView, View};
