//! Reads from a pod's own configuration of a model how it runs it: how many at once, in which batches, how many may wait.
//!
//! The first request for a model on a pod has the question asked, beside it and not before it; the first one that finds
//! another connection has it asked again, because another server may stand behind the address. Nothing waits for the answer, and
//! nothing comes of it where there is none: a pod whose shape is not known is taken to run one request at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::HeaderMap;
use plimsoll_proto::inference::model_config::SchedulingChoice;
use plimsoll_proto::inference::model_instance_group::Kind;
use plimsoll_proto::inference::{
    ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelDynamicBatching, ModelInstanceGroup,
};
use prost::Message;
use tonic::{Code, Status};
use tracing::debug;

use super::ask::{ask, framed};
use super::upstream::Upstream;
use crate::driver::clock;
use crate::observe::{Batching, ModelShape, Pod};
use crate::pick::{Picker, Readmission};

const MODEL_CONFIG: &str = "/inference.GRPCInferenceService/ModelConfig";
/// How often one question is repeated, with the pauses of a readmission between: the last one comes after two to four
/// seconds. A server that has not answered by then does not want to.
const TRIES: usize = 6;
/// Models of one pod that are asked about at once. Callers choose the names: with more they could have a pod asked more
/// than it is used.
const AT_ONCE: usize = 8;
/// Models of one pod whose answers are remembered: as many as a node keeps apart. Those beyond are not asked about.
const MODELS: usize = 1024;
/// The longest model name that is asked about, as the longest that a node keeps.
const LONGEST_NAME: usize = 256;
/// Instances, and requests in a batch, beyond which a figure is a slip.
const MOST: u32 = 65_535;
/// The same for the wait of a batch.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Sees to it that the shape of `model` on `pod` is known soon.
pub(super) fn read_soon(picker: &Picker, pod: &Arc<Pod>, model: &str) {
    if model.is_empty() || model.len() > LONGEST_NAME {
        return;
    }
    let upstream = Upstream::of(pod);
    if let Some(model) = upstream.asked.begin(model, upstream.connections()) {
        tokio::spawn(read(picker.clone(), Arc::downgrade(pod), model));
    }
}

/// Whether `pod` may answer one request for `model` many times, or not at all, as far as its configuration was read.
pub(super) fn answers_many(pod: &Pod, model: &str) -> bool {
    Upstream::of(pod).asked.traits().get(model).is_some_and(|traits| traits.answers_many)
}

/// Asks until there is an answer, or none to be expected. The pod is not ejected for it, whatever comes.
async fn read(picker: Picker, pod: Weak<Pod>, model: Arc<str>) {
    let mut pauses = Readmission::new(clock::now().as_nanos());
    let question = framed(&ModelConfigRequest { name: model.to_string(), version: String::new() });
    for tries_left in (0..TRIES).rev() {
        let Some(pod) = pod.upgrade() else { return };
        let upstream = Upstream::of(&pod);
        let answer = ask(&pod, MODEL_CONFIG, HeaderMap::new(), question.clone(), Readmission::ANSWER).await;
        let failure = match answer.and_then(|answer| decode(&answer)) {
            Ok(config) => {
                upstream.asked.learn(&model, Traits::of(&config));
                if let Some(shape) = shape_of(&config) {
                    tell(&pod, &model, &shape);
                    picker.set_shape(pod.id(), &model, shape);
                }
                return upstream.asked.end(&model, Some(upstream.connections()));
            }
            Err(failure) => failure,
        };
        if tries_left == 0 || !may_pass(failure.code()) {
            debug!(pod = pod.name(), %model, error = failure.message(), "cannot read the model's configuration");
            // What is not there now may come: the next request has it asked again. Nobody else is asked twice.
            let gone = matches!(failure.code(), Code::NotFound | Code::Unavailable);
            return upstream.asked.end(&model, (!gone).then(|| upstream.connections()));
        }
        drop(pod);
        tokio::time::sleep(pauses.next_pause()).await;
    }
}

fn tell(pod: &Pod, model: &str, shape: &ModelShape) {
    let (max_batch, delay) = shape.batch.map_or((1, Duration::ZERO), |batch| (batch.max, batch.delay));
    debug!(
        pod = pod.name(),
        model,
        slots = shape.slots,
        max_batch,
        delay_us = delay.as_micros() as u64,
        max_queue = shape.max_queue,
        "read the model's configuration"
    );
}

/// Whether the same question may have another answer soon. A model that is not there may be loading.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound | Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::Unknown
    )
}

fn decode(answer: &[u8]) -> Result<ModelConfig, Status> {
    let bad = |why: &dyn std::fmt::Display| Status::data_loss(format!("not a model's configuration: {why}"));
    // A flag for compression, which was not asked for, and four bytes of length.
    let message = match answer {
        [0, _, _, _, _, message @ ..] => message,
        _ => return Err(bad(&"no plain message")),
    };
    let response = ModelConfigResponse::decode(message).map_err(|error| bad(&error))?;
    response.config.ok_or_else(|| bad(&"it is empty"))
}

/// How a Triton with this configuration runs the model. None of an ensemble: its steps are other models, each with a
/// shape of its own.
fn shape_of(config: &ModelConfig) -> Option<ModelShape> {
    let scheduler = config.scheduling_choice.as_ref();
    if matches!(scheduler, Some(SchedulingChoice::EnsembleScheduling(_))) {
        return None;
    }
    let slots = config.instance_group.iter().fold(0, |sum: u32, group| sum.saturating_add(instances(group)));
    let dynamic = match scheduler {
        Some(SchedulingChoice::DynamicBatching(dynamic)) => Some(dynamic),
        _ => None,
    };
    Some(ModelShape {
        slots: slots.clamp(1, MOST),
        batch: dynamic.and_then(|dynamic| batching(config.max_batch_size, dynamic)),
        max_queue: dynamic
            .and_then(|dynamic| dynamic.default_queue_policy)
            .map(|policy| policy.max_queue_size)
            // Triton's zero is no bound.
            .filter(|most| *most > 0),
    })
}

/// The instances of one group: its count on each of its GPUs, or its count where it names none. Passive ones are loaded
/// and get no requests.
fn instances(group: &ModelInstanceGroup) -> u32 {
    let count = u32::try_from(group.count).unwrap_or_default();
    match group.kind() {
        _ if group.passive => 0,
        Kind::Gpu | Kind::Auto => count.saturating_mul(u32::try_from(group.gpus.len().max(1)).unwrap_or(u32::MAX)),
        Kind::Cpu | Kind::Model => count,
    }
}

/// Without a dynamic batcher Triton runs requests as they come, whatever batch a request may bring itself; a batch of one
/// is none.
fn batching(max: i32, dynamic: &ModelDynamicBatching) -> Option<Batching> {
    let max = u32::try_from(max).ok().filter(|max| *max > 1)?.min(MOST);
    let delay = Duration::from_micros(dynamic.max_queue_delay_microseconds).min(LONGEST_DELAY);
    Some(Batching { delay, ..Batching::padded(max) })
}

/// What was asked of one pod, by model.
#[derive(Default)]
pub(super) struct Asked {
    /// The connection over which the last answer came; none while the question is under way.
    models: Mutex<HashMap<Arc<str>, Option<u64>>>,
    /// What came of it beside a shape.
    traits: Mutex<HashMap<Arc<str>, Traits>>,
}

/// What a model's configuration says of it beside its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traits {
    /// Whether it may answer one request many times, or not at all: whether it is decoupled.
    answers_many: bool,
    /// How many requests its instances can run at once, in whatever batches; none where nothing bounds that.
    at_once: Option<u32>,
}

impl Traits {
    fn of(config: &ModelConfig) -> Traits {
        let answers_many = config.model_transaction_policy.is_some_and(|policy| policy.decoupled);
        // A decoupled model may take the next request while it answers the last.
        let bounded = shape_of(config).filter(|_| !answers_many);
        let batch = match config.scheduling_choice {
            None => 1,
            Some(_) => u32::try_from(config.max_batch_size).unwrap_or(1).clamp(1, MOST),
        };
        Traits { answers_many, at_once: bounded.map(|shape| shape.slots.saturating_mul(batch)) }
    }
}

impl Asked {
    /// Notes that `model` is being asked about, and returns its name; none where there is nothing to ask over this
    /// connection, or not now.
    fn begin(&self, model: &str, connection: u64) -> Option<Arc<str>> {
        let mut models = self.lock();
        match models.get(model) {
            Some(None) => return None,
            Some(Some(asked)) if *asked == connection => return None,
            Some(Some(_)) => {}
            None if models.len() >= MODELS => return None,
            None => {}
        }
        if models.values().filter(|asked| asked.is_none()).count() >= AT_ONCE {
            return None;
        }
        let model: Arc<str> = model.into();
        models.insert(model.clone(), None);
        Some(model)
    }

    /// Notes the end of the question: nothing more is to be learned over `connection`, or it is as if it had not been
    /// asked.
    fn end(&self, model: &Arc<str>, connection: Option<u64>) {
        let mut models = self.lock();
        match connection {
            Some(_) => models.insert(model.clone(), connection),
            None => models.remove(model),
        };
    }

    fn learn(&self, model: &Arc<str>, traits: Traits) {
        self.traits().insert(model.clone(), traits);
    }

    /// How many requests for `model` can run at once, where that is known.
    pub(super) fn at_once(&self, model: &str) -> Option<u32> {
        self.traits().get(model)?.at_once
    }

    fn traits(&self) -> MutexGuard<'_, HashMap<Arc<str>, Traits>> {
        self.traits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Option<u64>>> {
        // Nothing here can leave the map half changed.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_proto::inference::{ModelEnsembling, ModelQueuePolicy, ModelSequenceBatching, ModelTransactionPolicy};

    use super::*;

    fn group(kind: Kind, count: i32, gpus: &[i32]) -> ModelInstanceGroup {
        ModelInstanceGroup { kind: kind.into(), count, gpus: gpus.to_vec(), ..Default::default() }
    }

    fn dynamic(delay_us: u64, max_queue_size: u32) -> Option<SchedulingChoice> {
        let policy = ModelQueuePolicy { max_queue_size, ..Default::default() };
        Some(SchedulingChoice::DynamicBatching(ModelDynamicBatching {
            max_queue_delay_microseconds: delay_us,
            default_queue_policy: Some(policy),
            ..Default::default()
        }))
    }

    fn shape(config: ModelConfig) -> ModelShape {
        shape_of(&config).unwrap()
    }

    /// A Triton with two GPUs says `count: 1, gpus: [0, 1]` for two instances: counting one would make it look busy
    /// with a slot free.
    #[test]
    fn slots_are_the_instances_that_get_requests() {
        let slots = |groups: &[ModelInstanceGroup]| {
            shape(ModelConfig { instance_group: groups.to_vec(), ..Default::default() }).slots
        };
        assert_eq!(slots(&[group(Kind::Cpu, 3, &[])]), 3);
        assert_eq!(slots(&[group(Kind::Gpu, 2, &[0, 1])]), 4);
        assert_eq!(slots(&[group(Kind::Gpu, 2, &[0]), group(Kind::Cpu, 1, &[])]), 3);
        assert_eq!(slots(&[group(Kind::Model, 2, &[0, 1])]), 2);
        let passive = ModelInstanceGroup { passive: true, ..group(Kind::Gpu, 8, &[0]) };
        assert_eq!(slots(&[group(Kind::Gpu, 1, &[0]), passive]), 1);
    }

    /// What a server says is from outside: none of it may become no slot, or one that a height overflows by.
    #[test]
    fn absurd_figures_are_bounded() {
        let group = |count| group(Kind::Gpu, count, &[0, 1, 2]);
        for groups in [vec![], vec![group(0)], vec![group(-7)]] {
            assert_eq!(shape(ModelConfig { instance_group: groups, ..Default::default() }).slots, 1);
        }
        let huge = ModelConfig {
            max_batch_size: i32::MAX,
            instance_group: vec![group(i32::MAX), group(i32::MAX)],
            scheduling_choice: dynamic(u64::MAX, u32::MAX),
            ..Default::default()
        };
        let huge = shape(huge);
        let batch = huge.batch.unwrap();
        assert_eq!((huge.slots, batch.max, batch.delay), (MOST, MOST, LONGEST_DELAY));
    }

    /// Only a dynamic batcher puts requests together: `max_batch_size` alone says what one request may bring.
    #[test]
    fn batches_are_those_of_a_dynamic_batcher() {
        let config =
            |max, scheduling_choice| ModelConfig { max_batch_size: max, scheduling_choice, ..Default::default() };
        let batch = shape(config(8, dynamic(2_000, 0))).batch.unwrap();
        assert_eq!(batch, Batching { delay: Duration::from_millis(2), ..Batching::padded(8) });
        assert_eq!(shape(config(8, None)).batch, None);
        assert_eq!(shape(config(1, dynamic(0, 0))).batch, None);
        assert_eq!(shape(config(-1, dynamic(0, 0))).batch, None);
        let sequence = SchedulingChoice::SequenceBatching(ModelSequenceBatching::default());
        assert_eq!(shape(config(8, Some(sequence))).batch, None);
        let ensemble = SchedulingChoice::EnsembleScheduling(ModelEnsembling::default());
        assert_eq!(shape_of(&config(8, Some(ensemble))), None);
    }

    /// How many run at once bounds what a pod can have that waits for nothing: too few, and what runs there would be forgotten.
    #[test]
    fn what_runs_at_once_is_bounded_where_it_can_be() {
        let at_once = |max, scheduler| {
            let config = ModelConfig { max_batch_size: max, scheduling_choice: scheduler, ..Default::default() };
            Traits::of(&ModelConfig { instance_group: vec![group(Kind::Cpu, 2, &[])], ..config }).at_once
        };
        assert_eq!(
            (at_once(8, None), at_once(8, dynamic(0, 0)), at_once(0, dynamic(0, 0))),
            (Some(2), Some(16), Some(2))
        );
        let sequences = SchedulingChoice::SequenceBatching(ModelSequenceBatching::default());
        assert_eq!(at_once(4, Some(sequences)), Some(8));
        assert_eq!(at_once(4, Some(SchedulingChoice::EnsembleScheduling(ModelEnsembling::default()))), None);
        let decoupled = ModelTransactionPolicy { decoupled: true };
        let decoupled = ModelConfig { model_transaction_policy: Some(decoupled), ..Default::default() };
        assert_eq!(Traits::of(&decoupled), Traits { answers_many: true, at_once: None });
    }

    #[test]
    fn a_queue_without_a_bound_is_none() {
        let queue = |most| shape(ModelConfig { scheduling_choice: dynamic(0, most), ..Default::default() }).max_queue;
        assert_eq!((queue(0), queue(4)), (None, Some(4)));
        assert_eq!(shape(ModelConfig::default()).max_queue, None);
    }

    /// An answer is bytes from outside.
    #[test]
    fn what_is_no_configuration_is_refused() {
        let good =
            framed(&ModelConfigResponse { config: Some(ModelConfig { max_batch_size: 8, ..Default::default() }) });
        assert_eq!(decode(&good).unwrap().max_batch_size, 8);
        let empty = framed(&ModelConfigResponse { config: None });
        for bad in [&good[..4], &[], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 0xff, 0xff], &empty] {
            assert_eq!(decode(bad).unwrap_err().code(), Code::DataLoss);
        }
    }

    /// Every request asks: one question per model and connection must come of it, and of invented names no more than a
    /// bound, at once and in memory.
    #[test]
    fn a_model_is_asked_about_once_a_connection() {
        let asked = Asked::default();
        let model = asked.begin("m", 1).unwrap();
        assert_eq!(asked.begin("m", 1), None);
        asked.end(&model, Some(1));
        assert_eq!(asked.begin("m", 1), None);
        let model = asked.begin("m", 2).unwrap();
        asked.end(&model, None);
        assert!(asked.begin("m", 2).is_some(), "a model that was not there may have come");

        let invented: Vec<_> = (0..2 * AT_ONCE).filter_map(|k| asked.begin(&format!("model-{k}"), 1)).collect();
        assert_eq!(invented.len(), AT_ONCE - 1);
        invented.iter().for_each(|model| asked.end(model, Some(1)));
        for k in 0..2 * MODELS {
            if let Some(model) = asked.begin(&format!("other-{k}"), 1) {
                asked.end(&model, Some(1));
            }
        }
        assert_eq!(asked.lock().len(), MODELS);
    }
}
