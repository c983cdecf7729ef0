//! A part of all objects, the same whenever and wherever it is asked for.

use crate::model::Oid;

/// A share of all objects, chosen by their oids alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subset {
    /// Oids are cut into so many parts of the same size.
    parts: u64,
    /// From this part on.
    from: u64,
    /// To this one, which is not in it any more.
    to: u64,
}

impl Default for Subset {
    /// Everything.
    fn default() -> Self {
        Self { parts: 1, from: 0, to: 1 }
    }
}

/// Parts of a percentage: a thousandth of a percent is the finest.
const PERCENT_PARTS: u64 = 100_000;

impl Subset {
    /// Parses `n/t`, the n-th of t parts, or `x%`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "expected n/t, like 2/7, or x%, like 5%";
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| expected)?;
            if !(percent > 0.0 && percent <= 100.0) {
                return Err("expected more than 0% and at most 100%");
            }
            let to = (percent * (PERCENT_PARTS / 100) as f64).round() as u64;
            return Ok(Self { parts: PERCENT_PARTS, from: 0, to: to.max(1) });
        }
        let (number, parts) = text.split_once('/').ok_or(expected)?;
        let number: u32 = number.parse().map_err(|_| expected)?;
        let parts: u32 = parts.parse().map_err(|_| expected)?;
        if number == 0 || number > parts {
            return Err("expected n/t with n from 1 to t");
        }
        Ok(Self { parts: u64::from(parts), from: u64::from(number) - 1, to: u64::from(number) })
    }

    /// Returns whether an object is in it.
    pub fn holds(&self, oid: &Oid) -> bool {
        let start = oid.as_bytes().iter().take(8).fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        // Oids are random: what they begin with cuts them into parts of one size.
        let part = (u128::from(start) * u128::from(self.parts)) >> 64;
        (u128::from(self.from)..u128::from(self.to)).contains(&part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oids() -> Vec<Oid> {
        (0..2000_u32).map(|number| Oid::of(&number.to_le_bytes())).collect()
    }

    fn count(text: &str) -> usize {
        let subset = Subset::parse(text).expect(text);
        oids().iter().filter(|oid| subset.holds(oid)).count()
    }

    #[test]
    fn parts_hold_each_object_once() {
        let parts: Vec<_> =
            (1..=7).map(|number| Subset::parse(&format!("{number}/7")).expect("a part")).collect();
        for oid in oids() {
            assert_eq!(parts.iter().filter(|part| part.holds(&oid)).count(), 1, "{oid}");
        }
        assert_eq!((1..=7).map(|number| count(&format!("{number}/7"))).sum::<usize>(), 2000);
    }

    #[test]
    fn shares_are_about_as_large_as_they_say() {
        assert!((150..250).contains(&count("10%")), "{}", count("10%"));
        assert!((230..340).contains(&count("3/7")), "{}", count("3/7"));
        assert_eq!((count("100%"), count("1/1")), (2000, 2000));
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for text in ["", "5", "0/3", "4/3", "1/0", "-1/3", "x/3", "0%", "101%", "NaN%", "%"] {
            assert!(Subset::parse(text).is_err(), "{text}");
        }
    }
}
