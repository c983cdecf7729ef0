//! A dozen cases of `git.rs` with other programs: the oldest git-lfs that is supported, and S3 servers that are not
//! ours.

/// Makes one test of each case, in a world of this kind.
macro_rules! in_world {
    ($world:ident: $($group:ident::$case:ident),* $(,)?) => { $(
        #[test]
        fn $case() {
            crate::git::world::World::$world().run(crate::git::$group::$case);
        }
    )* };
}

/// Debian's git-lfs 3.3.0, on a directory.
mod debian_git_lfs {
    in_world! { in_directory_with_debian_git_lfs:
        clones::a_plain_clone_has_every_file,
        clones::a_worktree_has_every_file,
        clones::a_bare_clone_fetches_all_objects,
        clones::a_submodule_has_its_files,
        clones::a_shallow_clone_pulls_and_pushes,
        clones::a_clone_without_blobs_pulls_and_pushes,
        clones::an_archive_has_the_files_not_the_pointers,
        clones::push_and_pull_work_in_a_sub_directory,
        pushes::push_all_sends_what_a_push_without_hooks_left_behind,
        pushes::push_object_id_sends_one_object,
        pushes::two_branches_are_pushed_at_once,
        pushes::two_batches_of_objects_are_pushed_and_cloned,
        pushes::a_push_killed_in_the_middle_is_completed_by_the_next,
        history::five_versions_pushed_at_once_are_one_whole_copy_and_four_deltas,
        faults::a_damaged_whole_copy_is_never_checked_out,
        faults::prune_verify_remote_is_refused_and_deletes_nothing,
        settings::the_classic_set_up_ignores_the_url,
        settings::the_environment_alone_is_enough,
    }
}

/// git-lfs 3.6.1, on a SeaweedFS.
mod seaweedfs {
    in_world! { on_seaweedfs:
        clones::a_plain_clone_has_every_file,
        clones::a_bare_clone_fetches_all_objects,
        clones::a_shallow_clone_pulls_and_pushes,
        pushes::push_all_sends_what_a_push_without_hooks_left_behind,
        pushes::push_object_id_sends_one_object,
        pushes::two_batches_of_objects_are_pushed_and_cloned,
        pushes::a_second_push_of_the_same_objects_stores_nothing,
        history::five_versions_pushed_one_by_one_are_one_whole_copy_and_four_deltas,
        history::five_versions_pushed_at_once_are_one_whole_copy_and_four_deltas,
        history::a_merge_of_two_edits_is_stored_as_deltas,
        faults::a_damaged_delta_is_never_checked_out,
        faults::an_object_that_was_never_pushed_is_named,
        settings::the_classic_set_up_needs_no_url,
    }
}

/// git-lfs 3.6.1, on a service that knows neither conditions nor checksums nor uploads in parts.
mod rclone {
    in_world! { on_rclone:
        clones::a_plain_clone_has_every_file,
        pushes::a_second_push_of_the_same_objects_stores_nothing,
        history::five_versions_pushed_at_once_are_one_whole_copy_and_four_deltas,
        faults::an_object_that_was_never_pushed_is_named,
    }
}
