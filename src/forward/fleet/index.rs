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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, version: &str, state: &str, reason: &str) -> ModelIndex {
        let [name, version, state, reason] = [name, version, state, reason].map(str::to_owned);
        ModelIndex { name, version, state, reason }
    }

    /// The same, whichever of the pods answers first.
    fn united(answers: &[Vec<ModelIndex>]) -> Vec<ModelIndex> {
        let in_order = |order: &mut dyn Iterator<Item = usize>| {
            let mut index = Index::default();
            for place in order {
                index.add(place, RepositoryIndexResponse { models: answers[place].clone() }).unwrap();
            }
            index.into_answer().models
        };
        let forwards = in_order(&mut (0..answers.len()));
        assert_eq!(in_order(&mut (0..answers.len()).rev()), forwards);
        forwards
    }

    /// A model that one pod has ready can be asked for, whatever is wrong with it on the others.
    #[test]
    fn a_version_is_ready_where_any_pod_has_it_ready() {
        let index = united(&[
            vec![said("m", "1", "UNAVAILABLE", "no memory"), said("n", "1", "UNAVAILABLE", "unloaded")],
            vec![said("m", "1", "READY", ""), said("n", "1", "UNAVAILABLE", "no memory")],
            vec![said("m", "1", "LOADING", ""), said("n", "1", "UNAVAILABLE", "")],
        ]);
        assert_eq!(index, [said("m", "1", "READY", ""), said("n", "1", "UNAVAILABLE", "unloaded")]);
    }

    /// A Triton lists a model that it never loaded once, without a version. Where others loaded it, that line says nothing, and
    /// whoever counts the models would count one too many.
    #[test]
    fn a_model_that_only_some_pods_loaded_is_listed_by_its_versions() {
        let never = said("m", "", "", "");
        let index = united(&[
            vec![said("a", "", "", ""), never.clone(), said("z", "", "", "")],
            vec![said("a", "", "", ""), said("m", "10", "READY", ""), said("m", "9", "READY", "")],
        ]);
        let expected =
            [said("a", "", "", ""), said("m", "9", "READY", ""), said("m", "10", "READY", ""), said("z", "", "", "")];
        assert_eq!(index, expected);
        assert_eq!(united(&[vec![never.clone()], vec![never.clone()]]), [never]);
    }
}
