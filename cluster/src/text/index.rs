//! The words of one segment's bodies: which entries have which word, whose they are, and whose keys they need.
//!
//! tantivy keeps terms and postings; one document is one body, in order of entries, and nothing of it is stored but its words.
//! Bodies can be taken out again without reading any other. Pure bytes and memory here; where they rest is [`super::file`]'s
//! business. What this says is a hint: who reads entries judges their bodies ([`super::words`]).

use std::collections::BTreeSet;
use std::io::Write as _;

use roaring::RoaringBitmap;
use tantivy::directory::{OwnedBytes, RamDirectory, TerminatingWrite as _};
use tantivy::fastfield::{AliveBitSet, write_alive_bitset};
use tantivy::index::{InvertedIndexReader, SegmentComponent};
use tantivy::indexer::merge_filtered_segments;
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{
    BitSet, DocSet as _, HasLen as _, Index, IndexSettings, Segment, SegmentReader, SingleSegmentIndexWriter,
    TERMINATED, TantivyDocument, TantivyError, Term,
};

use nethical_protocol::ids::KeyedId;

use super::words::TextQuery;

/// Memory for the words of a segment that is indexed.
const BUILD_BYTES: usize = 64 * 1024 * 1024;
/// Words that may begin with what is asked for; with more of them the index is not asked.
const PREFIX_WORDS_MAX: usize = 4_096;
/// What an index consists of.
const PARTS: [SegmentComponent; 6] = [
    SegmentComponent::Terms,
    SegmentComponent::Postings,
    SegmentComponent::Positions,
    SegmentComponent::FastFields,
    SegmentComponent::FieldNorms,
    SegmentComponent::Store,
];

/// One body that is indexed.
pub struct Doc {
    /// Its entry's place, from the segment's first.
    pub place: u32,
    /// Whose it is.
    pub tenant: KeyedId,
    /// Whose keys it needs, each in bytes of the caller's.
    pub subjects: Vec<Vec<u8>>,
    /// What it says.
    pub words: BTreeSet<String>,
}

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
#[error("text index: {0}")]
pub struct IndexError(String);

impl From<TantivyError> for IndexError {
    fn from(error: TantivyError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for IndexError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// An index in memory.
pub struct TextIndex {
    /// Entries by document; empty where nothing is indexed.
    places: Vec<u32>,
    /// None where nothing is indexed.
    words: Option<(Segment, SegmentReader)>,
    bytes: usize,
}

struct Fields {
    word: Field,
    tenant: Field,
    subject: Field,
}

fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let indexing = TextFieldIndexing::default().set_index_option(IndexRecordOption::Basic).set_fieldnorms(false);
    let word = builder.add_text_field("word", TextOptions::default().set_indexing_options(indexing));
    let tenant = builder.add_bytes_field("tenant", BytesOptions::default().set_indexed());
    let subject = builder.add_bytes_field("subject", BytesOptions::default().set_indexed());
    (builder.build(), Fields { word, tenant, subject })
}

/// An index that is being made, so that no more words are in memory than their postings.
pub struct Builder {
    places: Vec<u32>,
    writer: SingleSegmentIndexWriter,
    fields: Fields,
}

impl Builder {
    /// Of nothing yet.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub fn new() -> Result<Self, IndexError> {
        let (schema, fields) = schema();
        let builder = Index::builder().schema(schema);
        let writer = builder.single_segment_index_writer(RamDirectory::create(), BUILD_BYTES)?;
        Ok(Self { places: Vec::new(), writer, fields })
    }

    /// Takes bodies in, in rising order of place.
    ///
    /// # Errors
    /// Where they cannot be indexed.
    pub fn add(&mut self, docs: Vec<Doc>) -> Result<(), IndexError> {
        for doc in docs {
            let mut document = TantivyDocument::new();
            document.add_pre_tokenized_text(self.fields.word, pre_tokenized(doc.words));
            document.add_bytes(self.fields.tenant, &doc.tenant.0);
            doc.subjects.iter().for_each(|subject| document.add_bytes(self.fields.subject, subject));
            self.writer.add_document(document)?;
            self.places.push(doc.place);
        }
        Ok(())
    }

    /// The index.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn finish(self) -> Result<TextIndex, IndexError> {
        if self.places.is_empty() {
            return Ok(TextIndex { places: self.places, words: None, bytes: 0 });
        }
        TextIndex::of(self.places, &self.writer.finalize()?)
    }
}

impl TextIndex {
    /// Of bodies in rising order of place.
    ///
    /// # Errors
    /// Where they cannot be indexed.
    pub fn build(docs: Vec<Doc>) -> Result<Self, IndexError> {
        let mut builder = Builder::new()?;
        builder.add(docs)?;
        builder.finish()
    }

    fn of(places: Vec<u32>, index: &Index) -> Result<Self, IndexError> {
        let segment = index.searchable_segments()?.pop();
        let segment = segment.ok_or_else(|| IndexError("it has no segment".to_owned()))?;
        Self::open(places, segment)
    }

    fn open(places: Vec<u32>, segment: Segment) -> Result<Self, IndexError> {
        let reader = SegmentReader::open(&segment)?;
        let mut bytes = places.len() * 4;
        for part in PARTS {
            bytes += segment.open_read(part).map_err(|error| IndexError(error.to_string()))?.len();
        }
        Ok(Self { places, words: Some((segment, reader)), bytes })
    }

    /// Bytes that it takes encoded.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of bodies.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True where nothing is indexed.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Entries that are indexed, ascending.
    pub fn places(&self) -> &[u32] {
        &self.places
    }

    /// Entries that may have all that is looked for; `None` where the index cannot tell.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn find(&self, query: &TextQuery) -> Result<Option<RoaringBitmap>, IndexError> {
        let Some((_, reader)) = &self.words else { return Ok(Some(RoaringBitmap::new())) };
        let (_, fields) = schema();
        let inverted = reader.inverted_index(fields.word)?;
        let mut found: Option<RoaringBitmap> = None;
        let mut narrow = |docs: RoaringBitmap| match &mut found {
            Some(found) => *found &= docs,
            none => *none = Some(docs),
        };
        for word in &query.words {
            narrow(docs_of(&inverted, &Term::from_field_text(fields.word, word))?);
        }
        for prefix in &query.prefixes {
            beginning(&inverted, prefix)?.into_iter().for_each(&mut narrow);
        }
        let places =
            |docs: RoaringBitmap| docs.iter().filter_map(|doc| self.places.get(doc as usize).copied()).collect();
        Ok(found.map(places))
    }

    /// The keys that indexed bodies need, each once.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn subjects(&self) -> Result<Vec<Vec<u8>>, IndexError> {
        self.terms(schema().1.subject)
    }

    fn terms(&self, field: Field) -> Result<Vec<Vec<u8>>, IndexError> {
        let Some((_, reader)) = &self.words else { return Ok(Vec::new()) };
        let inverted = reader.inverted_index(field)?;
        let (mut terms, mut found) = (inverted.terms().stream()?, Vec::new());
        while terms.advance() {
            found.push(terms.key().to_vec());
        }
        Ok(found)
    }

    /// Documents that need one of these keys.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn docs_with<'s>(&self, subjects: impl IntoIterator<Item = &'s Vec<u8>>) -> Result<RoaringBitmap, IndexError> {
        let field = schema().1.subject;
        self.docs_of_terms(field, subjects.into_iter().map(|subject| Term::from_field_bytes(field, subject)))
    }

    /// Documents of a tenant.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn docs_of_tenant(&self, tenant: KeyedId) -> Result<RoaringBitmap, IndexError> {
        let field = schema().1.tenant;
        self.docs_of_terms(field, [Term::from_field_bytes(field, &tenant.0)])
    }

    fn docs_of_terms(&self, field: Field, terms: impl IntoIterator<Item = Term>) -> Result<RoaringBitmap, IndexError> {
        let Some((_, reader)) = &self.words else { return Ok(RoaringBitmap::new()) };
        let inverted = reader.inverted_index(field)?;
        let mut found = RoaringBitmap::new();
        for term in terms {
            found |= docs_of(&inverted, &term)?;
        }
        Ok(found)
    }

    /// The same without some documents: no word that only they had is in it.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn without(&self, docs: &RoaringBitmap) -> Result<Self, IndexError> {
        let is_kept = |doc: &u32| !docs.contains(*doc);
        let kept: Vec<u32> = (0..self.places.len() as u32).filter(is_kept).collect();
        let places: Vec<u32> = kept.iter().map(|doc| self.places[*doc as usize]).collect();
        let Some((segment, _)) = self.words.as_ref().filter(|_| !places.is_empty()) else {
            return Ok(Self { places, words: None, bytes: 0 });
        };
        let mut alive = BitSet::with_max_value(self.places.len() as u32);
        for doc in kept {
            alive.insert(doc);
        }
        let mut bytes = Vec::new();
        write_alive_bitset(&alive, &mut bytes)?;
        let alive = AliveBitSet::open(OwnedBytes::new(bytes));
        let settings = IndexSettings::default();
        let merged = merge_filtered_segments(
            std::slice::from_ref(segment),
            settings,
            vec![Some(alive)],
            RamDirectory::create(),
        )?;
        Self::of(places, &merged)
    }

    /// Its bytes: number of documents (u32) and their places (u32 each), then the parts, each with its length (u64) in front.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn encode(&self) -> Result<Vec<u8>, IndexError> {
        let mut bytes = (self.places.len() as u32).to_le_bytes().to_vec();
        self.places.iter().for_each(|place| bytes.extend_from_slice(&place.to_le_bytes()));
        let Some((segment, _)) = &self.words else { return Ok(bytes) };
        for part in PARTS {
            let file = segment.open_read(part).map_err(|error| IndexError(error.to_string()))?;
            let part = file.read_bytes()?;
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_slice());
        }
        Ok(bytes)
    }

    /// Reads what [`TextIndex::encode`] wrote. Only bytes that are known to be ours may come here: what tantivy makes of others
    /// is its own.
    ///
    /// # Errors
    /// Where they do not read.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let torn = || IndexError("it is cut short".to_owned());
        let (count, mut rest) = bytes.split_first_chunk().ok_or_else(torn)?;
        let count = u32::from_le_bytes(*count) as usize;
        let (placed, behind) = rest.split_at_checked(count.saturating_mul(4)).ok_or_else(torn)?;
        rest = behind;
        let places = placed.as_chunks().0.iter().map(|place| u32::from_le_bytes(*place)).collect();
        if count == 0 {
            return Ok(Self { places, words: None, bytes: 0 });
        }
        let directory = RamDirectory::create();
        let index = Index::create(directory, schema().0, IndexSettings::default())?;
        let segment = index.new_segment().with_max_doc(count as u32);
        for part in PARTS {
            let (length, behind) = rest.split_first_chunk().ok_or_else(torn)?;
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| torn())?;
            let (part_bytes, behind) = behind.split_at_checked(length).ok_or_else(torn)?;
            let mut writer = segment.open_write(part).map_err(|error| IndexError(error.to_string()))?;
            writer.write_all(part_bytes)?;
            writer.terminate()?;
            rest = behind;
        }
        match rest.is_empty() {
            true => Self::open(places, segment),
            false => Err(torn()),
        }
    }
}

fn pre_tokenized(words: BTreeSet<String>) -> PreTokenizedString {
    let token = |(position, text)| Token { position, text, ..Token::default() };
    PreTokenizedString { text: String::new(), tokens: words.into_iter().enumerate().map(token).collect() }
}

fn docs_of(inverted: &InvertedIndexReader, term: &Term) -> Result<RoaringBitmap, IndexError> {
    let mut found = RoaringBitmap::new();
    if let Some(mut postings) = inverted.read_postings(term, IndexRecordOption::Basic)? {
        while postings.doc() != TERMINATED {
            found.insert(postings.doc());
            postings.advance();
        }
    }
    Ok(found)
}

/// Documents with a word that begins so; `None` where too many words do.
fn beginning(inverted: &InvertedIndexReader, prefix: &str) -> Result<Option<RoaringBitmap>, IndexError> {
    let mut terms = inverted.terms().range().ge(prefix.as_bytes()).into_stream()?;
    let (mut found, mut count) = (RoaringBitmap::new(), 0);
    while terms.advance() && terms.key().starts_with(prefix.as_bytes()) {
        count += 1;
        if count > PREFIX_WORDS_MAX {
            return Ok(None);
        }
        let mut postings = inverted.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
        while postings.doc() != TERMINATED {
            found.insert(postings.doc());
            postings.advance();
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tenant(number: u8) -> KeyedId {
        KeyedId([number; 16])
    }

    fn doc(place: u32, of: u8, subject: &str, words: &str) -> Doc {
        let words = words.split(' ').map(str::to_owned).collect();
        Doc { place, tenant: tenant(of), subjects: vec![subject.as_bytes().to_vec()], words }
    }

    fn sample() -> TextIndex {
        let docs = vec![
            doc(3, 1, "ann", "refund order seven"),
            doc(9, 2, "bob", "refund greeting"),
            doc(700, 1, "ann", "order xylophone"),
            doc(65_535, 1, "cid", "refunds order"),
        ];
        TextIndex::build(docs).expect("it indexes")
    }

    fn found(index: &TextIndex, query: &str) -> Vec<u32> {
        let query = TextQuery::parse(query).expect("it reads");
        index.find(&query).expect("it reads").expect("it can tell").into_iter().collect()
    }

    #[test]
    fn it_names_the_entries_that_have_all_words_and_reads_back() {
        let index = sample();
        let again = TextIndex::decode(&index.encode().expect("it encodes")).expect("it reads");
        for index in [&index, &again] {
            assert_eq!(found(index, "refund"), [3, 9]);
            assert_eq!(found(index, "refund order"), [3]);
            assert_eq!(found(index, "refund*"), [3, 9, 65_535]);
            assert_eq!(found(index, "refund* order"), [3, 65_535]);
            assert_eq!(found(index, "absent"), [0u32; 0]);
            assert_eq!(index.subjects().expect("it reads"), [b"ann", b"bob", b"cid"]);
            assert_eq!(index.docs_of_tenant(tenant(2)).expect("it reads").iter().collect::<Vec<_>>(), [1]);
        }
    }

    #[test]
    fn what_is_taken_out_leaves_no_word_behind() {
        let index = sample();
        let (_, Fields { word, subject, .. }) = schema();
        let is_in = |index: &TextIndex, field: Field, term: &str| {
            index.terms(field).expect("it reads").iter().any(|there| there == term.as_bytes())
        };
        assert!(is_in(&index, word, "xylophone") && is_in(&index, subject, "ann"));
        let docs = index.docs_with(&[b"ann".to_vec()]).expect("it reads");
        let left = index.without(&docs).expect("it reads");
        assert_eq!(
            (left.places(), found(&left, "refund"), found(&left, "order")),
            (&[9, 65_535][..], vec![9], vec![65_535])
        );
        for left in [&left, &TextIndex::decode(&left.encode().expect("it encodes")).expect("it reads")] {
            assert!(
                !is_in(left, word, "xylophone") && !is_in(left, word, "seven"),
                "a word that only they had is there"
            );
            assert!(!is_in(left, subject, "ann") && is_in(left, word, "refunds"));
        }
        let rest = left.docs_with(&[b"bob".to_vec(), b"cid".to_vec()]).expect("it reads");
        let none = left.without(&rest).expect("it reads");
        assert!(none.is_empty() && found(&none, "refund").is_empty());
        assert!(TextIndex::decode(&none.encode().expect("it encodes")).expect("it reads").is_empty());
    }

    #[test]
    fn bytes_that_are_cut_are_refused() {
        let bytes = sample().encode().expect("it encodes");
        for at in [0, 3, 8, 20, 40, bytes.len() / 2, bytes.len() - 1] {
            assert!(TextIndex::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
