//! Random elements of a collection, by index: SRANDMEMBER and its kin.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::index::sample;

use crate::args::Refusal;
use crate::reply::Room;

/// Which of `len` elements, given a count: so many that differ, all in order where there are no more; where it is negative,
/// so many that may repeat.
///
/// # Errors
/// Redis sends as many as are asked for until the client is over its output limit. Here an answer is whole before it is
/// sent: one that there is no room for, with elements of `element_bytes` on average, is refused.
pub(crate) fn picks(
    rng: &mut StdRng,
    len: usize,
    count: i64,
    element_bytes: usize,
    room: &mut Room,
) -> Result<Vec<usize>, Refusal> {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if len == 0 {
        return Ok(Vec::new());
    }
    if count < 0 {
        room.take_all(wanted, element_bytes)?;
        return Ok((0..wanted).map(|_| rng.random_range(0..len)).collect());
    }
    Ok(if wanted >= len { (0..len).collect() } else { sample(rng, len, wanted).into_vec() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    proptest! {
        /// A caller draws five pods of fifty and must not get one twice; with a negative count it may.
        #[test]
        fn a_positive_count_gives_so_many_that_differ(len in 1..200_usize, count in 0..300_i64, seed in any::<u64>()) {
            let found = picks(&mut StdRng::seed_from_u64(seed), len, count, 1, &mut Room::new(1 << 20)).unwrap();
            prop_assert_eq!(found.len(), len.min(count as usize));
            prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
            prop_assert!(found.iter().all(|index| *index < len));
            let repeated = picks(&mut StdRng::seed_from_u64(seed), len, -count, 1, &mut Room::new(1 << 20)).unwrap();
            prop_assert_eq!(repeated.len(), count as usize);
        }
    }

    /// One line of forty bytes asks for nine quintillion elements.
    #[test]
    fn what_no_answer_can_hold_is_refused() {
        let mut rng = StdRng::seed_from_u64(0);
        assert!(picks(&mut rng, 3, -i64::MAX, 1, &mut Room::new(512 << 20)).is_err());
        assert!(picks(&mut rng, 3, i64::MIN, 1, &mut Room::new(512 << 20)).is_err());
        assert_eq!(picks(&mut rng, 3, i64::MAX, 1, &mut Room::new(512 << 20)).unwrap(), [0, 1, 2]);
    }
}
