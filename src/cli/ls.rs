//! `ls`: lists what is stored, in a store or in a DeltaSpace of the RFC.

use clap::Args;
use serde_json::{Value, json};

use super::{Context, objects, space, text};
use crate::depot::Folder;
use crate::error::{Error, Result};
use crate::git::Operation;
use crate::model::{Key, KeyPrefix, Oid, StoredCopy};

/// What `ls` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lfs-delta ls\n  lfs-delta ls --json --store s3://bucket/game\n  lfs-delta ls s3://bucket/releases/app/"
)]
pub struct Ls {
    /// s3://bucket/space/ or file:///…; or oids, or a store; without any, the store of this repository
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Another store than the one of this repository
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Print one JSON object per file
    #[arg(long)]
    pub json: bool,
}

pub(super) fn ls(arguments: &Ls, context: &mut Context<'_>) -> Result<()> {
    if space::is_meant(&arguments.what) {
        return space::ls(arguments, context);
    }
    let (hand, what) =
        objects::open(&arguments.what, arguments.store.as_deref(), Operation::Download, context)?;
    let oids = what.iter().map(|text| Oid::parse(text)).collect::<std::result::Result<Vec<_>, _>>();
    let oids = oids.map_err(|error| Error::Usage(error.to_string()))?;
    let folders = match oids[..] {
        [] => hand.transfer.survey()?,
        _ => oids.iter().map(|oid| Ok((*oid, hand.transfer.look(oid)?))).collect::<Result<_>>()?,
    };
    let mut sums = Sums::default();
    for (oid, folder) in &folders {
        let object_size = if oids.is_empty() { None } else { hand.transfer.object_size(folder)? };
        sums.add(folder);
        let lines = if arguments.json {
            vec![json_of(oid, folder, object_size)]
        } else {
            lines_of(oid, folder, object_size)
        };
        lines.iter().try_for_each(|line| context.say(line))?;
    }
    let store = hand.transfer.store_name();
    context.say(&if arguments.json { sums.as_json(&store) } else { sums.as_text(&store) })?;
    match oids.iter().find(|oid| folders.get(oid).is_none_or(|folder| folder.copies().is_empty())) {
        Some(oid) => {
            let folder = KeyPrefix::folder(oid).to_string();
            Err(Error::NotStored { store, folder }.about("list", *oid))
        }
        None => Ok(()),
    }
}

/// What all objects that are listed take together.
#[derive(Debug, Default)]
struct Sums {
    objects: usize,
    copies: usize,
    deltas: usize,
    stored_size: u64,
    delta_size: u64,
}

impl Sums {
    fn add(&mut self, folder: &Folder) {
        let copies = folder.copies();
        let deltas = || copies.iter().filter(|copy| copy.name.base().is_some());
        self.objects += usize::from(!copies.is_empty());
        self.copies += copies.len();
        self.deltas += deltas().count();
        self.stored_size += copies.iter().map(|copy| copy.size).sum::<u64>();
        self.delta_size += deltas().map(|copy| copy.size).sum::<u64>();
    }

    fn as_text(&self, store: &str) -> String {
        format!(
            "{store}: {} with {} in {}, of which {} in {}",
            text::count(self.objects, "object"),
            text::count(self.copies, "copy"),
            text::size(self.stored_size),
            text::count(self.deltas, "delta"),
            text::size(self.delta_size)
        )
    }

    fn as_json(&self, store: &str) -> String {
        json!({
            "type": "sum",
            "store": store,
            "objects": self.objects,
            "copies": self.copies,
            "deltas": self.deltas,
            "stored_size": self.stored_size,
            "delta_size": self.delta_size,
        })
        .to_string()
    }
}

fn shape(copy: &StoredCopy) -> &'static str {
    if copy.name.base().is_some() { "delta" } else { "full" }
}

fn lines_of(oid: &Oid, folder: &Folder, object_size: Option<u64>) -> Vec<String> {
    let of = object_size.map(|size| format!(" {}", text::size(size))).unwrap_or_default();
    let mut lines = vec![format!("{oid}{of}")];
    for copy in folder.copies() {
        let codec = copy.name.codec().map_or_else(|| "raw".into(), |codec| codec.to_string());
        let base = copy.name.base().map(|base| format!(" on {base}")).unwrap_or_default();
        let condemned = if folder.is_condemned(&copy.name.id) { " (condemned)" } else { "" };
        let (shape, nonce, size) = (shape(copy), copy.name.id.nonce, text::size(copy.size));
        lines.push(format!("    {shape} {codec} {size} {nonce}{base}{condemned}"));
    }
    lines
}

fn json_of(oid: &Oid, folder: &Folder, object_size: Option<u64>) -> String {
    let copies = folder.copies().iter().map(|copy| {
        json!({
            "key": Key::copy(&copy.name).to_string(),
            "shape": shape(copy),
            "codec": copy.name.codec().map(|codec| codec.to_string()),
            "base": copy.name.base().map(|base| base.to_string()),
            "stored_size": copy.size,
            "condemned": folder.is_condemned(&copy.name.id),
        })
    });
    let copies: Vec<Value> = copies.collect();
    json!({ "type": "object", "oid": oid.to_string(), "size": object_size, "copies": copies }).to_string()
}
