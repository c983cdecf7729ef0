//! Who started this process: the guard against `git lfs prune`.
//!
//! With a custom agent git-lfs believes every object to be on the remote without asking, and prune then
//! deletes the only copy. It starts the agent before it does: an agent that refuses there keeps it from it.

/// Returns whether a `git lfs prune` is among the processes that started this one.
///
/// # Limitations
/// Looks in `/proc`; on systems without one the answer is always no.
pub(super) fn is_prune() -> bool {
    let mut process = std::process::id();
    // git-lfs starts a shell, the shell starts us.
    for _ in 0..4 {
        let Some(parent) = parent_of(process) else { return false };
        if is_prune_command(&arguments_of(parent)) {
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
    let program = arguments.first().map(|path| path.rsplit('/').next().unwrap_or(path));
    program == Some("git-lfs")
        && arguments.iter().skip(1).find(|word| !word.starts_with('-')).is_some_and(|word| word == "prune")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_prune_line(line: &str) -> bool {
        is_prune_command(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
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
