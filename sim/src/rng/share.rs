//! How often something happens, as a whole number of millionths: odds that decide are integers, and read as decimals.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How often something happens: from never to always, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// What to write instead.
const REMEDY: &str = "write a number from 0 to 1, as in 0.05, of at least a millionth if it is not 0";

impl Share {
    /// It does not happen.
    pub const NEVER: Share = Share(0);
    /// It happens every time.
    pub const ALWAYS: Share = Share(1_000_000);

    /// So many millionths; above a million is [`Share::ALWAYS`].
    pub const fn millionths(millionths: u32) -> Share {
        if millionths < Share::ALWAYS.0 { Share(millionths) } else { Share::ALWAYS }
    }

    /// From 0 to 1, to the nearest millionth. None for anything else, and for what is not 0 but would become it: a fault
    /// that never comes, where a rare one was asked for, is a lie.
    pub fn new(share: f64) -> Option<Share> {
        let millionths = (0.0..=1.0).contains(&share).then_some((share * 1e6 + 0.5) as u32)?;
        (millionths > 0 || share == 0.0).then_some(Share(millionths))
    }

    /// From 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// From 0 to a million.
    pub const fn as_millionths(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.as_f64().fmt(f)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(written: &str) -> Result<Share, String> {
        let number = written.trim().parse().ok().and_then(Share::new);
        number.ok_or_else(|| format!("`{}` is not a share: {REMEDY}", written.escape_debug()))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Share, D::Error> {
        deserializer.deserialize_f64(Number)
    }
}

/// Takes `1` as well as `1.0`.
struct Number;

impl Visitor<'_> for Number {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number from 0 to 1, as in 0.05")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Share, E> {
        Share::new(number).ok_or_else(|| E::custom(format_args!("`{number}` is not a share: {REMEDY}")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Share, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Share, E> {
        self.visit_f64(number as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plan {
        loss: Share,
    }

    /// A plan is read by people and replayed by machines: every share must come back as it was written, the awkward
    /// binary fractions included.
    #[test]
    fn every_millionth_is_written_as_a_decimal_and_read_back() {
        for millionths in (0..=1_000_000).step_by(7) {
            let share = Share::millionths(millionths);
            assert_eq!(share.to_string().parse(), Ok(share));
            assert_eq!(Share::new(share.as_f64()), Some(share));
        }
        assert_eq!(Share::millionths(50_000).to_string(), "0.05");
        let plan = Plan { loss: Share::millionths(1) };
        assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()), Ok(plan));
        assert_eq!(toml::from_str::<Plan>("loss = 1").unwrap().loss, Share::ALWAYS);
        assert_eq!(Share::millionths(u32::MAX), Share::ALWAYS);
    }

    /// "5" for 5 % would be a link that loses everything; the message must show the value.
    #[test]
    fn what_is_not_a_share_is_refused_by_name() {
        for bad in ["5", "-0.1", "nan", "inf", "1e-9", "", "5%", "1.0000001"] {
            let error = bad.parse::<Share>().unwrap_err();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("0.05"), "{error}");
        }
        for bad in ["1.5", "-1", "nan", "2"] {
            let error = toml::from_str::<Plan>(&format!("loss = {bad}")).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(&format!("`{bad}`")), "{error}");
        }
    }
}
