//! How numbers are written for people.

/// Writes a number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Writes a count with its noun.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 {
        ""
    } else if noun.ends_with('y') {
        "ies"
    } else {
        "s"
    };
    let stem = if plural == "ies" { &noun[..noun.len() - 1] } else { noun };
    format!("{number} {stem}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_that_people_read() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (u64::MAX, "18.4 EB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!(
            [count(1, "copy"), count(2, "copy"), count(0, "object")],
            ["1 copy", "2 copies", "0 objects"]
        );
    }
}
