//! How a figure is written in JSON: to four decimals, a tenth of a microsecond in what counts milliseconds, and null where
//! there is none. NaN in memory, and back.

use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn none() -> f64 {
    f64::NAN
}

pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn written(value: f64) -> Option<f64> {
    value.is_finite().then(|| rounded(value))
}

pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match written(*value) {
        Some(value) => serializer.serialize_f64(value),
        None => serializer.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A list of figures.
pub(super) mod list {
    use super::*;

    pub(in crate::report) fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| written(*value)))
    }

    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}

/// Figures by name.
pub(super) mod named {
    use std::collections::BTreeMap;

    use super::*;

    type Named<T> = BTreeMap<String, T>;

    pub(in crate::report) fn serialize<S: Serializer>(values: &Named<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(name, value)| (name, written(*value))))
    }

    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named<f64>, D::Error> {
        let values = Named::<Option<f64>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
    }
}
