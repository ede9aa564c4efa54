//! What the indexes in a peer's rows mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::PodId;

/// A peer's index table of pods. Each part of it travels on a stream of its own, so that it may have gaps for a while.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// From index 0 on without a gap.
    first: Arc<Vec<PodId>>,
    /// Behind a gap.
    behind: BTreeMap<u32, PodId>,
}

impl Table {
    pub(crate) fn get(&self, index: u32) -> Option<PodId> {
        self.first.get(index as usize).or_else(|| self.behind.get(&index)).copied()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.behind.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.behind.is_empty()
    }

    /// Learns what the indexes from `from` on mean. What is known stays (after a reconnect all is told again): an index
    /// never changes its meaning within a table.
    pub(crate) fn learn(&mut self, from: u32, pods: Vec<PodId>) {
        let known = self.first.len() as u32;
        if from == known && self.behind.is_empty() {
            match known {
                0 => self.first = Arc::new(pods),
                _ => Arc::make_mut(&mut self.first).extend(pods),
            }
            return;
        }
        for (index, pod) in (from..).zip(pods).filter(|(index, _)| *index >= known) {
            self.behind.entry(index).or_insert(pod);
        }
        while let Some(pod) = self.behind.remove(&(self.first.len() as u32)) {
            Arc::make_mut(&mut self.first).push(pod);
        }
    }

    /// Keeps its pods together with another peer's where they are the same, `latest` being what was learned before.
    /// A fleet's nodes mostly discover the same pods in the same order: with 1,000 nodes and 500 pods each node would
    /// keep 4 MB of one list over and over.
    pub(crate) fn share(&mut self, latest: &mut Arc<Vec<PodId>>) {
        if self.first == *latest {
            self.first = latest.clone();
        } else {
            *latest = self.first.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ids: impl IntoIterator<Item = u64>) -> Vec<PodId> {
        ids.into_iter().map(PodId).collect()
    }

    fn all(table: &Table, upto: u32) -> Vec<Option<u64>> {
        (0..upto).map(|index| table.get(index).map(|pod| pod.0)).collect()
    }

    /// Parts overtake each other and come twice; an index that changed its meaning would charge another pod.
    #[test]
    fn a_table_grows_together_from_parts_in_any_order() {
        let mut table = Table::default();
        table.learn(3, pods([13, 14]));
        table.learn(1, pods([11]));
        assert_eq!(all(&table, 6), [None, Some(11), None, Some(13), Some(14), None]);
        table.learn(0, pods([10, 99, 12, 99]));
        assert_eq!(all(&table, 6), [Some(10), Some(11), Some(12), Some(13), Some(14), None]);
        assert!(table.behind.is_empty());
        table.learn(5, pods([15]));
        table.learn(0, pods([99; 6]));
        assert_eq!(all(&table, 6), [10, 11, 12, 13, 14, 15].map(Some));
    }

    /// What one peer learns later must not show in the table of another that held the same list.
    #[test]
    fn a_shared_list_is_everybodys_own() {
        let (mut a, mut b, mut latest) = (Table::default(), Table::default(), Arc::default());
        for table in [&mut a, &mut b] {
            table.learn(0, pods([1, 2]));
            table.share(&mut latest);
        }
        assert!(Arc::ptr_eq(&a.first, &b.first));
        a.learn(2, pods([3]));
        assert_eq!((a.get(2), b.get(2)), (Some(PodId(3)), None));
    }
}
