//! Who is who: newtypes, so that a node is never mistaken for a pod, nor an epoch for a sequence number.

use std::fmt;

use sha2::{Digest, Sha256};

/// A node: the first eight bytes of the SHA-256 of its name, so that every node computes the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The id of the node called `name`.
    pub fn of(name: &str) -> NodeId {
        NodeId(hash(name.as_bytes()))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One incarnation of a pod: hashed from its unique id where there is one (a Kubernetes UID), else from its address.
///
/// A pod that comes back under another incarnation is another pod; rows about the old life never charge the new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub u64);

impl PodId {
    /// The id of the incarnation that `key` names.
    pub fn of(key: &str) -> PodId {
        PodId(hash(key.as_bytes()))
    }
}

impl fmt::Debug for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which start of a node: larger is later. Rows and identities are ordered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The number of a report within an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The first four bytes of the SHA-256 of a cluster's name: the cheap guard in front of every message.
pub fn cluster_tag(cluster: &str) -> u32 {
    let digest = Sha256::digest(cluster.as_bytes());
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every node must compute the same ids, on every platform and in every version: fixed vectors, made with another implementation.
    #[test]
    fn ids_are_the_same_everywhere() {
        assert_eq!(NodeId::of("caller-1").to_string(), "cb98f479b48fd3a2");
        assert_eq!(cluster_tag("default"), 0xc1ee_a837);
    }
}
