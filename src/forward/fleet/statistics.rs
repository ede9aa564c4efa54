//! The statistics of all pods as those of one server: counts and times summed, by model and version.
//!
//! Measuring tools (Triton's perf_analyzer) take the difference of two answers, so what is missing in the second one would be
//! a negative count: an answer is of every pod that can be reached, or an error.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use plimsoll_proto::inference::{
    InferBatchStatistics, InferResponseStatistics, InferStatistics, MemoryUsage, ModelStatistics,
    ModelStatisticsResponse, StatisticDuration,
};
use tonic::Code;

use super::super::ask::Failure;
use super::merged::{Held, Merge, TooMuch, Version};

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    models: BTreeMap<(String, Version), Model>,
    held: Held,
}

/// One version of one model.
#[derive(Debug, Default)]
struct Model {
    /// All but what follows.
    sums: ModelStatistics,
    /// By their size.
    batches: BTreeMap<u64, InferBatchStatistics>,
    /// By type and number of the device, on whichever pods.
    memory: BTreeMap<(String, i64), MemoryUsage>,
}

impl Merge for Statistics {
    type Answer = ModelStatisticsResponse;

    fn add(&mut self, _: usize, answer: ModelStatisticsResponse) -> Result<(), TooMuch> {
        for more in answer.model_stats {
            let model = match self.models.entry((more.name.clone(), Version::of(&more.version))) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => {
                    let ModelStatistics { name, version, .. } = more.clone();
                    let sums = ModelStatistics { name, version, ..ModelStatistics::default() };
                    self.held.add(&sums)?;
                    free.insert(Model { sums, ..Model::default() })
                }
            };
            model.add(more, &mut self.held)?;
        }
        Ok(())
    }

    fn into_answer(self) -> ModelStatisticsResponse {
        let whole = |model: Model| ModelStatistics {
            batch_stats: model.batches.into_values().collect(),
            memory_usage: model.memory.into_values().collect(),
            ..model.sums
        };
        ModelStatisticsResponse { model_stats: self.models.into_values().map(whole).collect() }
    }

    /// What a pod counted that cannot be reached is gone; one that has no such model counts nothing of it.
    fn is_whole_without(failure: &Failure) -> bool {
        match failure {
            Failure::Unreachable(_) => true,
            Failure::Said(status) => matches!(status.code(), Code::InvalidArgument | Code::NotFound),
            Failure::Broke(_) | Failure::Late(_) => false,
        }
    }
}

impl Model {
    fn add(&mut self, more: ModelStatistics, held: &mut Held) -> Result<(), TooMuch> {
        let sums = &mut self.sums;
        sums.last_inference = sums.last_inference.max(more.last_inference);
        add(&mut sums.inference_count, more.inference_count);
        add(&mut sums.execution_count, more.execution_count);
        if let Some(more) = more.inference_stats {
            add_all(sums.inference_stats.get_or_insert_default(), &more);
        }
        for more in more.batch_stats {
            add_batch(held.entry(&mut self.batches, more.batch_size, &more)?, &more);
        }
        for more in more.memory_usage {
            let usage = held.entry(&mut self.memory, (more.r#type.clone(), more.id), &more)?;
            let byte_size = usage.byte_size.saturating_add(more.byte_size);
            *usage = MemoryUsage { byte_size, ..more };
        }
        for (key, more) in more.response_stats {
            add_response(held.entry(&mut sums.response_stats, key, &more)?, &more);
        }
        Ok(())
    }
}

fn add_all(sum: &mut InferStatistics, more: &InferStatistics) {
    let InferStatistics { success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss } =
        sum;
    add_duration(success, more.success);
    add_duration(fail, more.fail);
    add_duration(queue, more.queue);
    add_duration(compute_input, more.compute_input);
    add_duration(compute_infer, more.compute_infer);
    add_duration(compute_output, more.compute_output);
    add_duration(cache_hit, more.cache_hit);
    add_duration(cache_miss, more.cache_miss);
}

fn add_batch(sum: &mut InferBatchStatistics, more: &InferBatchStatistics) {
    let InferBatchStatistics { batch_size, compute_input, compute_infer, compute_output } = sum;
    *batch_size = more.batch_size;
    add_duration(compute_input, more.compute_input);
    add_duration(compute_infer, more.compute_infer);
    add_duration(compute_output, more.compute_output);
}

fn add_response(sum: &mut InferResponseStatistics, more: &InferResponseStatistics) {
    let InferResponseStatistics { compute_infer, compute_output, success, fail, empty_response, cancel } = sum;
    add_duration(compute_infer, more.compute_infer);
    add_duration(compute_output, more.compute_output);
    add_duration(success, more.success);
    add_duration(fail, more.fail);
    add_duration(empty_response, more.empty_response);
    add_duration(cancel, more.cancel);
}

fn add_duration(sum: &mut Option<StatisticDuration>, more: Option<StatisticDuration>) {
    if let Some(more) = more {
        let sum = sum.get_or_insert_default();
        add(&mut sum.count, more.count);
        add(&mut sum.ns, more.ns);
    }
}

/// What pods say is not to be trusted with an overflow.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn took(count: u64) -> Option<StatisticDuration> {
        Some(StatisticDuration { count, ns: 1000 * count })
    }

    fn of(name: &str, version: &str, count: u64, batch_size: u64) -> ModelStatistics {
        let inference_stats =
            InferStatistics { success: took(count), queue: took(2 * count), cache_hit: took(0), ..Default::default() };
        let batch = InferBatchStatistics { batch_size, compute_infer: took(count), ..Default::default() };
        let response = InferResponseStatistics { success: took(count), cancel: took(1), ..Default::default() };
        ModelStatistics {
            name: name.into(),
            version: version.into(),
            last_inference: 1000_u64.saturating_sub(count),
            inference_count: count,
            execution_count: count / 2,
            inference_stats: Some(inference_stats),
            batch_stats: vec![batch],
            memory_usage: vec![MemoryUsage { r#type: "GPU".into(), id: 0, byte_size: count }],
            response_stats: [("0".to_owned(), response)].into(),
        }
    }

    fn merged(answers: impl IntoIterator<Item = (usize, Vec<ModelStatistics>)>) -> Vec<ModelStatistics> {
        let mut sums = Statistics::default();
        for (place, model_stats) in answers {
            sums.add(place, ModelStatisticsResponse { model_stats }).unwrap();
        }
        sums.into_answer().model_stats
    }

    /// Every number has to be there once: one that is left out, or taken from one pod, makes a throughput that nobody had.
    #[test]
    fn counts_and_times_are_summed_and_the_last_inference_is_the_latest() {
        let sum =
            merged([(0, vec![of("m", "1", 10, 4)]), (1, vec![of("m", "1", 20, 1)]), (2, vec![of("m", "1", 30, 4)])]);
        let [sum] = &sum[..] else { panic!("{sum:?}") };
        assert_eq!((sum.inference_count, sum.execution_count, sum.last_inference), (60, 30, 990));
        let all = sum.inference_stats.unwrap();
        assert_eq!((all.success, all.queue, all.cache_hit, all.fail), (took(60), took(120), took(0), None));
        let batches: Vec<_> = sum.batch_stats.iter().map(|batch| (batch.batch_size, batch.compute_infer)).collect();
        assert_eq!(batches, [(1, took(20)), (4, took(40))]);
        assert_eq!(sum.memory_usage, [MemoryUsage { r#type: "GPU".into(), id: 0, byte_size: 60 }]);
        assert_eq!((sum.response_stats["0"].success, sum.response_stats["0"].cancel), (took(60), took(3)));
    }

    /// Versions are apart, in the order in which a single Triton has them: 10 after 9.
    #[test]
    fn models_and_versions_are_apart_and_in_order() {
        let sum = merged([
            (0, vec![of("m", "10", 1, 1), of("b", "1", 1, 1)]),
            (1, vec![of("m", "9", 1, 1), of("m", "10", 1, 1)]),
        ]);
        let names: Vec<_> = sum.iter().map(|m| (&*m.name, &*m.version, m.inference_count)).collect();
        assert_eq!(names, [("b", "1", 1), ("m", "9", 1), ("m", "10", 2)]);
    }

    /// A fleet whose only pod counts is that pod: nothing may be lost on the way.
    #[test]
    fn one_pods_statistics_stay_as_they_are() {
        let one = vec![of("a", "1", 7, 1), of("b", "2", 9, 2)];
        assert_eq!(merged([(0, one.clone())]), one);
    }

    /// Pods that make up counts or models must neither overflow a sum nor fill the memory.
    #[test]
    fn what_pods_make_up_is_bounded() {
        let sum = merged([(0, vec![of("m", "1", u64::MAX / 2000, 1)]), (1, vec![of("m", "1", u64::MAX / 2000, 1)])]);
        assert!(sum[0].inference_stats.unwrap().queue.unwrap().ns > u64::MAX / 2);
        let mut sums = Statistics::default();
        let name = "x".repeat(1 << 20);
        let more = |i: usize| ModelStatisticsResponse { model_stats: vec![of(&format!("{name}{i}"), "1", 1, 1)] };
        let refused = (0..100).position(|i| sums.add(i, more(i)).is_err());
        assert!(matches!(refused, Some(60..70)), "{refused:?}");
    }

    proptest! {
        /// Whichever pod answers first, the caller gets the same bytes.
        #[test]
        fn the_order_of_answers_does_not_matter(
            answers in proptest::collection::vec((0_u64..1000, 1_u64..4, 0_usize..3), 1..8),
            turn in 0_usize..8,
        ) {
            let answer = |(place, (count, batch, model)): (usize, &(u64, u64, usize))| {
                (place, vec![of(["a", "b", "c"][*model], "1", *count, *batch)])
            };
            let in_order: Vec<_> = answers.iter().enumerate().map(answer).collect();
            let mut turned = in_order.clone();
            turned.rotate_left(turn % in_order.len());
            turned.reverse();
            prop_assert_eq!(merged(in_order), merged(turned));
        }
    }
}
