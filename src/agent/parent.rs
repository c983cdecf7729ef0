//! Who started this process: the guard against `git lfs prune`, and whether objects are to be repaired.
//!
//! With a custom agent git-lfs believes every object to be on the remote without asking, and prune then
//! deletes the only copy. It starts the agent before it does: an agent that refuses there keeps it from it.
//!
//! # Limitations
//! Looks in `/proc`; on systems without one the answer is always no.

/// Returns whether a `git lfs prune` is among the processes that started this one.
pub(super) fn is_prune() -> bool {
    is_below(is_prune_command)
}

/// Returns whether a `git lfs push --object-id` is among the processes that started this one: what people are
/// told to run when a copy in the store turned out to be damaged.
pub(super) fn is_repair() -> bool {
    is_below(is_repair_command)
}

fn is_below(is_wanted: fn(&[String]) -> bool) -> bool {
    let mut process = std::process::id();
    // git-lfs starts a shell, the shell starts us.
    for _ in 0..4 {
        let Some(parent) = parent_of(process) else { return false };
        if is_wanted(&arguments_of(parent)) {
            return true;
        }
        process = parent;
    }
    false
}

fn parent_of(process: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything, so what counts begins after the last one.
    let (_, rest) = status.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok().filter(|&parent| parent > 1)
}

fn arguments_of(process: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn is_prune_command(arguments: &[String]) -> bool {
    is_command(arguments, "prune")
}

fn is_repair_command(arguments: &[String]) -> bool {
    let names_objects = |word: &String| matches!(word.as_str(), "--object-id" | "--object-id=true" | "-o");
    is_command(arguments, "push") && arguments.iter().any(names_objects)
}

fn is_command(arguments: &[String], command: &str) -> bool {
    let program = arguments.first().map(|path| path.rsplit('/').next().unwrap_or(path));
    program == Some("git-lfs")
        && arguments.iter().skip(1).find(|word| !word.starts_with('-')).is_some_and(|word| word == command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn is_prune_line(line: &str) -> bool {
        is_prune_command(&words(line))
    }

    #[test]
    fn only_a_push_of_named_objects_repairs() {
        assert!(is_repair_command(&words("git-lfs push --object-id origin 1234")));
        assert!(is_repair_command(&words("/usr/bin/git-lfs push origin -o 1234")));
        assert!(!is_repair_command(&words("git-lfs push --all origin")));
        assert!(!is_repair_command(&words("git-lfs pre-push origin --object-id")));
    }

    #[test]
    fn only_the_prune_command_of_git_lfs_is_one() {
        assert!(is_prune_line("git-lfs prune --verify-remote"));
        assert!(is_prune_line("/usr/bin/git-lfs prune"));
        assert!(!is_prune_line("git-lfs push origin prune"));
        assert!(!is_prune_line("git-lfs pre-push origin"));
        assert!(!is_prune_line("git prune"));
        assert!(!is_prune_line(""));
    }

    #[test]
    fn the_process_above_is_found() {
        assert_eq!(parent_of(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
