//! `verify URL…`: restores what is stored and compares it with what is told of it. Nothing is written anywhere.
//!
//! A URL that ends with a slash means all that is below. What surprises: the cache does not count. Each file is
//! restored from what is in the DeltaSpace, reference included.

use serde_json::json;

use super::{Session, file_url, no_store, only_urls, say_json, usage};
use crate::cli::verify::Verify;
use crate::cli::{Context, text};
use crate::error::{Error, Kind, Result, printable};
use crate::model::{ArtefactUrl, FileName};
use crate::space::{DeltaSpace, Locate, Located, Place, Restored, Trust};

/// How many files came out how.
#[derive(Default)]
struct Tally {
    total: usize,
    fine: usize,
    plain: usize,
    damaged: usize,
    failed: usize,
    /// The last of those that went wrong.
    error: Option<Error>,
}

/// What was found of one file.
enum Finding {
    Fine(Restored),
    /// Nothing is told of it: another program put it there, and it is no part of the DeltaSpace.
    Plain,
    Bad(Error),
}

pub(super) fn verify(arguments: &Verify, context: &mut Context<'_>) -> Result<()> {
    no_store(arguments.store.as_deref())?;
    only_urls(&arguments.what)?;
    let session = Session::open(context, arguments.verbose)?;
    let mut tally = Tally::default();
    for what in &arguments.what {
        let path = what.split('?').next().unwrap_or_default();
        if path.ends_with('/') || path.matches('/').count() < 3 {
            let url = ArtefactUrl::parse_space(what).map_err(usage)?;
            verify_all(&session, &url, arguments, context, &mut tally)?;
        } else {
            let (url, name) = file_url(what)?;
            let space = session.space(&url, Trust::StoreOnly);
            session.progress.begin(1);
            verify_one(&session, &space, (&name, Locate::Either), arguments, context, &mut tally)?;
        }
    }
    session.progress.end();
    finish(tally, arguments, context)
}

fn verify_all(
    session: &Session,
    url: &ArtefactUrl,
    arguments: &Verify,
    context: &mut Context<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let top = session.space(url, Trust::StoreOnly);
    session.progress.next(&top.url(""));
    let tree = top.tree().map_err(|error| error.about_artefact("list", top.url("")))?;
    if tree.is_empty() {
        // A slip of the hand must not look like a space in which all is well.
        let error = Error::ArtefactMissing { looked: format!("file below {}", top.url("")) };
        return Err(error.about_artefact("verify", top.url("")));
    }
    session.progress.begin(tree.iter().map(|(_, names)| names.len()).sum());
    for (space, names) in &tree {
        for name in names {
            verify_one(session, space, (name, Locate::Exactly), arguments, context, tally)?;
        }
    }
    Ok(())
}

fn verify_one(
    session: &Session,
    space: &DeltaSpace<'_>,
    (name, how): (&FileName, Locate),
    arguments: &Verify,
    context: &mut Context<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let url = space.url(name.as_str());
    session.progress.next(&url);
    let restored = space.restore(name, how, &mut Place::Nowhere(std::io::sink()));
    let finding = match restored {
        Ok((located, _)) if how == Locate::Exactly && is_plain(&located) => Finding::Plain,
        Ok((_, restored)) => Finding::Fine(restored),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => bad(space, name, how, error),
    };
    session.progress.done();
    if arguments.json {
        let line = line_of(&url, &finding);
        session.progress.aside(|| say_json(context, &line))?;
    } else if let Finding::Fine(restored) = &finding {
        session.progress.warn(&url, &restored.warnings);
    }
    let error = tally.count(finding).map(|error| error.about_artefact("verify", url));
    if let Some(error) = error {
        // One alone is the outcome of the command, and told as such.
        if how == Locate::Exactly || arguments.what.len() > 1 {
            session.progress.tell_error(&error);
        }
        tally.error = Some(error);
    }
    Ok(())
}

/// Returns whether nothing says that a file belongs to a DeltaSpace.
fn is_plain(located: &Located) -> bool {
    !located.is_told() && located.artefact() == located.name
}

/// Tells what is damaged from what was never a part of the DeltaSpace.
fn bad(space: &DeltaSpace<'_>, name: &FileName, how: Locate, error: Error) -> Finding {
    let is_unproven = error.kind() == Kind::ArtefactUnproven && how == Locate::Exactly;
    match is_unproven && space.locate(name, how).is_ok_and(|located| is_plain(&located)) {
        true => Finding::Plain,
        false => Finding::Bad(error),
    }
}

fn line_of(url: &str, finding: &Finding) -> serde_json::Value {
    match finding {
        Finding::Fine(restored) => json!({
            "url": url, "valid": true, "state": "proven", "file_size": restored.size,
            "file_sha256": restored.sha256.to_string(), "warnings": restored.warnings,
        }),
        Finding::Plain => json!({ "url": url, "valid": null, "state": "not of a DeltaSpace" }),
        Finding::Bad(error) => json!({
            "url": url, "valid": false, "state": state(error), "code": format!("E{:04}", error.kind().entry().code),
            "message": error.report(),
        }),
    }
}

fn state(error: &Error) -> &'static str {
    match error.kind() {
        Kind::ArtefactDamaged | Kind::ArtefactForeign => "damaged",
        Kind::ArtefactUnproven => "unproven",
        Kind::ArtefactMissing => "missing",
        _ => "unknown",
    }
}

impl Tally {
    /// Counts a finding and returns what went wrong.
    fn count(&mut self, finding: Finding) -> Option<Error> {
        self.total += 1;
        match finding {
            Finding::Fine(_) => self.fine += 1,
            Finding::Plain => self.plain += 1,
            Finding::Bad(error) => {
                if state(&error) == "damaged" {
                    self.damaged += 1;
                } else {
                    self.failed += 1;
                }
                return Some(error);
            }
        }
        None
    }
}

fn finish(tally: Tally, arguments: &Verify, context: &mut Context<'_>) -> Result<()> {
    let Tally { total, fine, plain, damaged, failed, error } = tally;
    if arguments.json {
        let line = json!({
            "checked": total, "proven": fine, "not_of_a_deltaspace": plain, "damaged": damaged, "failed": failed,
        });
        say_json(context, &line)?;
    } else {
        let verb = |count: usize| if count == 1 { "is" } else { "are" };
        let rest =
            if plain > 0 { format!(", {plain} {} of no DeltaSpace", verb(plain)) } else { String::new() };
        let files = text::count(total, "file");
        context.say(&printable(&format!("{fine} of {files} {} proven{rest}", verb(fine))))?;
    }
    if let (1, Some(error)) = (total, error) {
        return Err(error);
    }
    match (damaged, failed) {
        (0, 0) => Ok(()),
        (0, failed) => Err(Error::Several { failed, total }),
        (damaged, _) => Err(Error::Findings { damaged, total }),
    }
}
