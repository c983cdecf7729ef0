//! Files with names of their own, and S3's user metadata beside them.

use std::io::Read;

use aws_sdk_s3::types::StorageClass;

use super::download::Stream;
use super::fault::{self, Fault};
use super::pages::Pages;
use super::{Order, S3Store, is_out_of_range, no_service};
use crate::model::{FileName, Folder, Key, KeyPrefix, hex};
use crate::store::artefacts::{ArtefactStore, Checksum, Found, Item, Metadata, Placing};
use crate::store::{Body, Error, Result, Verb, Visit};

impl S3Store {
    fn class_of(&self, key: &Key) -> Option<StorageClass> {
        self.options.keeping.class_of(key.as_str().ends_with(crate::model::artefact::DELTA))
    }

    async fn items(&self, folder: &Folder, pages: &mut Pages) -> Result<Vec<Item>> {
        let service = self.service.get().ok_or_else(no_service)?;
        let prefix = KeyPrefix::artefacts(folder);
        let root = self.location.full_key(prefix.as_str());
        let sent = service
            .client()
            .list_objects_v2()
            .bucket(&self.location.bucket)
            .prefix(&root)
            .delimiter("/")
            .set_continuation_token(pages.token())
            .set_request_payer(self.options.access.payer())
            .send()
            .await;
        let answer =
            sent.map_err(|error| Fault::from(error).into_error(Verb::List, prefix.as_str(), None))?;
        let name = |key: Option<&str>| FileName::parse(key?.strip_prefix(&root)?.trim_end_matches('/')).ok();
        let files = answer.contents().iter().filter_map(|object| {
            let size = u64::try_from(object.size()?).ok()?;
            // A console makes "folders" by storing an empty object whose key ends with a slash.
            let key = object.key().filter(|key| !key.ends_with('/'));
            Some(Item::File { name: name(key)?, size })
        });
        let folders = answer.common_prefixes().iter();
        let folders = folders.filter_map(|common| name(common.prefix()).map(Item::Folder));
        let items = files.chain(folders).collect();
        pages.turn(&answer, &prefix)?;
        Ok(items)
    }
}

impl ArtefactStore for S3Store {
    fn find(&self, key: &Key) -> Result<Option<Found>> {
        let seen = self.run_alone(async |client| {
            let seen = self.head(client, key).await;
            seen.map_err(|fault| fault.into_error(Verb::Get, key.as_str(), None))
        })?;
        Ok(seen.map(|seen| Found {
            checksum: seen.checksum(),
            size: seen.size.unwrap_or_default(),
            version: seen.version,
            metadata: seen.metadata,
        }))
    }

    fn get(&self, key: &Key, found: &Found) -> Result<Box<dyn Read + Send>> {
        let version = found.version.clone().filter(|version| !version.starts_with("W/"));
        let (large, part) = self.first_part(found.size, version);
        let opened = match self.run(Stream::open(self.wanted(key)?, part)) {
            Err(error) if large && is_out_of_range(&error) => {
                return Err(Error::NotFound { key: key.clone() });
            }
            Err(Error::Unavailable { reason, .. }) if reason.starts_with(fault::CHANGED) => {
                return Err(Error::NotFound { key: key.clone() });
            }
            opened => opened?,
        };
        self.follow(opened)
    }

    fn put(&self, key: &Key, body: &Body<'_>, metadata: &Metadata, placing: Placing) -> Result<()> {
        self.store(&Order { key, body, metadata: Some(metadata), placing, class: self.class_of(key) })
    }

    fn list(&self, folder: &Folder, visit: &mut dyn FnMut(Item) -> Visit) -> Result<()> {
        let mut pages = Pages::default();
        while !pages.is_over() {
            for item in self.run(self.items(folder, &mut pages))? {
                if visit(item) == Visit::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.location.to_string()
    }
}

/// Reads the MD5 that the ETag of a file is, where it is one: not of uploads in parts, nor of encrypted files.
pub(super) fn md5_of(version: &str) -> Option<Checksum> {
    let digits = version.strip_prefix('"')?.strip_suffix('"')?;
    hex::decode(digits).map(Checksum::Md5)
}
