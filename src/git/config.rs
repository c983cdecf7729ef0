//! Settings in git config and `.lfsconfig`, and the endpoint that git-lfs would use.
//!
//! The precedence is git-lfs' own: whatever stands in git config (also by `-c` and the environment) wins over
//! the same key of `.lfsconfig`, which is read from the work tree, else the index, else HEAD.

use super::{Git, Place, Result};

/// Where a value was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user's own settings: any git config file, `-c`, the environment.
    User,
    /// The repository's `.lfsconfig`: anybody who can commit to it.
    Repository,
}

/// What is being transferred, as `init` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// To the store.
    Upload,
    /// From the store.
    Download,
}

/// All settings of a repository, last value last.
#[derive(Debug, Clone, Default)]
pub struct Config {
    user: Vec<(String, String)>,
    repository: Vec<(String, String)>,
}

impl Config {
    /// Reads git config and `.lfsconfig`.
    ///
    /// # Errors
    /// `Missing` and `Refused` from git config itself; a `.lfsconfig` that cannot be read is as good as none.
    pub fn read(git: &Git, place: &Place) -> Result<Self> {
        let user = parse(&git.run(["config", "--list", "-z"])?);
        Ok(Self { user, repository: read_lfsconfig(git, place) })
    }

    /// Reads git config where no repository is needed.
    ///
    /// # Errors
    /// `Missing` and `Refused`.
    pub fn read_user(git: &Git) -> Result<Self> {
        Ok(Self { user: parse(&git.run(["config", "--list", "-z"])?), repository: Vec::new() })
    }

    /// Makes one from pairs, for tests.
    pub fn from_pairs(user: &[(&str, &str)], repository: &[(&str, &str)]) -> Self {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Self { user: own(user), repository: own(repository) }
    }

    /// Returns the user's value of a key. Section and variable are lower-case, as git prints them.
    pub fn user(&self, key: &str) -> Option<&str> {
        last(&self.user, key)
    }

    /// Returns all the user's values of a key.
    pub fn user_all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.user.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the value of a key that `.lfsconfig` may set as well, and who set it.
    fn any(&self, key: &str) -> Option<(&str, Origin)> {
        let user = self.user(key).map(|value| (value, Origin::User));
        user.or_else(|| last(&self.repository, key).map(|value| (value, Origin::Repository)))
    }

    /// Returns the URL of the LFS endpoint, as git-lfs would choose it, and who set it.
    ///
    /// `None` where git-lfs would derive it from the git remote: then it is none of ours.
    pub fn endpoint(&self, operation: Operation, remote: &str) -> Option<(String, Origin)> {
        let remote = if self.user(&format!("remote.{remote}.url")).is_some() { remote } else { "origin" };
        let upload = operation == Operation::Upload;
        let push = [("lfs.pushurl".to_owned(), upload), ("lfs.url".to_owned(), true)];
        let by_remote =
            [(format!("remote.{remote}.lfspushurl"), upload), (format!("remote.{remote}.lfsurl"), true)];
        let keys = push.into_iter().chain(by_remote).filter(|(_, applies)| *applies);
        let (url, origin) = keys
            .into_iter()
            .find_map(|(key, _)| self.any(&key).map(|(url, origin)| (url.to_owned(), origin)))?;
        Some((self.rewrite(&url), origin))
    }

    /// Applies `url.<base>.insteadOf`, longest match first, as git does.
    fn rewrite(&self, url: &str) -> String {
        let rules = self.user.iter().filter_map(|(key, from)| {
            let base = key.strip_prefix("url.")?.strip_suffix(".insteadof")?;
            url.strip_prefix(from.as_str()).map(|rest| (from.len(), format!("{base}{rest}")))
        });
        rules.max_by_key(|(length, _)| *length).map_or_else(|| url.to_owned(), |(_, rewritten)| rewritten)
    }
}

fn last<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn read_lfsconfig(git: &Git, place: &Place) -> Vec<(String, String)> {
    if let Some(top) = &place.work_tree {
        let file = top.join(".lfsconfig");
        if file.is_file() {
            let mut command = git.command(["config", "--list", "-z", "--file"]);
            command.arg(&file);
            return git.finish(command, Vec::new()).map(|text| parse(&text)).unwrap_or_default();
        }
        let staged = git.run(["config", "--list", "-z", "--blob", ":.lfsconfig"]);
        if let Ok(text) = staged {
            return parse(&text);
        }
    }
    let committed = git.run(["config", "--list", "-z", "--blob", "HEAD:.lfsconfig"]);
    committed.map(|text| parse(&text)).unwrap_or_default()
}

/// Parses `key\nvalue\0…`; a key without a value is a switch that is on.
fn parse(text: &[u8]) -> Vec<(String, String)> {
    let pair = |entry: &[u8]| {
        let entry = String::from_utf8_lossy(entry);
        let (key, value) = entry.split_once('\n').unwrap_or((&entry, "true"));
        (key.to_owned(), value.to_owned())
    };
    text.split(|&byte| byte == 0).filter(|entry| !entry.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(user: &[(&str, &str)], repository: &[(&str, &str)], operation: Operation) -> Option<String> {
        let config = Config::from_pairs(user, repository);
        config.endpoint(operation, "origin").map(|(url, _)| url)
    }

    #[test]
    fn the_user_wins_over_the_repository_key_by_key() {
        let url = |operation| {
            endpoint(&[("lfs.url", "user")], &[("lfs.url", "repository"), ("lfs.pushurl", "push")], operation)
        };
        assert_eq!(url(Operation::Download).as_deref(), Some("user"));
        assert_eq!(url(Operation::Upload).as_deref(), Some("push"));
    }

    #[test]
    fn a_remotes_own_url_comes_last() {
        let repository = [("remote.origin.lfsurl", "remote")];
        assert_eq!(endpoint(&[], &repository, Operation::Upload).as_deref(), Some("remote"));
        let user = [("lfs.url", "all")];
        assert_eq!(endpoint(&user, &repository, Operation::Upload).as_deref(), Some("all"));
    }

    #[test]
    fn an_unknown_remote_is_origin_and_a_known_one_is_itself() {
        let pairs = [("remote.up.url", "x"), ("remote.up.lfsurl", "up"), ("remote.origin.lfsurl", "origin")];
        let config = Config::from_pairs(&pairs, &[]);
        let url = |remote| config.endpoint(Operation::Download, remote).expect("set").0;
        assert_eq!(url("up"), "up");
        assert_eq!(url("git@host:path"), "origin");
    }

    #[test]
    fn the_last_value_and_the_longest_rewriting_win() {
        let user = [
            ("lfs.url", "first"),
            ("lfs.url", "short:path"),
            ("url.a/.insteadof", "sh"),
            ("url.b/.insteadof", "short:"),
        ];
        assert_eq!(endpoint(&user, &[], Operation::Download).as_deref(), Some("b/path"));
    }

    #[test]
    fn who_set_the_url_is_told() {
        let config = Config::from_pairs(&[], &[("lfs.url", "x")]);
        let (_, origin) = config.endpoint(Operation::Upload, "origin").expect("set");
        assert_eq!(origin, Origin::Repository);
    }

    #[test]
    fn values_may_hold_anything_but_zero_bytes() {
        let pairs = parse(b"a.b\nline one\nline two\0c.d\0e.f\n\0");
        let expected = [("a.b", "line one\nline two"), ("c.d", "true"), ("e.f", "")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(pairs, expected);
    }
}
