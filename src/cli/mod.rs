//! The edge towards people: commands, their arguments and what they print.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::cancel::Cancel;
use crate::codec::Effort;
use crate::error::{Error, Result};

mod bar;
mod get;
mod init;
mod install;
mod ls;
mod objects;
mod put;
mod space;
mod text;
mod trust;
mod verify;

/// Git LFS storage in your own bucket, as references and deltas.
#[derive(Debug, Parser)]
#[command(name = "lfs-delta", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Once per machine: lfs-delta install\nOnce per repository: lfs-delta init s3://bucket/prefix\n\
                        Then git push, git pull and git clone do the rest."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register lfs-delta with git-lfs, once per machine
    #[command(after_help = "Examples:\n  lfs-delta install\n  lfs-delta install --trust s3.example.com\n  \
                            sudo lfs-delta install --system")]
    Install {
        /// Which git config is meant.
        #[command(flatten)]
        scope: install::Scope,
        /// Trust an S3 endpoint that repositories ask for; can be given several times
        #[arg(long, value_name = "HOST")]
        trust: Vec<String>,
    },
    /// Undo what install did, and nothing else
    #[command(after_help = "Examples:\n  lfs-delta uninstall\n  sudo lfs-delta uninstall --system")]
    Uninstall {
        /// Which git config is meant.
        #[command(flatten)]
        scope: install::Scope,
    },
    /// Point this repository at a store, and make the store if it is new
    #[command(after_help = "Examples:\n  lfs-delta init s3://bucket/game?region=eu-west-1\n  \
                            lfs-delta init 's3://bucket/game?endpoint=https://s3.example.com'\n  \
                            lfs-delta init --profile team s3://bucket/game\n  lfs-delta init /mnt/share/game")]
    Init {
        /// s3://bucket/prefix[?region=…&endpoint=…&path-style=…], or a directory (relative to the repository)
        #[arg(value_name = "STORE")]
        store: String,
        /// The AWS profile to use in this clone, whatever the environment says
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
    },
    /// Trust an S3 endpoint that repositories ask for
    #[command(after_help = "Examples:\n  lfs-delta trust s3.example.com\n  lfs-delta trust 127.0.0.1")]
    Trust {
        /// The host name, as the error message names it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Store files by hand
    #[command(after_help = "Examples:\n  lfs-delta put app-1.2.zip s3://bucket/releases/app/\n  \
                            lfs-delta put --json *.tar file:///mnt/share/backups/")]
    Put(put::Put),
    /// Fetch files by hand
    #[command(after_help = "Examples:\n  lfs-delta get s3://bucket/releases/app/app-1.2.zip > app.zip\n  \
                            lfs-delta get -o downloads/ s3://bucket/releases/app/app-1.{1,2}.zip")]
    Get(get::Get),
    /// Prove that what is stored can be restored
    #[command(after_help = "Examples:\n  lfs-delta verify s3://bucket/releases/app/app-1.2.zip\n  \
                            lfs-delta verify --json s3://bucket/releases/")]
    Verify(verify::Verify),
    /// List what is stored
    #[command(after_help = "Examples:\n  lfs-delta ls s3://bucket/releases/app/\n  \
                            lfs-delta ls --json file:///mnt/share/backups/")]
    Ls(ls::Ls),
    /// Serve git-lfs as its custom transfer agent
    #[command(hide = true)]
    Agent {
        /// The store to use, whatever lfs.url says
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        /// How much time a smaller result is worth: fast, default or max
        #[arg(long, value_name = "EFFORT", value_parser = effort)]
        effort: Option<Effort>,
        /// The AWS profile to use, whatever the settings say
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
    },
}

impl Command {
    /// Returns whether the user wants to see each step.
    pub const fn is_verbose(&self) -> bool {
        match self {
            Self::Put(arguments) => arguments.verbose,
            Self::Get(arguments) => arguments.verbose,
            Self::Verify(arguments) => arguments.verbose,
            _ => false,
        }
    }
}

fn effort(text: &str) -> std::result::Result<Effort, &'static str> {
    Effort::parse(text).ok_or("expected fast, default or max")
}

/// Where warnings and steps go: line by line, from any thread.
#[derive(Clone)]
pub struct Messages {
    /// Writes one line.
    pub write: Arc<dyn Fn(&str) + Send + Sync>,
    /// Whether somebody sits there.
    pub is_terminal: bool,
}

/// Where a command runs, and where it prints.
pub struct Context<'a> {
    /// The working directory.
    pub folder: PathBuf,
    /// What people read.
    pub output: &'a mut dyn Write,
    /// Whether they do, or a program does.
    pub output_is_terminal: bool,
    /// What is not the result.
    pub messages: Messages,
    /// Raised by a signal.
    pub cancel: Cancel,
}

impl Context<'_> {
    fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.output, "{line}").map_err(|source| Error::disk("print", source))
    }

    fn git(&self) -> crate::git::Git {
        let patience = std::time::Duration::from_secs(60);
        crate::git::Git::new(self.folder.clone(), patience, self.cancel.clone())
    }
}

/// Runs a command that is not the agent.
///
/// # Errors
/// Those of the command.
pub fn run(command: Command, context: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Install { scope, trust } => install::install(scope, &trust, context),
        Command::Uninstall { scope } => install::uninstall(scope, context),
        Command::Init { store, profile } => init::init(&store, profile, context),
        Command::Trust { host } => trust::trust(&host, context),
        Command::Put(arguments) => put::put(&arguments, context),
        Command::Get(arguments) => get::get(&arguments, context),
        Command::Verify(arguments) => verify::verify(&arguments, context),
        Command::Ls(arguments) => ls::ls(&arguments, context),
        Command::Agent { .. } => Err(Error::Internal("the agent is no command for people".into())),
    }
}
