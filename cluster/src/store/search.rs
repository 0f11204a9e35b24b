//! Finds the entries of a group that match a filter: in the unsealed tail, in the open segment, in closed ones.
//!
//! Indexes name candidates, and whole segments are passed over by what memory knows of them; every entry that is given was
//! judged on its decoded leaf. An index that does not read is made again from the leaves it is about, which takes longer and
//! finds the same. One search is bounded in frames, segments and bytes: it says how far it came, and the next one goes on.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use roaring::RoaringBitmap;

use nethical_audit::filter::Filter;
use nethical_audit::segment::SegmentIndex;
use nethical_audit::segment::footer::IndexPlace;
use nethical_audit::segment::search::{self, DamagedIndex, Dimension, HEAD_BYTES_MAX, Part, SearchHead, Zone};
use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::{SEARCH_BYTES_MAX, SEARCH_FRAMES_MAX, SEARCH_SEGMENTS_MAX, SEARCH_TEXT_BYTES_MAX};
use nethical_protocol::sometimes;

use super::cache::Loaded;
use super::{AuditStore, Closed, IndexCache, damaged, dir_of};
use crate::text::file::Texts;
use crate::text::words::TextQuery;
use crate::world::{Clock, Disk, File};

mod look;
mod remade;
mod whose;

use look::{Files, look};

/// Indexes that were damaged and made again.
pub const INDEXES_REBUILT: &str = "nethical_audit_indexes_rebuilt_total";

/// Which way to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the newest back.
    Descending,
    /// From the oldest on.
    Ascending,
}

/// What one search is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// What entries must match.
    pub filter: Filter,
    /// Which way.
    pub order: Order,
    /// Ascending: the first leaf to look at. Descending: the one before which to look. None: from the end that comes first.
    pub from: Option<u64>,
    /// Entries at most, at least one.
    pub limit: usize,
    /// Bytes of leaves and bodies at most; one entry may be larger.
    pub bytes_max: usize,
}

/// An entry that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its place in the log.
    pub leaf_index: u64,
    /// Its log time.
    pub at_ns: u64,
    /// Canonical leaf.
    pub leaf: Vec<u8>,
    /// Stored body.
    pub body: Vec<u8>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order asked.
    pub hits: Vec<Hit>,
    /// Where to go on: the next [`Search::from`].
    pub reached: u64,
    /// Log time at `reached`: no entry that was not looked at yet comes before it in the order asked.
    pub reached_ns: u64,
    /// True where the log's end was reached.
    pub is_end: bool,
}

/// What is known of a closed segment's index without reading it.
pub(super) struct Searchable {
    place: IndexPlace,
    /// Empty where it did not read.
    head: OnceLock<SearchHead>,
    /// Whose leaves it has, once somebody has asked.
    tenants: OnceLock<Option<Arc<[u64]>>>,
}

impl Searchable {
    /// Of an index whose bytes are at hand.
    pub(super) fn of(place: IndexPlace, bytes: &[u8]) -> Self {
        let head = OnceLock::new();
        if let Ok(found) = SearchHead::decode(bytes) {
            let _ = head.set(found);
        }
        Self { place, head, tenants: OnceLock::new() }
    }

    /// Greatest log time of the segment's leaves, where the head reads.
    pub(super) fn last_ns(&self) -> Option<u64> {
        self.head.get().map(|head| head.zone.last_ns)
    }

    /// Reads an index's head from a file.
    pub(super) async fn read(disk: &dyn Disk, path: &str, place: IndexPlace) -> io::Result<Self> {
        let bytes = (place.length as usize).min(HEAD_BYTES_MAX);
        let head = disk.open(path, false).await?.read_at(place.offset, bytes).await?;
        Ok(Self::of(place, &head))
    }
}

/// Where the next leaf to look at stands.
enum Stretch {
    /// In the tail, with those that match.
    Tail(u64, Vec<Hit>),
    /// In a segment, with the places that may match, ascending.
    Open(String, SegmentIndex, Vec<u64>, u64),
    /// In a closed segment.
    Closed(Arc<Closed>),
    /// Leaves are on their way here.
    Missing,
}

/// Where words are looked for before bodies are read.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The node's text indexes.
    pub texts: &'a Texts,
    /// Whose bodies.
    pub tenant: KeyedId,
    /// What they must have.
    pub query: &'a TextQuery,
    /// Monotonic time after which no other segment is asked, by this clock.
    pub until: (&'a dyn Clock, Duration),
}

/// A search under way.
struct Walk<'a> {
    search: &'a Search,
    look: Option<Look<'a>>,
    /// Bytes of text indexes that were asked.
    text_bytes: usize,
    /// Enough of them were asked: the walk ends behind the segment that it is at.
    has_asked: bool,
    found: Found,
    size: u64,
    frames: usize,
    segments: usize,
    bytes: usize,
}

impl AuditStore {
    /// Searches this replica's log.
    ///
    /// # Errors
    /// Where a segment cannot be read or is damaged, or leaves are on their way here: another replica may have them.
    pub async fn search(&self, cache: &IndexCache, search: &Search) -> io::Result<Found> {
        self.search_with(cache, search, None).await
    }

    /// As [`AuditStore::search`], passing over what an index of words says does not have those that are looked for. What is found
    /// has them or may have them.
    ///
    /// # Errors
    /// As [`AuditStore::search`].
    pub async fn search_with(
        &self,
        cache: &IndexCache,
        search: &Search,
        look_for: Option<Look<'_>>,
    ) -> io::Result<Found> {
        let size = self.trail.end();
        if search.order == Order::Descending && search.from.is_some_and(|from| from > size) {
            return Err(late());
        }
        let mut walk = Walk { look: look_for, ..Walk::begin(search, size) };
        while !walk.is_over() && !walk.has_asked {
            match self.stretch(&walk) {
                Stretch::Tail(first, hits) => walk.take_tail(first, hits),
                Stretch::Open(name, index, places, first) => {
                    if !places.is_empty() {
                        let file = self.disk.open(&format!("{}/{name}", dir_of(self.log)), false).await?;
                        let files = Files { name: &name, file: &*file, index: &index, at: None };
                        look(&mut walk, &files, &places, &[]).await?;
                    }
                    walk.pass(first, None);
                }
                Stretch::Closed(segment) => {
                    let name = segment.file_name();
                    // A segment whose footer is lost is searched where another replica has it.
                    let at = segment.places.clone().ok_or_else(|| damaged(&name, segment.first()))?;
                    if at.search.head.get().is_none_or(|head| head.admits(&search.filter)) {
                        // One that was moved meanwhile is looked up again.
                        let Some(file) = self.open_closed(&segment).await? else { continue };
                        let (places, zones) = self.candidates(cache, &mut walk, &segment, &at.search, &*file).await?;
                        let places = self.with_words(&mut walk, &segment, places).await;
                        let files = Files { name: &name, file: &*file, index: &at.index, at: Some(&at) };
                        look(&mut walk, &files, &places, &zones).await?;
                    }
                    let zone = at.search.head.get().map(|head| head.zone);
                    walk.pass(if walk.is_ascending() { segment.next } else { segment.first() }, zone);
                }
                Stretch::Missing => {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "leaves are on their way here"));
                }
            }
        }
        Ok(walk.found)
    }

    fn stretch(&self, walk: &Walk<'_>) -> Stretch {
        let (index, filter) = (walk.next_index(), &walk.search.filter);
        if index >= self.trail.first() {
            let limit = walk.search.limit - walk.found.hits.len();
            let (first, records) =
                self.trail.matching(walk.left(), walk.is_ascending(), limit, |leaf| filter.matches(leaf));
            // The sealer may have emptied the tail since.
            if index >= first {
                let hit = |record: &Arc<crate::trail::Record>| Hit {
                    leaf_index: record.index,
                    at_ns: record.leaf.as_ref().map_or(0, |leaf| leaf.now_ns),
                    leaf: record.bytes.to_vec(),
                    body: record.body.to_vec(),
                };
                return Stretch::Tail(first, records.iter().map(hit).collect());
            }
        }
        let inner = self.inner.lock();
        if let Some(open) = inner.open.as_ref().filter(|open| open.writer.meta().first_index <= index) {
            let (first, written) = (open.writer.meta().first_index, self.sealed.borrow().written);
            if index >= written {
                return Stretch::Missing;
            }
            let Range { start, end } = walk.left();
            let stretch = start.max(first)..end.min(written);
            let places = (stretch.start - first) as usize..(stretch.end - first) as usize;
            let found = open.writer.rows().find(filter, places).into_iter().map(|place| first + u64::from(place));
            let end = if walk.is_ascending() { written } else { first };
            return Stretch::Open(open.writer.meta().file_name(), open.writer.index(), found.collect(), end);
        }
        inner.closed_with(index).map_or(Stretch::Missing, |segment| Stretch::Closed(segment.clone()))
    }

    /// The leaves of a closed segment that may match and were not looked at yet, ascending, and its frames' zones.
    async fn candidates(
        &self,
        cache: &IndexCache,
        walk: &mut Walk<'_>,
        segment: &Closed,
        searchable: &Searchable,
        file: &dyn File,
    ) -> io::Result<(Vec<u64>, Arc<Vec<Zone>>)> {
        let filter = &walk.search.filter;
        walk.segments += 1;
        let wanted = search::wanted(filter);
        let parts = wanted.iter().map(|(dimension, _)| Part::Postings(*dimension)).chain([Part::Zones]);
        let loaded = self.load(cache, segment, searchable, parts.collect(), file).await?;
        let leaves = (segment.next - segment.first()) as u32;
        let left = walk.left();
        let mut places = RoaringBitmap::new();
        places.insert_range(left.start.max(segment.first()).saturating_sub(segment.first()) as u32..leaves);
        places.remove_range((left.end.min(segment.next) - segment.first()) as u32..);
        let mut zones = Arc::default();
        for (part, keys) in loaded.into_iter().zip(wanted.iter().map(|(_, keys)| Some(keys)).chain([None])) {
            match (part, keys) {
                (Loaded::Postings(postings), Some(keys)) => {
                    places &= search::places_of(&postings, keys)
                        .map_err(|_| damaged(&segment.file_name(), segment.first()))?;
                }
                (Loaded::Zones(found), _) => zones = found,
                (Loaded::Postings(_), None) => {}
            }
        }
        Ok((places.iter().map(|place| segment.first() + u64::from(place)).collect(), zones))
    }

    /// Those of some places that may have the words looked for; all of them where no index can tell.
    async fn with_words(&self, walk: &mut Walk<'_>, segment: &Closed, places: Vec<u64>) -> Vec<u64> {
        let Some(look) = walk.look.filter(|_| !places.is_empty()) else { return places };
        let key = (self.log, segment.first());
        let covers = look.texts.covers(key);
        let fits =
            covers.as_ref().is_some_and(|covers| covers.next == segment.next && covers.tenants.contains(&look.tenant));
        if !fits {
            return places;
        }
        let found = match look.texts.load(key).await {
            // One that was replaced meanwhile may be about others.
            Ok(Some(_)) if look.texts.covers(key) != covers => return places,
            Ok(Some(index)) => {
                let (clock, until) = look.until;
                walk.text_bytes += index.bytes();
                walk.has_asked = walk.text_bytes >= SEARCH_TEXT_BYTES_MAX || clock.now() >= until;
                index.find(look.query).map_err(io::Error::other)
            }
            Ok(None) => return places,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(found)) => {
                sometimes!(true, "a search asked a text index");
                let first = segment.first();
                places.into_iter().filter(|place| found.contains((place - first) as u32)).collect()
            }
            Ok(None) => places,
            Err(error) => {
                tracing::warn!(group = %self.log.group, first = segment.first(), %error, "a text index is passed over");
                places
            }
        }
    }

    /// Parts of a segment's index, from memory or from its file.
    async fn load(
        &self,
        cache: &IndexCache,
        segment: &Closed,
        searchable: &Searchable,
        parts: Vec<Part>,
        file: &dyn File,
    ) -> io::Result<Vec<Loaded>> {
        let key = |part: Part| (self.log, segment.first(), segment.turn, part);
        let held: Option<Vec<Loaded>> = parts.iter().map(|part| cache.get(key(*part))).collect();
        if let Some(held) = held {
            return Ok(held);
        }
        let mut loaded = Vec::with_capacity(parts.len());
        for part in &parts {
            let found = match cache.get(key(*part)) {
                Some(found) => Ok(found),
                None => read_part(file, searchable, *part).await?,
            };
            let Ok(found) = found else { return self.remake(cache, segment, searchable, &parts, file).await };
            cache.put(key(*part), found.clone());
            loaded.push(found);
        }
        Ok(loaded)
    }

    /// Makes a damaged index again from the segment's leaves, in memory. The file is the scrubber's to mend.
    async fn remake(
        &self,
        cache: &IndexCache,
        segment: &Closed,
        searchable: &Searchable,
        parts: &[Part],
        file: &dyn File,
    ) -> io::Result<Vec<Loaded>> {
        let name = &segment.file_name();
        tracing::error!(name, group = %self.log.group, "the search index of a segment is damaged and is made again");
        metrics::counter!(INDEXES_REBUILT).increment(1);
        let bytes = file.read_at(0, file.len().await? as usize).await?;
        let index = if segment.warm.is_some() { remade::warm_index(&bytes) } else { remade::hot_index(&bytes) };
        let index = index.ok_or_else(|| damaged(name, segment.first()))?;
        let head = SearchHead::decode(&index).map_err(|_| damaged(name, segment.first()))?;
        let _ = searchable.head.set(head.clone());
        let mut loaded = Vec::with_capacity(parts.len());
        for part in parts {
            let span = head.span(*part);
            let bytes = index.get(span.offset as usize..).and_then(|rest| rest.get(..span.length as usize));
            let part_bytes = Bytes::copy_from_slice(bytes.ok_or_else(|| damaged(name, segment.first()))?);
            let found = decode_part(&head, *part, part_bytes).map_err(|_| damaged(name, segment.first()))?;
            cache.put((self.log, segment.first(), segment.turn, *part), found.clone());
            loaded.push(found);
        }
        Ok(loaded)
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "leaves are on their way here")
}

/// A leaf that was looked at: its place, its log time, and itself where it matches.
type Judged = (u64, u64, Option<Hit>);

impl<'a> Walk<'a> {
    fn begin(search: &'a Search, size: u64) -> Self {
        let reached = match search.order {
            Order::Ascending => search.from.unwrap_or(0),
            Order::Descending => search.from.unwrap_or(size).min(size),
        };
        let reached_ns = if search.order == Order::Ascending { 0 } else { u64::MAX };
        let found = Found { reached, reached_ns, ..Found::default() };
        let mut walk =
            Self { search, look: None, text_bytes: 0, has_asked: false, found, size, frames: 0, segments: 0, bytes: 0 };
        walk.note_end();
        walk
    }

    fn is_ascending(&self) -> bool {
        self.search.order == Order::Ascending
    }

    /// Leaves not looked at yet.
    fn left(&self) -> Range<u64> {
        if self.is_ascending() { self.found.reached..self.size } else { 0..self.found.reached }
    }

    /// The next leaf to look at; there is one while the walk is not over.
    fn next_index(&self) -> u64 {
        if self.is_ascending() { self.found.reached } else { self.found.reached.saturating_sub(1) }
    }

    fn note_end(&mut self) {
        self.found.is_end = self.left().is_empty();
    }

    fn is_over(&self) -> bool {
        let spent = self.frames >= SEARCH_FRAMES_MAX || self.segments >= SEARCH_SEGMENTS_MAX;
        self.found.is_end || self.is_full() || spent
    }

    fn is_full(&self) -> bool {
        self.found.hits.len() >= self.search.limit || self.bytes >= self.search.bytes_max.min(SEARCH_BYTES_MAX)
    }

    /// Takes leaves that were looked at, ascending, with those among them that match.
    fn take(&mut self, mut looked_at: Vec<Judged>) {
        if !self.is_ascending() {
            looked_at.reverse();
        }
        for (index, at_ns, hit) in looked_at {
            if self.is_full() {
                return;
            }
            self.found.reached = if self.is_ascending() { index + 1 } else { index };
            self.found.reached_ns = at_ns;
            if let Some(hit) = hit {
                self.bytes += hit.leaf.len() + hit.body.len();
                self.found.hits.push(hit);
            }
        }
        self.note_end();
    }

    /// Takes what the tail has, in the order asked; the tail begins at `first`.
    fn take_tail(&mut self, first: u64, hits: Vec<Hit>) {
        for hit in hits {
            if self.is_full() {
                break;
            }
            self.found.reached = if self.is_ascending() { hit.leaf_index + 1 } else { hit.leaf_index };
            self.found.reached_ns = hit.at_ns;
            self.bytes += hit.leaf.len() + hit.body.len();
            self.found.hits.push(hit);
        }
        self.pass(if self.is_ascending() { self.size } else { first }, None);
    }

    /// Nothing more up to there, unless the walk has ended on the way. Log time never falls within a log.
    fn pass(&mut self, reached: u64, zone: Option<Zone>) {
        if !self.is_over() {
            self.found.reached = reached;
            let at_ns = zone.map(|zone| if self.is_ascending() { zone.last_ns } else { zone.first_ns });
            self.found.reached_ns = at_ns.unwrap_or(self.found.reached_ns);
        }
        self.note_end();
    }
}

async fn read_part(file: &dyn File, searchable: &Searchable, part: Part) -> io::Result<Result<Loaded, DamagedIndex>> {
    let Some(head) = searchable.head.get() else { return Ok(Err(DamagedIndex)) };
    let span = head.span(part);
    let at = searchable.place.offset.saturating_add(span.offset);
    let bytes = file.read_at(at, span.length as usize).await?;
    Ok(decode_part(head, part, bytes))
}

fn decode_part(head: &SearchHead, part: Part, bytes: Bytes) -> Result<Loaded, DamagedIndex> {
    let span = head.span(part);
    Ok(match part {
        Part::Zones => Loaded::Zones(Arc::new(span.zones(&bytes)?)),
        Part::Postings(_) => Loaded::Postings(Arc::new(span.postings(bytes.into())?)),
    })
}

#[cfg(test)]
#[path = "search/tests.rs"]
mod tests;
