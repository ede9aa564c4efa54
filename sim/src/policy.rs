//! How picks are made in a world.

use std::fmt;
use std::str::FromStr;

use plimsoll::pick::PolicyKind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A policy that a world knows, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One of the product's, on the gossiped view.
    Product(PolicyKind),
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::Product(PolicyKind::default())
    }
}

impl Policy {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Product(kind) => kind.name(),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(name: &str) -> Result<Policy, String> {
        name.parse().map(Policy::Product).map_err(|unknown: plimsoll::pick::UnknownPolicy| unknown.to_string())
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Policy, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
