//! What Triton itself says of a model's requests: their mean time of computing, asked for where nothing was learned yet.
//!
//! A pod that never idles teaches nothing of its requests; its statistics know them since it started. One small question
//! for each model that nothing is known of, far from any request's path; what is learned is better, and replaces it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use plimsoll_proto::inference::{ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse, StatisticDuration};
use prost::Message;
use tracing::debug;

use super::ask::{ask, framed};
use crate::driver::clock;
use crate::observe::Model;
use crate::pick::Picker;
use crate::time::Time;

const PATH: &str = "/inference.GRPCInferenceService/ModelStatistics";
/// How often models are looked through for one that nothing is known of: about as long as it takes to learn, so that most
/// are never asked about.
const LOOK: Duration = Duration::from_secs(1);
/// A model that no answer came for is asked about again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// How long a pod may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Asks for ever; ends by being dropped.
pub(super) async fn follow(picker: Picker) {
    let mut asked: BTreeMap<usize, Time> = BTreeMap::new();
    let mut turn = clock::now().as_nanos();
    loop {
        // A half to one and a half of it, so that a fleet of nodes does not ask in step.
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(LOOK / 2 + LOOK * (turn >> 54) as u32 / 1024).await;
        let now = clock::now();
        let due = |model: &Model| asked.get(&model.index).is_none_or(|at| now.since(*at) >= AGAIN);
        let models = picker.models();
        let unknown = models.iter().find(|model| !model.name().is_empty() && model.cost.is_unknown() && due(model));
        let Some(model) = unknown else { continue };
        // Bounded by the models that the picker keeps apart.
        asked.insert(model.index, now);
        if let Some(ms) = mean_ms(&picker, model, turn >> 32).await {
            debug!(model = model.name(), ms, "cost as Triton states it");
            model.cost.state(ms);
        }
    }
}

/// What one of the pods that serve `model` says of it.
async fn mean_ms(picker: &Picker, model: &Model, turn: u64) -> Option<f64> {
    let pods = picker.pods();
    let serving: Vec<_> = pods.iter().filter(|pod| !pod.is_ejected() && pod.serves(model)).collect();
    let pod = serving.get(turn as usize % serving.len().max(1))?;
    let question = ModelStatisticsRequest { name: model.name().to_owned(), version: String::new() };
    let answer = match ask(pod, PATH, HeaderMap::new(), framed(&question), ANSWER).await {
        Ok(answer) => answer,
        Err(status) => {
            debug!(model = model.name(), pod = pod.name(), %status, "no statistics");
            return None;
        }
    };
    let answer = ModelStatisticsResponse::decode(answer.get(5..)?).ok()?;
    answer.model_stats.iter().filter(|stats| stats.name == model.name()).find_map(of_model)
}

/// The mean time of computing one request, ms: of those that ran alone, if any did; a batch's time is all of its requests'.
fn of_model(stats: &ModelStatistics) -> Option<f64> {
    let alone = stats.batch_stats.iter().find(|batch| batch.batch_size == 1).and_then(|batch| batch.compute_infer);
    let all = || stats.inference_stats.as_ref().and_then(|all| all.compute_infer);
    alone.filter(|alone| alone.count > 0).or_else(all).and_then(mean_of)
}

fn mean_of(duration: StatisticDuration) -> Option<f64> {
    (duration.count > 0).then(|| duration.ns as f64 / duration.count as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use plimsoll_proto::inference::{InferBatchStatistics, InferStatistics};

    use super::*;

    fn of(count: u64, ms: u64) -> Option<StatisticDuration> {
        Some(StatisticDuration { count, ns: count * ms * 1_000_000 })
    }

    /// A batch of eight that takes 40 ms must not state that a request costs 40 ms where one alone takes 10; and a model that
    /// never ran states nothing.
    #[test]
    fn a_model_costs_what_a_request_alone_takes() {
        let batch = |batch_size, count, ms| InferBatchStatistics {
            batch_size,
            compute_infer: of(count, ms),
            ..Default::default()
        };
        let all = |count, ms| Some(InferStatistics { compute_infer: of(count, ms), ..Default::default() });
        let stats =
            |inference_stats, batch_stats| ModelStatistics { inference_stats, batch_stats, ..Default::default() };
        assert_eq!(of_model(&stats(all(24, 30), vec![batch(8, 2, 40), batch(1, 5, 10)])), Some(10.0));
        assert_eq!(of_model(&stats(all(24, 30), vec![batch(8, 2, 40)])), Some(30.0));
        assert_eq!(of_model(&stats(all(0, 0), vec![])), None);
        assert_eq!(of_model(&stats(None, vec![])), None);
    }
}
