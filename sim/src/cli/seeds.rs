//! Seeds as people write them: `11`, `11,12,13` or `11..13`, both ends included.

use std::str::FromStr;

/// Some seeds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Vec<u64>);

/// More would not be looked at one by one.
const MOST: u64 = 100_000;

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seeds, String> {
        let number = |text: &str| {
            text.trim().parse::<u64>().map_err(|_| format!("`{text}` is no seed: write 11, or 11,12,13, or 11..13"))
        };
        let Some((first, last)) = text.split_once("..") else {
            return text.split(',').map(number).collect::<Result<_, _>>().map(Seeds);
        };
        let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
        if last < first || last - first >= MOST {
            return Err(format!("`{text}` is no range of seeds: write the smaller first, and at most {MOST} in all"));
        }
        Ok(Seeds((first..=last).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_ends() {
        let seeds = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!(seeds("11..13"), Ok(vec![11, 12, 13]));
        assert_eq!(seeds("7"), Ok(vec![7]));
        assert_eq!(seeds("3,1, 2"), Ok(vec![3, 1, 2]));
        for bad in ["", "a", "13..11", "1..", "0..99999999999", "-1", "1,,2"] {
            assert!(seeds(bad).is_err_and(|error| error.contains('`') && !error.contains('\n')), "{bad}");
        }
    }
}
