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
