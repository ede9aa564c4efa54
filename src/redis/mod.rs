//! A Redis beside the gossip, for teams that come from one: as the shared state of the fleet, or as what callers speak.
//!
//! Nothing else knows of it: what picks, observes and gossips is the same with it and without. The two parts that decide
//! something are pure, so that the simulator runs them too: [`ladder`], whether the shared Redis is asked now, and [`book`],
//! what this node has told it.
//!
//! The face of a node that speaks Redis (`face.rs`) is a server of a crate of its own, `src/redis/server`, which knows nothing of
//! pods; what it shows of them is the [`LoadSet`].

#[cfg(feature = "driver")]
mod address;
pub mod book;
#[cfg(feature = "redis")]
mod bridge;
#[cfg(feature = "redis")]
mod charges;
#[cfg(feature = "redis")]
mod face;
pub mod ladder;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod load_view;
#[cfg(feature = "redis")]
pub(crate) mod metrics;
#[cfg(feature = "driver")]
mod options;
#[cfg(feature = "redis")]
pub mod scripts;
#[cfg(feature = "redis")]
pub(crate) mod shared;
#[cfg(feature = "redis")]
mod spread;
#[cfg(feature = "driver")]
mod state;

#[cfg(feature = "driver")]
pub use self::address::{NoRedisAddress, RedisAddress};
#[cfg(feature = "redis")]
pub use self::bridge::Bridge;
#[cfg(feature = "redis")]
pub use self::face::{Face, FaceError};
#[cfg(feature = "driver")]
pub use self::options::{BridgeOptions, FaceOptions, LoadSet, Unit, Zadd};
#[cfg(feature = "driver")]
pub use self::state::{Missed, Quantiles, StateOptions, StateView};
