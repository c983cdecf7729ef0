//! `verify`: proves that what is stored can be restored, in a store or in a DeltaSpace of the RFC.

use clap::Args;
use serde_json::{Value, json};

use super::{Context, bar, objects, space, text};
use crate::error::{Error, Result, printable};
use crate::git::{Operation, Use};
use crate::model::Oid;
use crate::verify::{self, Finding, Report, Request, State, Subset};

/// What `verify` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lfs-delta verify --refs\n  lfs-delta verify --read-data --subset 1/30\n  lfs-delta verify --read-data --repair\n  lfs-delta verify s3://bucket/releases/app/\n\nExit codes: 0 nothing is wrong, 3 everything can be restored but some copies are wrong,\n5 objects are damaged or missing, 9 a later version is needed to tell; others: it could not look"
)]
pub struct Verify {
    /// Oids, a store, or s3://bucket/space/[file.zip.delta] or file:///…; without any, the store of this repository
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Another store than the one of this repository
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Look whether every LFS pointer of all refs has its object in the store (an LFS store only)
    #[arg(long)]
    pub refs: bool,
    /// Read, decode and hash the copies, not only list them (an LFS store only)
    #[arg(long)]
    pub read_data: bool,
    /// Read a part of all objects, always the same one: n/t, the n-th of t parts, or x%
    #[arg(long, value_name = "PART", value_parser = Subset::parse, requires = "read_data")]
    pub subset: Option<Subset>,
    /// Condemn what is wrong, and store again what this clone has; deletes nothing (an LFS store only)
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Tell step by step what happens
    #[arg(short, long)]
    pub verbose: bool,
}

/// Places that are named of an object that many commits brought.
const USES_SHOWN: usize = 3;

pub(super) fn verify(arguments: &Verify, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        if arguments.refs || arguments.read_data || arguments.repair {
            let text = "--refs, --read-data and --repair are about an LFS store: name it by --store, or with lfs-delta::";
            return Err(Error::Usage(text.into()));
        }
        return space::verify(arguments, context);
    }
    let operation = if arguments.repair { Operation::Upload } else { Operation::Download };
    let (hand, what) = objects::open(&arguments.what, arguments.store.as_deref(), operation, context)?;
    let request = request(arguments, &what)?;
    let store = hand.transfer.store_name();
    let report = {
        let bar = bar::Bar::new("read");
        verify::verify(&hand.transfer, &request, &|progress| bar.show(progress))?
    };
    for finding in &report.findings {
        let lines =
            if arguments.json { vec![json_of(finding)] } else { lines_of(finding, arguments.verbose) };
        lines.iter().try_for_each(|line| context.say(line))?;
    }
    match arguments.json {
        true => context.say(&summary(&store, &report))?,
        false => lines_of_report(&store, &report).iter().try_for_each(|line| context.say(line))?,
    }
    objects::log_calls(&hand.calls);
    conclude(store, &report)
}

fn request(arguments: &Verify, what: &[String]) -> Result<Request> {
    let oids = what.iter().map(|text| Oid::parse(text)).collect::<std::result::Result<Vec<_>, _>>();
    let objects = oids.map_err(|error| Error::Usage(error.to_string()))?;
    if !objects.is_empty() && (arguments.refs || arguments.subset.is_some()) {
        return Err(Error::Usage(
            "--refs and --subset are about a whole store, and not about some oids".into(),
        ));
    }
    let data = arguments.read_data.then(|| arguments.subset.unwrap_or_default());
    Ok(Request { objects, refs: arguments.refs, data, repair: arguments.repair })
}

/// Turns what was found into the exit code: 5, else 9, else 3, else none.
fn conclude(store: String, report: &Report) -> Result<()> {
    let lost = report.count(State::Missing) + report.count(State::Damaged);
    if lost > 0 {
        return Err(Error::Unsound { store, objects: lost });
    }
    let unknown = report.findings.iter().filter(|finding| finding.state == State::Unknown);
    if let Some((key, codec)) =
        unknown.filter_map(|finding| Some((finding.flaws.first()?.0.clone(), finding.unknown?))).next()
    {
        return Err(Error::CodecUnknown { key, codec });
    }
    match report.count(State::Weakened) {
        0 => Ok(()),
        objects => Err(Error::Weakened { store, objects }),
    }
}

fn lines_of(finding: &Finding, all: bool) -> Vec<String> {
    let mut lines = vec![format!("{} {}", finding.state.name(), finding.oid)];
    lines
        .extend(finding.flaws.iter().map(|(key, reason)| format!("    {}", about(&key.to_string(), reason))));
    let shown = if all { finding.uses.len() } else { USES_SHOWN };
    let place = |used: &Use| format!("    needed by {} in commit {}", printable(&used.path), used.commit);
    lines.extend(finding.uses.iter().take(shown).map(place));
    if finding.uses.len() > shown {
        lines.push(format!(
            "    and by {} more (-v shows all)",
            text::count(finding.uses.len() - shown, "place")
        ));
    }
    lines
}

/// Joins a key and what is wrong with it; the reason of a copy that was read names it already.
fn about(key: &str, reason: &str) -> String {
    printable(&if reason.starts_with(key) { reason.to_owned() } else { format!("{key}: {reason}") })
}

fn lines_of_report(store: &str, report: &Report) -> Vec<String> {
    let count = text::count;
    let Report { objects: objects_seen, copies, condemned, stored_size, read, read_size, .. } = *report;
    let mut lines = vec![format!(
        "{store}: {} with {} in {}",
        count(objects_seen, "object"),
        count(copies, "copy"),
        text::size(stored_size)
    )];
    if condemned > 0 {
        lines.push(format!("{} of them condemned", count(condemned, "copy")));
    }
    if read > 0 {
        lines.push(format!("{} read and decoded ({})", count(read, "copy"), text::size(read_size)));
    }
    let repaired = &report.repaired;
    if !repaired.condemned.is_empty() || !repaired.stored.is_empty() {
        let (copies, stored) = (repaired.condemned.len(), repaired.stored.len());
        lines.push(format!("condemned {}, stored {} again", count(copies, "copy"), count(stored, "object")));
    }
    if report.findings.is_empty() {
        lines.push("nothing is wrong".into());
    }
    lines
}

fn json_of(finding: &Finding) -> String {
    let flaws = finding.flaws.iter().map(|(key, reason)| json!({ "key": key.to_string(), "reason": reason }));
    let uses = finding.uses.iter().map(|used| json!({ "commit": used.commit, "path": used.path }));
    json!({
        "type": "finding",
        "oid": finding.oid.to_string(),
        "state": finding.state.name(),
        "flaws": flaws.collect::<Vec<Value>>(),
        "uses": uses.collect::<Vec<Value>>(),
    })
    .to_string()
}

fn summary(store: &str, report: &Report) -> String {
    json!({
        "type": "summary",
        "store": store,
        "objects": report.objects,
        "copies": report.copies,
        "condemned": report.condemned,
        "stored_size": report.stored_size,
        "read": report.read,
        "read_size": report.read_size,
        "missing": report.count(State::Missing),
        "damaged": report.count(State::Damaged),
        "unknown": report.count(State::Unknown),
        "weakened": report.count(State::Weakened),
        "condemned_now": report.repaired.condemned.len(),
        "stored_again": report.repaired.stored.len(),
    })
    .to_string()
}
