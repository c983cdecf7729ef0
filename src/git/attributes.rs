//! The git attributes `deltaspace`, a name that the team gives to objects that resemble each other, and
//! `deltaspace-cold`, what their chains may cost a reader with nothing at hand.
//!
//! What surprises: a value that cannot be understood is as good as none. Whoever may write attributes is not the one
//! who pushes, and all that they change is compression.

use std::collections::HashMap;

use super::{Git, Result};

const NAME: &str = "deltaspace";
const COLD: &str = "deltaspace-cold";

/// Returns the value of `deltaspace` for each path; `None` where it has none.
///
/// # Errors
/// Those of running git.
pub fn deltaspaces(git: &Git, paths: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
    let answers = ask(git, NAME, paths)?;
    let mut values: Vec<_> = parse(&answers).map(|(_, value)| value.map(<[u8]>::to_vec)).collect();
    values.resize(paths.len(), None);
    Ok(values)
}

/// Asks git for `deltaspace-cold` of some paths; `parse_colds` understands the answer.
///
/// # Errors
/// Those of running git.
pub fn read_colds(git: &Git, paths: &[&[u8]]) -> Result<Vec<u8>> {
    ask(git, COLD, paths)
}

/// Returns what `deltaspace-cold` allows, in percent of a whole copy, for each path that has it.
pub fn parse_colds(answers: &[u8]) -> HashMap<Vec<u8>, u64> {
    let cold = |(path, value): (&[u8], Option<&[u8]>)| {
        let ratio: f64 = std::str::from_utf8(value?).ok()?.parse().ok()?;
        let is_allowed = (1.0..=COLD_MAX_RATIO).contains(&ratio);
        is_allowed.then(|| (path.to_vec(), (ratio * 100.0).round() as u64))
    };
    parse(answers).filter_map(cold).collect()
}

/// The most that `deltaspace-cold` may allow: a reader would rather have whole copies.
const COLD_MAX_RATIO: f64 = 16.0;

fn ask(git: &Git, attribute: &str, paths: &[&[u8]]) -> Result<Vec<u8>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = paths.join(&0);
    input.push(0);
    git.finish(git.command(["check-attr", "--stdin", "-z", attribute]), input)
}

/// Parses `path\0attribute\0value\0`. Set without a value, or unset, is no value.
fn parse(answers: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut fields = answers.split(|&byte| byte == 0);
    std::iter::from_fn(move || {
        let (path, _, value) = (fields.next()?, fields.next()?, fields.next()?);
        let no_value: [&[u8]; 4] = [b"unspecified", b"set", b"unset", b""];
        Some((path, (!no_value.contains(&value)).then_some(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_are_names() {
        let answers = b"a b\0deltaspace\0art\0x\0deltaspace\0unspecified\0y\0deltaspace\0set\0";
        let values: Vec<_> = parse(answers).map(|(_, value)| value).collect();
        assert_eq!(values, [Some(&b"art"[..]), None, None]);
    }

    #[test]
    fn a_cold_read_is_a_ratio_of_one_or_more() {
        let answer = |value: &str| format!("p\0deltaspace-cold\0{value}\0");
        let cold = |value| parse_colds(answer(value).as_bytes()).get(&b"p"[..]).copied();
        assert_eq!([cold("1.1"), cold("2"), cold("1")], [Some(110), Some(200), Some(100)]);
        for value in ["0.9", "17", "NaN", "-1", "much", "unspecified", ""] {
            assert_eq!(cold(value), None, "{value}");
        }
    }
}
