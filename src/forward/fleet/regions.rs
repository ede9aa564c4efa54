//! The shared-memory regions that any pod knows, as those of one server.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use plimsoll_proto::inference::{
    CudaSharedMemoryStatusResponse, SystemSharedMemoryStatusResponse, cuda_shared_memory_status_response,
    system_shared_memory_status_response,
};
use prost::Message;

use super::super::ask::Failure;
use super::merged::{Held, Merge, TooMuch};

/// A list of regions by name: system memory's or CUDA's.
pub(super) trait Listing: Message + Default {
    type Region: Message;

    fn of(regions: BTreeMap<String, Self::Region>) -> Self;

    fn into_regions(self) -> BTreeMap<String, Self::Region>;
}

impl Listing for SystemSharedMemoryStatusResponse {
    type Region = system_shared_memory_status_response::RegionStatus;

    fn of(regions: BTreeMap<String, Self::Region>) -> Self {
        SystemSharedMemoryStatusResponse { regions }
    }

    fn into_regions(self) -> BTreeMap<String, Self::Region> {
        self.regions
    }
}

impl Listing for CudaSharedMemoryStatusResponse {
    type Region = cuda_shared_memory_status_response::RegionStatus;

    fn of(regions: BTreeMap<String, Self::Region>) -> Self {
        CudaSharedMemoryStatusResponse { regions }
    }

    fn into_regions(self) -> BTreeMap<String, Self::Region> {
        self.regions
    }
}

/// See the module's description. Where pods know different regions by one name, the first pod's is told.
pub(super) struct Regions<L: Listing> {
    known: BTreeMap<String, (usize, L::Region)>,
    held: Held,
}

impl<L: Listing> Default for Regions<L> {
    fn default() -> Regions<L> {
        Regions { known: BTreeMap::new(), held: Held::default() }
    }
}

impl<L: Listing> Merge for Regions<L> {
    type Answer = L;

    fn add(&mut self, place: usize, answer: L) -> Result<(), TooMuch> {
        for (name, region) in answer.into_regions() {
            match self.known.entry(name) {
                Entry::Occupied(known) if known.get().0 <= place => {}
                entry => {
                    self.held.add(&region)?;
                    entry.insert_entry((place, region));
                }
            }
        }
        Ok(())
    }

    fn into_answer(self) -> L {
        L::of(self.known.into_iter().map(|(name, (_, region))| (name, region)).collect())
    }

    /// As for the index.
    fn is_whole_without(_: &Failure) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_proto::inference::system_shared_memory_status_response::RegionStatus;

    use super::*;

    fn region(name: &str, byte_size: u64) -> (String, RegionStatus) {
        (name.to_owned(), RegionStatus { name: name.into(), key: format!("/{name}"), offset: 0, byte_size })
    }

    /// A region that was pinned to the last pod is there for whoever pins requests to it; and which of two regions of one
    /// name is told must not be chance.
    #[test]
    fn regions_of_all_pods_are_told_and_the_first_pods_win() {
        let answers = [vec![region("a", 1)], vec![region("b", 2), region("c", 3)], vec![region("b", 9)]];
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut regions = Regions::<SystemSharedMemoryStatusResponse>::default();
            for place in order {
                regions.add(place, Listing::of(answers[place].iter().cloned().collect())).unwrap();
            }
            let expected = [region("a", 1), region("b", 2), region("c", 3)];
            assert_eq!(regions.into_answer().regions, expected.into_iter().collect());
        }
    }
}
