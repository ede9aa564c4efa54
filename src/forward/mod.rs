//! Bytes between callers and pods: the balanced channel, and the front for callers in any language.
//!
//! Both take the same road: peek at the request as little as a pick needs (model, size), pick as late as possible, send
//! over the pod's one connection, and let the ticket ride in the response body until its last frame. Messages pass as
//! they came: nothing here decodes a tensor, copies a payload, or sends a request twice that a pod may have begun.

mod ask;
mod authority;
mod body;
mod channel;
mod deadline;
mod fleet;
mod front;
mod models;
mod outcome;
mod peek;
mod readmit;
mod response;
mod send;
mod shape;
mod statistics;
mod upstream;

use std::time::Duration;

use crate::core::Health;
use crate::pick::Picker;

pub use channel::BalancedChannel;
pub use front::{FrontOptions, serve};
pub use upstream::{AddressError, check_address};

/// What both faces share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// The largest gRPC message that is passed on; a larger one is answered with RESOURCE_EXHAUSTED before it is read.
    /// Messages are streamed, so that a high limit costs no memory here: it protects the pods. Default 256 MiB, which
    /// most image and audio tensors fit.
    pub max_message_bytes: u64,
    /// How long a pod may take to accept a connection before it is ejected and another one is tried. Longer bears
    /// with a slow network, shorter finds a dead machine sooner. Default 1 s: a handshake takes two round trips.
    pub connect_timeout: Duration,
    /// To how many other pods a request is offered, one after the other and at once, when a pod refuses it because its queue
    /// is full. Beyond, the caller gets the last pod's refusal. Default 3: each offer costs a round trip; where pods have
    /// room for one waiting request each, three offers leave a tenth of the refusals or less up to a load of 0.85.
    pub after_refusal: u32,
    /// Whether a model's slots and batches are read from each pod's own configuration of it, one question per model and
    /// connection. Without, what is given for a pod is all that is known. Default true.
    pub read_model_config: bool,
}

/// Asks the pods of `picker` how they are, for as long as `wanted` says.
pub(crate) async fn look_after(picker: Picker, health: Health, wanted: impl Fn() -> bool) {
    models::follow(picker, health.interval, wanted).await;
}

impl Default for ForwardOptions {
    fn default() -> ForwardOptions {
        ForwardOptions {
            max_message_bytes: 256 << 20,
            connect_timeout: Duration::from_secs(1),
            after_refusal: 3,
            read_model_config: true,
        }
    }
}
