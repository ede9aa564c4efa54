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
