//! Finds the real programs that tests run against. `tests/run.sh` installs them.
//!
//! A missing program fails the test. It never skips it: a skipped test looks like a passed one.

use std::path::{Path, PathBuf};

/// A program tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// git-lfs 3.6.1: what the whole suite runs with.
    GitLfs,
    /// Debian's git-lfs 3.3.0: for a smoke of the oldest that is supported.
    GitLfsOld,
    /// SeaweedFS 4.48: an S3 server that is not ours.
    Weed,
    /// deltaglider 6.2.0: another program that keeps DeltaSpaces.
    DeltaGlider,
    /// rclone 1.75.2: an S3 server that ignores much of S3.
    Rclone,
    /// Garage 2.5.0: an S3 server without conditional writes. For `--soak` only.
    Garage,
}

impl Tool {
    /// The variable that `tests/run.sh` sets, and the place below the target folder it installs to.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Tool::GitLfs => ("LFS_DELTA_TEST_GIT_LFS", "git-lfs-3.6.1/git-lfs"),
            Tool::GitLfsOld => ("LFS_DELTA_TEST_GIT_LFS_OLD", "git-lfs-old/git-lfs"),
            Tool::Weed => ("LFS_DELTA_TEST_WEED", "seaweedfs-4.48/weed"),
            Tool::DeltaGlider => ("LFS_DELTA_TEST_DELTAGLIDER", "deltaglider-6.2.0/bin/deltaglider"),
            Tool::Rclone => ("LFS_DELTA_TEST_RCLONE", "rclone-1.75.2/rclone"),
            Tool::Garage => ("LFS_DELTA_TEST_GARAGE", "garage-2.5.0/bin/garage"),
        }
    }

    /// The variable that names the program.
    pub fn variable(self) -> &'static str {
        self.place().0
    }

    /// The program's absolute path.
    ///
    /// # Panics
    /// If it is not installed.
    #[track_caller]
    pub fn path(self) -> PathBuf {
        let (variable, place) = self.place();
        let path = match std::env::var_os(variable) {
            Some(path) => PathBuf::from(path),
            None => test_tools().join(place),
        };
        assert!(
            path.is_file(),
            "{self:?} is not at {} ({variable} or its default): run ./tests/run.sh once, which installs it",
            path.display(),
        );
        path.canonicalize().expect("a path just seen")
    }
}

/// `target/test-tools`, wherever the target folder is.
fn test_tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("a folder above target/tmp").join("test-tools")
}

/// The program under test.
pub fn lfs_delta() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_lfs-delta"))
}
