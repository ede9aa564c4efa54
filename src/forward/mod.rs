//! Bytes between callers and pods: the balanced channel, and the front for callers in any language.
//!
//! Both take the same road: peek at the request as little as a pick needs (model, size), pick as late as possible, send
//! over the pod's one connection, and let the ticket ride in the response body until its last frame. Messages pass as
//! they came: nothing here decodes a tensor, copies a payload, or sends a request twice that a pod may have begun, unless its
//! model's owner allows it.

mod answer;
mod ask;
mod authority;
mod body;
mod call;
mod channel;
mod claim;
mod deadline;
mod fleet;
mod front;
mod hedge;
mod line;
mod models;
mod options;
mod outcome;
mod peek;
mod pending;
mod pin;
mod plain;
mod queue;
mod readmit;
mod refusal;
mod replay;
mod response;
mod retry;
mod room;
mod route;
mod send;
mod shape;
mod source;
mod statistics;
mod stream;
mod trip;
mod upstream;
mod whole;

use crate::core::Health;
use crate::pick::Picker;

pub use channel::BalancedChannel;
pub use front::{FrontOptions, serve};
pub use options::{Affinity, ForwardOptions, Limits, ModelOptions, Retry};
pub use upstream::{AddressError, check_address};

/// Asks the pods of `picker` how they are, for as long as `wanted` says.
pub(crate) async fn look_after(picker: Picker, health: Health, wanted: impl Fn() -> bool) {
    models::follow(picker, health, wanted).await;
}
