//! The git attribute `deltaspace`: a name that the team gives to objects that resemble each other.

use super::{Git, Result};

const ATTRIBUTE: &str = "deltaspace";

/// Returns the value of `deltaspace` for each path; `None` where it has none.
///
/// # Errors
/// Those of running git.
pub fn deltaspaces(git: &Git, paths: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = paths.join(&0);
    input.push(0);
    let answers = git.finish(git.command(["check-attr", "--stdin", "-z", ATTRIBUTE]), input)?;
    let mut values = parse(&answers);
    values.resize(paths.len(), None);
    Ok(values)
}

/// Parses `path\0attribute\0value\0`. Set without a value, or unset, is no name.
fn parse(answers: &[u8]) -> Vec<Option<Vec<u8>>> {
    let fields: Vec<&[u8]> = answers.split(|&byte| byte == 0).collect();
    let value = |answer: &[&[u8]]| {
        let no_name: [&[u8]; 4] = [b"unspecified", b"set", b"unset", b""];
        (!no_name.contains(&answer[2])).then(|| answer[2].to_vec())
    };
    fields.chunks_exact(3).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_are_names() {
        let answers = b"a b\0deltaspace\0art\0x\0deltaspace\0unspecified\0y\0deltaspace\0set\0";
        assert_eq!(parse(answers), [Some(b"art".to_vec()), None, None]);
    }
}
