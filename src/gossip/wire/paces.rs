//! How fast pods are, as nodes saw it: by pod id, so that it can be read without any table.

use super::{WireError, malformed, put, whole};
use crate::id::PodId;

/// Pods that one message may tell of; what is over that is not read. A datagram holds so many.
pub(crate) const MAX_PACES: usize = 80;

/// What the sender saw of pods since it told of them last: each request that found a pod idle is told of once, and never what
/// was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paces {
    /// By pod.
    pub pods: Vec<PodPace>,
}

/// How long requests took on one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPace {
    /// The pod.
    pub pod: PodId,
    /// The mean of what they took over what they should have, in 1/256.
    pub ratio_x256: u16,
    /// How many they were.
    pub samples: u8,
}

impl Paces {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.pods.iter().map(|one| (one.pod.0, one.ratio_x256, one.samples)).collect::<Vec<_>>());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Paces, WireError> {
        let pods: Vec<(u64, u16, u8)> = whole(body, "paces")?;
        if pods.len() > MAX_PACES {
            return Err(malformed("paces"));
        }
        let pace = |(pod, ratio_x256, samples)| PodPace { pod: PodId(pod), ratio_x256, samples };
        Ok(Paces { pods: pods.into_iter().map(pace).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::gossip::wire::{Channel, MAX_DATAGRAM, Message};

    fn paces(count: usize) -> Paces {
        let pace = |k| PodPace { pod: PodId(u64::MAX - k as u64), ratio_x256: u16::MAX, samples: 255 };
        Paces { pods: (0..count).map(pace).collect() }
    }

    /// The layout is version 1 for ever: proto, kind, tag, then pods as id, ratio and samples.
    #[test]
    fn the_bytes_of_paces_are_these() {
        let paces = Paces { pods: vec![PodPace { pod: PodId(0x0908), ratio_x256: 512, samples: 3 }] };
        let bytes = Message::Paces(paces.clone()).encode(0x0403_0201);
        assert_eq!(&bytes[..], [1, 12, 1, 2, 3, 4, 1, 251, 8, 9, 251, 0, 2, 3]);
        assert_eq!(Message::decode(&bytes, Channel::Datagram, 0x0403_0201), Ok(Message::Paces(paces)));
    }

    /// The most that one may tell of fits a datagram; more is refused whole: who sends it is no node of ours.
    #[test]
    fn the_most_fits_and_more_is_refused() {
        let encoded = |count| Message::Paces(paces(count)).encode(7);
        assert!(encoded(MAX_PACES).len() <= MAX_DATAGRAM);
        assert!(Message::decode(&encoded(MAX_PACES), Channel::Datagram, 7).is_ok());
        assert!(Paces::decode(&encoded(MAX_PACES + 1)[6..]).is_err());
    }

    proptest! {
        /// Bytes of anybody's are read or refused, and what is read is within the bounds.
        #[test]
        fn any_bytes_are_read_within_bounds_or_refused(body in vec(any::<u8>(), 0..1144)) {
            if let Ok(paces) = Paces::decode(&body) {
                prop_assert!(paces.pods.len() <= MAX_PACES);
            }
        }
    }
}
