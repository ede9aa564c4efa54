//! plimsoll

#[cfg(feature = "cli")]
pub mod demo;
