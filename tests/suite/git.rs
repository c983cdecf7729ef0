//! Real git and real git-lfs 3.6.1, on the directory store and on S3, each with the same cases.
//!
//! A case is a function of a `World`; `smoke.rs` runs some of them with other programs, and the long run all of them.

/// Makes two tests of each case: one on a directory, one on the in-process S3 server; and in the long run one with the
/// oldest git-lfs, and one on each other service.
macro_rules! on_both_stores {
    ($($case:ident),* $(,)?) => { $(
        mod $case {
            use crate::git::world::World;

            #[test]
            fn in_a_directory() {
                World::in_directory().run(super::$case);
            }

            #[test]
            fn on_s3() {
                World::on_s3().run(super::$case);
            }

            #[cfg(feature = "soak")]
            crate::git::with_each_other_program!($case);
        }
    )* };
}

#[cfg(feature = "soak")]
macro_rules! with_each_other_program {
    ($case:ident) => {
        crate::git::with_each_other_program! {
            $case: in_directory_with_debian_git_lfs, on_seaweedfs, on_seaweedfs_cluster, on_rclone, on_garage,
        }
    };
    ($case:ident: $($world:ident),* $(,)?) => { $(
        #[test]
        fn $world() {
            World::$world().run(super::$case);
        }
    )* };
}
#[cfg(feature = "soak")]
pub(crate) use with_each_other_program;

pub mod clones;
pub mod crowds;
pub mod faults;
pub mod hands;
pub mod history;
pub mod local;
pub mod processes;
pub mod pushes;
pub mod settings;
pub mod spaces;
pub mod world;
