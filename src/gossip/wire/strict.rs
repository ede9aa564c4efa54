//! Strict mode on the wire: a node asks the owner of a shard for a pod, the owner names one, and a grant that came too
//! late is given back. Three small datagrams, none of them needed by a node that does not pick strictly.

use bincode::{Decode, Encode};

use super::{WireError, name, whole};
use crate::id::{Epoch, PodId, Seq};
use crate::observe::SizeClass;

/// Shards there can be: at fifty pods each, a hundred times the largest fleet that is known.
pub const MAX_SHARDS: u16 = 1024;
/// Pods that one request may exclude: those it has tried, and those its node has ejected in the shard. A node with more
/// picks by itself.
pub const MAX_EXCLUDED: usize = 16;

/// Which pod of a shard should take a request?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The number of the question: never used twice by one start of a node.
    pub nonce: u64,
    /// Which start of the sender asks.
    pub epoch: Epoch,
    /// The sender's last report: a later one that tells of the pod tells of this request too.
    pub seq: Seq,
    /// Which shard.
    pub shard: u16,
    /// Of how many.
    pub shards: u16,
    /// What the request costs.
    pub class: SizeClass,
    /// What it asks for.
    pub model: String,
    /// Pods that it must not go to.
    pub exclude: Vec<PodId>,
}

/// The owner's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The number of the question.
    pub nonce: u64,
    /// The pod that is reserved; none where the receiver does not own the shard, or has no pod for it.
    pub pod: Option<PodId>,
}

/// A grant that is not used: its reservation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveBack {
    /// The number of the question.
    pub nonce: u64,
}

#[derive(Encode, Decode)]
pub(super) struct WireReserve {
    nonce: u64,
    epoch: u64,
    seq: u64,
    shard: u16,
    shards: u16,
    class: u8,
    model: String,
    exclude: Vec<u64>,
}

#[derive(Encode, Decode)]
pub(super) struct WireGrant(u64, Option<u64>);

#[derive(Encode, Decode)]
pub(super) struct WireGiveBack(u64);

impl Reserve {
    pub(super) fn decode(body: &[u8]) -> Result<Reserve, WireError> {
        let reserve: WireReserve = whole(body, "reserve")?;
        let malformed = || WireError::Body("reserve");
        let bounded = reserve.shards <= MAX_SHARDS && reserve.shard < reserve.shards;
        if !bounded || reserve.exclude.len() > MAX_EXCLUDED {
            return Err(malformed());
        }
        Ok(Reserve {
            nonce: reserve.nonce,
            epoch: Epoch(reserve.epoch),
            seq: Seq(reserve.seq),
            shard: reserve.shard,
            shards: reserve.shards,
            class: SizeClass::new(reserve.class).ok_or_else(malformed)?,
            model: name(reserve.model, "reserve")?,
            exclude: reserve.exclude.into_iter().map(PodId).collect(),
        })
    }
}

impl Grant {
    pub(super) fn decode(body: &[u8]) -> Result<Grant, WireError> {
        let WireGrant(nonce, pod) = whole(body, "grant")?;
        Ok(Grant { nonce, pod: pod.map(PodId) })
    }
}

impl GiveBack {
    pub(super) fn decode(body: &[u8]) -> Result<GiveBack, WireError> {
        let WireGiveBack(nonce) = whole(body, "give_back")?;
        Ok(GiveBack { nonce })
    }
}

impl From<&Reserve> for WireReserve {
    fn from(reserve: &Reserve) -> WireReserve {
        WireReserve {
            nonce: reserve.nonce,
            epoch: reserve.epoch.0,
            seq: reserve.seq.0,
            shard: reserve.shard,
            shards: reserve.shards,
            class: reserve.class.index() as u8,
            model: reserve.model.clone(),
            exclude: reserve.exclude.iter().map(|pod| pod.0).collect(),
        }
    }
}

impl From<&Grant> for WireGrant {
    fn from(grant: &Grant) -> WireGrant {
        WireGrant(grant.nonce, grant.pod.map(|pod| pod.0))
    }
}

impl From<&GiveBack> for WireGiveBack {
    fn from(back: &GiveBack) -> WireGiveBack {
        WireGiveBack(back.nonce)
    }
}
