//! What requests cost, as nodes tell each other: by model name, so that it can be read without any table.

use bincode::{Decode, Encode};

use super::{MAX_NAME, WireError, malformed, put, whole};
use crate::observe::SizeCost;

/// Sizes that one message may tell of; what is over that is not read. A model rarely has more than a dozen.
pub(crate) const MAX_SIZES: usize = 64;
/// The bytes of one size at most, and of a model beside its name.
pub(crate) const SIZE_BYTES: usize = 1 + 5 + 1;
pub(crate) const MODEL_BYTES: usize = 3 + 1;

/// What the sender learned of its requests' costs: its own samples only, never what it heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// By model.
    pub models: Vec<ModelCosts>,
}

/// What requests of one model cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCosts {
    /// The model's name.
    pub name: String,
    /// By size.
    pub sizes: Vec<SizeCost>,
}

#[derive(Encode, Decode)]
struct WireModel {
    name: String,
    /// Bucket, mean in µs, samples.
    sizes: Vec<(u8, u32, u8)>,
}

impl Costs {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let model = |model: &ModelCosts| WireModel {
            name: model.name.clone(),
            sizes: model.sizes.iter().map(|size| (size.bucket, size.mean_us, size.samples)).collect(),
        };
        put(out, self.models.iter().map(model).collect::<Vec<_>>());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Costs, WireError> {
        let models: Vec<WireModel> = whole(body, "costs")?;
        let sizes = models.iter().map(|model| model.sizes.len()).sum::<usize>();
        if sizes > MAX_SIZES || models.iter().any(|model| model.name.len() > MAX_NAME) {
            return Err(malformed("costs"));
        }
        let size = |(bucket, mean_us, samples)| SizeCost { bucket, mean_us, samples };
        let model = |WireModel { name, sizes }| ModelCosts { name, sizes: sizes.into_iter().map(size).collect() };
        Ok(Costs { models: models.into_iter().map(model).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::gossip::wire::{Channel, Message};

    fn costs(names: &[&str], sizes: usize) -> Costs {
        let size = |bucket| SizeCost { bucket: bucket as u8, mean_us: 5000, samples: 32 };
        let model = |name: &&str| ModelCosts { name: (*name).to_owned(), sizes: (0..sizes).map(size).collect() };
        Costs { models: names.iter().map(model).collect() }
    }

    /// The layout is version 1 for ever: proto, kind, tag, then models as name and sizes.
    #[test]
    fn the_bytes_of_costs_are_these() {
        let size = SizeCost { bucket: 13, mean_us: 6200, samples: 32 };
        let costs = Costs { models: vec![ModelCosts { name: "m".into(), sizes: vec![size] }] };
        let bytes = Message::Costs(costs.clone()).encode(0x0403_0201);
        assert_eq!(&bytes[..], [1, 8, 1, 2, 3, 4, 1, 1, b'm', 1, 13, 251, 0x38, 0x18, 32]);
        assert_eq!(Message::decode(&bytes, Channel::Datagram, 0x0403_0201), Ok(Message::Costs(costs)));
    }

    /// More than one message may tell of is refused whole: who sends it is no node of ours.
    #[test]
    fn more_than_a_message_may_tell_of_is_refused() {
        let told = |costs: Costs| Message::decode(&Message::Costs(costs).encode(7), Channel::Datagram, 7);
        assert!(told(costs(&["a"], MAX_SIZES)).is_ok());
        assert!(told(costs(&["a", "b"], MAX_SIZES / 2 + 1)).is_err());
        assert!(told(costs(&[&"x".repeat(MAX_NAME + 1)], 1)).is_err());
    }

    proptest! {
        /// Bytes of anybody's are read or refused, and what is read is within the bounds.
        #[test]
        fn any_bytes_are_read_within_bounds_or_refused(body in vec(any::<u8>(), 0..1144)) {
            if let Ok(costs) = Costs::decode(&body) {
                prop_assert!(costs.models.iter().map(|model| model.sizes.len()).sum::<usize>() <= MAX_SIZES);
            }
        }
    }
}
