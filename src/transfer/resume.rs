//! Resume: goes on with an upload in parts that a process of this machine left behind.
//!
//! Only what can be sent byte for byte again is gone on with: the object itself, or a payload that was proven before
//! its upload began and has been kept since. Nothing is encoded here.
//!
//! What surprises: the copy keeps the name it was begun under. Nothing ever showed under that name, so nobody can
//! have condemned it; and it is the same upload of the same bytes, which only took longer.

use std::fs::File;

use super::progress::Meter;
use super::upload::Target;
use super::{Result, Stored, Transfer};
use crate::codec::Header;
use crate::depot::{self, Base};
use crate::model::{Chain, Link};
use crate::store::{self, Body, Source, Unfinished};

impl Transfer {
    /// Finishes an upload of this object that broke; `None` where there is none, or it does not work out.
    pub(super) fn resume(&self, target: &Target<'_>, meter: &Meter) -> Result<Option<Stored>> {
        let found = self.depot.unfinished(&target.version.oid).map_err(|error| self.depot_error(error))?;
        let Some(unfinished) = found else { return Ok(None) };
        let Some(chain) = chain_of(&unfinished, target) else { return Ok(None) };
        meter.stage(100, unfinished.size);
        let path = unfinished.payload.as_deref().unwrap_or(target.path);
        let body = Body {
            source: Source::File { path, size: unfinished.size },
            digest: unfinished.digest,
            sent: &|count| meter.add(count),
        };
        let published = self.depot.publish(&unfinished.name, &body);
        self.check_unchanged(target)?;
        match published {
            // Disks lie. The object itself is as it was.
            Err(depot::Error::Store(store::Error::Digest { key, .. })) => {
                tracing::warn!(%key, "a kept payload is damaged: beginning anew");
                return Ok(None);
            }
            published => published.map_err(|error| self.depot_error(error))?,
        };
        self.rely(&unfinished, chain)
    }

    /// Looks at the base once more (R4c), and remembers the copy.
    fn rely(&self, unfinished: &Unfinished, chain: Chain) -> Result<Option<Stored>> {
        let (size, depth) = (unfinished.size, chain.depth());
        let Some(base) = unfinished.name.base() else {
            self.remember(chain);
            return Ok(Some(Stored::Whole { size }));
        };
        if self.depot.base_of(&base).map_err(|error| self.depot_error(error))? == Base::Condemned {
            tracing::warn!(%base, "the base is condemned or gone: storing the object anew");
            self.depot.distrust(&base);
            return Ok(None);
        }
        self.remember(chain);
        Ok(Some(Stored::Delta { size, depth, base }))
    }
}

/// Returns the chain of the copy that is to be; `None` where what was kept is not that copy.
fn chain_of(unfinished: &Unfinished, target: &Target<'_>) -> Option<Chain> {
    let (id, object_size) = (unfinished.name.id, target.version.size);
    let (codec, stored_size) = (unfinished.name.codec(), unfinished.size);
    let Some(payload) = &unfinished.payload else {
        let own = Link { id, codec, object_size, stored_size, written_size: object_size };
        let fits = unfinished.digest == id.oid && stored_size == object_size;
        return fits.then(|| Chain { links: vec![own] });
    };
    let header = File::open(payload).ok().and_then(|mut file| Header::read(&mut file).ok())?;
    let base = header.chain.links.first().map(|link| link.id);
    let fits = header.id == id && base == unfinished.name.base() && header.object_size == object_size;
    let own = Link { id, codec, object_size, stored_size, written_size: header.written_size };
    fits.then(|| Chain { links: std::iter::once(own).chain(header.chain.links).collect() })
}
