//! `[[costs]]`: what requests cost, where somebody knows the model and wants to say so.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{ConfigError, shown};
use super::raw::Reader;
use crate::bounds::check_formula;
use crate::observe::{Cost, Formula};

/// More formulas than this is a mistake: a node keeps no more models apart.
const MOST_COSTS: usize = 1024;

/// One formula as written. Without a model it is for all models that have none of their own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCost {
    model: Option<String>,
    base_ms: Option<f64>,
    per_kib_ms: Option<f64>,
    min_ms: Option<f64>,
    max_ms: Option<f64>,
    learn: Option<bool>,
}

/// Judges what was written.
pub(super) fn read_costs(raw: Vec<RawCost>, reader: &Reader<'_>) -> Result<BTreeMap<Box<str>, Formula>, ConfigError> {
    if raw.len() > MOST_COSTS {
        let problem = format!("`{}` formulas are too many", raw.len());
        return Err(reader.invalid("costs", (problem, format!("list at most {MOST_COSTS}"))));
    }
    let mut costs = BTreeMap::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = |leaf: &str| format!("costs[{index}].{leaf}");
        let model = raw.model.clone().unwrap_or_default();
        if raw.model.is_some() {
            reader.label(&key("model"), &model)?;
        }
        let formula = read_cost(raw, &key, reader)?;
        if costs.insert(model.clone().into_boxed_str(), formula).is_some() {
            let problem =
                if model.is_empty() { "all other models have".to_owned() } else { format!("{} has", shown(&model)) };
            let remedy = "write one formula for each".to_owned();
            return Err(reader.invalid(&key("model"), (format!("{problem} a formula already"), remedy)));
        }
    }
    Ok(costs)
}

fn read_cost(raw: RawCost, key: &dyn Fn(&str) -> String, reader: &Reader<'_>) -> Result<Formula, ConfigError> {
    if raw.base_ms.is_none() && raw.per_kib_ms.is_none() {
        let remedy = "give base_ms, per_kib_ms or both".to_owned();
        return Err(reader.invalid(&key("base_ms"), ("the formula says nothing".to_owned(), remedy)));
    }
    let formula = Formula {
        base_ms: raw.base_ms.unwrap_or(0.0),
        per_kib_ms: raw.per_kib_ms.unwrap_or(0.0),
        min_ms: raw.min_ms.unwrap_or(0.0),
        max_ms: raw.max_ms.unwrap_or(Cost::MAX.as_ms()),
        learn: raw.learn.unwrap_or(true),
    };
    match check_formula(&formula) {
        Ok(()) => Ok(formula),
        Err(wrong) => Err(reader.invalid(&key(&wrong.field), (wrong.problem, wrong.remedy))),
    }
}
