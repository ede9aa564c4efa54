//! The repository indexes of all pods as that of one server: a version is READY where any pod has it ready.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use plimsoll_proto::inference::RepositoryIndexResponse;
use plimsoll_proto::inference::repository_index_response::ModelIndex;

use super::super::ask::Failure;
use super::merged::{Held, Merge, TooMuch, Version};

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By name and version, with the place of the pod that says so.
    models: BTreeMap<(String, Version), (usize, ModelIndex)>,
    held: Held,
}

impl Merge for Index {
    type Answer = RepositoryIndexResponse;

    fn add(&mut self, place: usize, answer: RepositoryIndexResponse) -> Result<(), TooMuch> {
        for said in answer.models {
            let key = (said.name.clone(), Version::of(&said.version));
            let rank = |place: usize, said: &ModelIndex| (rank(&said.state), place);
            match self.models.entry(key) {
                Entry::Occupied(known) if rank(known.get().0, &known.get().1) <= rank(place, &said) => {}
                entry => {
                    self.held.add(&said)?;
                    entry.insert_entry((place, said));
                }
            }
        }
        Ok(())
    }

    fn into_answer(self) -> RepositoryIndexResponse {
        let mut models: Vec<ModelIndex> = Vec::with_capacity(self.models.len());
        for (_, model) in self.models.into_values() {
            // A model without a version is one that was never loaded. It comes before its versions, of which one server
            // that has some shows only those.
            if models.last().is_some_and(|last| last.version.is_empty() && last.name == model.name) {
                models.pop();
            }
            models.push(model);
        }
        RepositoryIndexResponse { models }
    }

    /// It tells what there is: what a silent pod has it may leave out, rather than tell nothing.
    fn is_whole_without(_: &Failure) -> bool {
        true
    }
}

/// What of different states is told, least first: what the fleet can do, then what it will be able to do.
fn rank(state: &str) -> u8 {
    match state {
        "READY" => 0,
        "LOADING" => 1,
        "UNLOADING" => 2,
        "UNAVAILABLE" => 3,
        "" => 5,
        _ => 4,
    }
}
