//! Where the repository, its work tree and its LFS objects are.

use std::path::{Path, PathBuf};

use super::{Config, Error, Git, Result, path_from};
use crate::model::Oid;

/// The folders of one repository.
#[derive(Debug, Clone)]
pub struct Place {
    /// The git directory that all worktrees share.
    pub common: PathBuf,
    /// The top of the work tree; a bare repository has none.
    pub work_tree: Option<PathBuf>,
}

impl Place {
    /// Finds the repository around git's folder, whatever kind it is.
    ///
    /// # Errors
    /// `NoRepository`; `Missing` when git cannot be run.
    pub fn find(git: &Git) -> Result<Self> {
        let none = |error| match error {
            Error::Refused { .. } => Error::NoRepository { folder: git.folder().to_path_buf() },
            other => other,
        };
        let both = git.run(["rev-parse", "--git-common-dir", "--show-toplevel"]).ok();
        let (common, work_tree) = match both.as_deref().and_then(two_lines) {
            Some((common, top)) => (path_from(common), Some(path_from(top))),
            // A bare repository, the inside of a git directory, or line ends in a path.
            None => {
                let common = path_from(&git.run(["rev-parse", "--git-common-dir"]).map_err(none)?);
                let top = git.run(["rev-parse", "--show-toplevel"]).ok().map(|text| path_from(&text));
                (common, top.filter(|path| !path.as_os_str().is_empty()))
            }
        };
        Ok(Self { common: git.folder().join(common), work_tree })
    }

    /// Returns the folder of git-lfs: `lfs.storage`, relative to the git directory, or `lfs` in it.
    pub fn lfs_folder(&self, config: &Config) -> PathBuf {
        self.common.join(config.user("lfs.storage").filter(|path| !path.is_empty()).unwrap_or("lfs"))
    }
}

/// Takes two lines apart; `None` where there are not exactly two.
fn two_lines(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut lines = text.strip_suffix(b"\n")?.split(|&byte| byte == b'\n');
    let both = (lines.next()?, lines.next()?);
    (lines.next().is_none() && !both.1.is_empty()).then_some(both)
}

/// Returns where git-lfs keeps an object, below its folder.
pub fn object_path(lfs_folder: &Path, oid: &Oid) -> PathBuf {
    let name = oid.to_string();
    lfs_folder.join("objects").join(&name[..2]).join(&name[2..4]).join(name)
}

/// Returns the rights of a new file as `core.sharedRepository` asks for them; `None` leaves it to the umask.
pub fn shared_mode(config: &Config) -> Option<u32> {
    match config.user("core.sharedrepository")? {
        "group" | "true" | "1" => Some(0o660),
        "all" | "world" | "everybody" | "2" => Some(0o664),
        text => text.strip_prefix('0').and_then(|digits| u32::from_str_radix(digits, 8).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lie_where_git_lfs_puts_them() {
        let oid = Oid::of(b"");
        let path = object_path(Path::new("/r/lfs"), &oid);
        assert_eq!(path, Path::new("/r/lfs/objects/e3/b0").join(oid.to_string()));
    }

    #[test]
    fn the_storage_setting_is_relative_to_the_git_directory() {
        let place = Place { common: "/r/.git".into(), work_tree: None };
        let folder = |value| place.lfs_folder(&Config::from_pairs(&[("lfs.storage", value)], &[]));
        assert_eq!(folder("../big"), Path::new("/r/.git/../big"));
        assert_eq!(folder("/srv/lfs"), Path::new("/srv/lfs"));
        assert_eq!(place.lfs_folder(&Config::default()), Path::new("/r/.git/lfs"));
    }

    #[test]
    fn line_ends_in_paths_are_not_taken_for_the_end_of_a_path() {
        assert_eq!(two_lines(b".git\n/r\n"), Some((&b".git"[..], &b"/r"[..])));
        for text in [&b"/a\nb/.git\n/a\nb\n"[..], b".git\n", b".git\n\n", b""] {
            assert_eq!(two_lines(text), None, "{text:?}");
        }
    }

    #[test]
    fn shared_repositories_get_their_mode() {
        let mode = |value| shared_mode(&Config::from_pairs(&[("core.sharedrepository", value)], &[]));
        assert_eq!(mode("group"), Some(0o660));
        assert_eq!(mode("0640"), Some(0o640));
        assert_eq!(mode("umask"), None);
        assert_eq!(shared_mode(&Config::default()), None);
    }
}
