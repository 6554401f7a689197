//! Sorted sets of small records: compact, and copied and compared at the cost of what differs.
//!
//! The records are stored as bytes, a few hundred in a chunk, and copies share their chunks. So a group of 100,000
//! addresses takes half a megabyte, one address more copies one chunk, and two versions are compared by looking at the
//! chunks that they do not share.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Records that a chunk is filled with when a set is built, and that it holds at most.
const FILL: usize = 256;
const MOST: usize = 512;
/// Below this many records a chunk is joined with its neighbour.
const LEAST: usize = 64;
/// Longest record in bytes.
const LONGEST: usize = 64;

/// What can be stored: something that a few bytes say completely.
pub trait Record: Copy {
    /// The record as bytes.
    fn encode(&self) -> Encoded;

    /// The record that [`Record::encode`] gave these bytes for; None for any others.
    fn decode(shape: u8, bytes: &[u8]) -> Option<Self>;
}

/// A record as bytes, ordered by shape, length and bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encoded {
    shape: u8,
    len: u8,
    bytes: [u8; LONGEST],
}

/// A sorted set.
pub struct Sorted<T> {
    chunks: Arc<Vec<Arc<Chunk>>>,
    len: usize,
    of: PhantomData<fn() -> T>,
}

/// Records of one shape and length; never empty.
#[derive(Clone, PartialEq, Eq)]
struct Chunk {
    shape: u8,
    width: u8,
    bytes: Vec<u8>,
}

impl Encoded {
    /// A record of this shape with these bytes, of which the first 64 count.
    pub fn new(shape: u8, parts: &[&[u8]]) -> Self {
        let mut encoded = Self { shape, len: 0, bytes: [0; LONGEST] };
        for byte in parts.iter().copied().flatten().take(LONGEST) {
            if let Some(place) = encoded.bytes.get_mut(usize::from(encoded.len)) {
                *place = *byte;
                encoded.len += 1;
            }
        }
        encoded
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl Chunk {
    fn of(record: &Encoded) -> Self {
        let mut chunk = Self { shape: record.shape, width: record.len, bytes: Vec::new() };
        chunk.insert(0, record);
        chunk
    }

    /// Bytes that a record takes: one at least, so that records without bytes can be counted.
    fn stride(&self) -> usize {
        usize::from(self.width).max(1)
    }

    fn len(&self) -> usize {
        self.bytes.len() / self.stride()
    }

    fn holds(&self, record: &Encoded) -> bool {
        (self.shape, self.width) == (record.shape, record.len)
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_mul(self.stride())?;
        self.bytes.get(start..start + usize::from(self.width))
    }

    fn compare(&self, index: usize, record: &Encoded) -> Ordering {
        let bytes = self.get(index).unwrap_or(&[]);
        (self.shape, self.width, bytes).cmp(&(record.shape, record.len, record.as_bytes()))
    }

    /// Where the record is, or would be.
    fn find(&self, record: &Encoded) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.compare(middle, record) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    fn insert(&mut self, index: usize, record: &Encoded) {
        let at = (index * self.stride()).min(self.bytes.len());
        let stride = self.stride();
        self.bytes.splice(at..at, record.bytes.iter().copied().take(stride));
    }

    fn remove(&mut self, index: usize) {
        let at = index * self.stride();
        let end = (at + self.stride()).min(self.bytes.len());
        self.bytes.drain(at.min(end)..end);
    }

    fn same_shape(&self, other: &Self) -> bool {
        (self.shape, self.width) == (other.shape, other.width)
    }
}

impl<T> Sorted<T> {
    /// How many records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True where both are the same set in memory: a copy that neither was changed since.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// The records in parts of at most `most` (of a few hundred at least), sharing the chunks.
    pub fn pieces(&self, most: usize) -> Vec<Self> {
        let mut pieces: Vec<Self> = Vec::new();
        for chunk in self.chunks.iter() {
            match pieces.last_mut() {
                Some(piece) if piece.len + chunk.len() <= most => {
                    Arc::make_mut(&mut piece.chunks).push(chunk.clone());
                    piece.len += chunk.len();
                }
                _ => {
                    let chunks = Arc::new(vec![chunk.clone()]);
                    pieces.push(Self { chunks, len: chunk.len(), of: PhantomData });
                }
            }
        }
        pieces
    }
}

impl<T: Record> Sorted<T> {
    /// Every record, in order of shape, length and bytes.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.chunks
            .iter()
            .flat_map(|chunk| (0..chunk.len()).filter_map(|index| T::decode(chunk.shape, chunk.get(index)?)))
    }

    /// True where the record is there.
    pub fn contains(&self, record: &T) -> bool {
        let record = record.encode();
        self.chunk_for(&record).is_some_and(|(_, chunk)| chunk.find(&record).is_ok())
    }

    /// The last record that is not behind this one.
    pub fn floor(&self, record: &T) -> Option<T> {
        let record = record.encode();
        let (_, chunk) = self.chunk_for(&record)?;
        let index = match chunk.find(&record) {
            Ok(index) => index,
            Err(index) => index.checked_sub(1)?,
        };
        T::decode(chunk.shape, chunk.get(index)?)
    }

    /// Adds a record; false where it was there.
    pub fn insert(&mut self, record: T) -> bool {
        let record = record.encode();
        let at = self.chunk_for(&record).map(|(index, _)| index);
        // The chunk that begins before the record, or the one that begins after it.
        let fits = |index: &usize| self.chunks.get(*index).is_some_and(|chunk| chunk.holds(&record));
        let next = at.map_or(0, |index| index + 1);
        let place = at.filter(fits).or_else(|| Some(next).filter(fits));
        let Some(index) = place else {
            Arc::make_mut(&mut self.chunks).insert(next, Arc::new(Chunk::of(&record)));
            self.len += 1;
            return true;
        };
        let Some(Err(position)) = self.chunks.get(index).map(|chunk| chunk.find(&record)) else {
            return false;
        };
        let chunks = Arc::make_mut(&mut self.chunks);
        if let Some(chunk) = chunks.get_mut(index).map(Arc::make_mut) {
            chunk.insert(position, &record);
            if chunk.len() > MOST {
                let half = chunk.len() / 2 * chunk.stride();
                let (shape, width) = (chunk.shape, chunk.width);
                let bytes = chunk.bytes.split_off(half);
                chunks.insert(index + 1, Arc::new(Chunk { shape, width, bytes }));
            }
        }
        self.len += 1;
        true
    }

    /// Takes a record out; false where it was not there.
    pub fn remove(&mut self, record: &T) -> bool {
        let record = record.encode();
        let found = self.chunk_for(&record).and_then(|(i, chunk)| Some((i, chunk.find(&record).ok()?)));
        let Some((index, position)) = found else { return false };
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(index).map(Arc::make_mut) else { return false };
        chunk.remove(position);
        self.len -= 1;
        if chunk.len() == 0 {
            chunks.remove(index);
        } else if chunk.len() < LEAST {
            join(chunks, index);
        }
        true
    }

    /// Keeps the records for which this holds.
    pub fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        *self = self.iter().filter(|record| keeps(record)).collect();
    }

    /// The records of this set that the other has not, looking only at chunks that they do not share.
    pub fn minus(&self, other: &Self) -> Self {
        let (mut mine, mut theirs) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        let mut left = Builder::default();
        while let Some((chunk, record)) = mine.record() {
            match theirs.record() {
                Some((other, _)) if mine.at_start() && theirs.at_start() && Arc::ptr_eq(chunk, other) => {
                    mine.skip_chunk();
                    theirs.skip_chunk();
                }
                Some((other, wanted)) => {
                    match (chunk.shape, chunk.width, record).cmp(&(other.shape, other.width, wanted)) {
                        Ordering::Less => {
                            left.push(chunk.shape, record);
                            mine.next();
                        }
                        Ordering::Equal => {
                            mine.next();
                            theirs.next();
                        }
                        Ordering::Greater => theirs.next(),
                    }
                }
                None => {
                    left.push(chunk.shape, record);
                    mine.next();
                }
            }
        }
        left.finish()
    }

    /// The last chunk that begins at or before the record.
    fn chunk_for(&self, record: &Encoded) -> Option<(usize, &Chunk)> {
        let after = self.chunks.partition_point(|chunk| chunk.compare(0, record) != Ordering::Greater);
        let index = after.checked_sub(1)?;
        Some((index, self.chunks.get(index)?))
    }
}

/// Joins a small chunk with the one behind it, where they are alike.
fn join(chunks: &mut Vec<Arc<Chunk>>, index: usize) {
    let (Some(small), Some(next)) = (chunks.get(index), chunks.get(index + 1)) else { return };
    if small.same_shape(next) && small.len() + next.len() <= FILL {
        let next = chunks.remove(index + 1);
        if let Some(chunk) = chunks.get_mut(index).map(Arc::make_mut) {
            chunk.bytes.extend_from_slice(&next.bytes);
        }
    }
}

/// A place among the records of chunks.
struct Cursor<'a> {
    chunks: &'a [Arc<Chunk>],
    chunk: usize,
    index: usize,
}

impl<'a> Cursor<'a> {
    fn new(chunks: &'a [Arc<Chunk>]) -> Self {
        Self { chunks, chunk: 0, index: 0 }
    }

    fn record(&self) -> Option<(&'a Arc<Chunk>, &'a [u8])> {
        let chunk = self.chunks.get(self.chunk)?;
        Some((chunk, chunk.get(self.index)?))
    }

    fn at_start(&self) -> bool {
        self.index == 0
    }

    fn next(&mut self) {
        self.index += 1;
        if self.chunks.get(self.chunk).is_none_or(|chunk| self.index >= chunk.len()) {
            self.skip_chunk();
        }
    }

    fn skip_chunk(&mut self) {
        self.chunk += 1;
        self.index = 0;
    }
}

/// Puts records together that come in order and only once.
#[derive(Default)]
struct Builder {
    chunks: Vec<Arc<Chunk>>,
    open: Option<Chunk>,
    len: usize,
}

impl Builder {
    fn push(&mut self, shape: u8, record: &[u8]) {
        let width = u8::try_from(record.len()).unwrap_or(u8::MAX);
        let fits = |c: &Chunk| (c.shape, c.width) == (shape, width) && c.len() < FILL;
        if !self.open.as_ref().is_some_and(fits) {
            self.close();
        }
        let chunk = self.open.get_or_insert_with(|| Chunk { shape, width, bytes: Vec::new() });
        chunk.bytes.extend_from_slice(record);
        if record.is_empty() {
            chunk.bytes.push(0);
        }
        self.len += 1;
    }

    fn close(&mut self) {
        if let Some(mut chunk) = self.open.take() {
            chunk.bytes.shrink_to_fit();
            self.chunks.push(Arc::new(chunk));
        }
    }

    fn finish<T>(mut self) -> Sorted<T> {
        self.close();
        Sorted { chunks: Arc::new(self.chunks), len: self.len, of: PhantomData }
    }
}

impl<T: Record> FromIterator<T> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Self {
        // Flat bytes by shape and length, so that what is built passes through little memory.
        let mut flat: BTreeMap<(u8, u8), Vec<u8>> = BTreeMap::new();
        for record in records {
            let record = record.encode();
            let width = usize::from(record.len).max(1);
            let bytes = record.bytes.get(..width).unwrap_or(&[]);
            flat.entry((record.shape, record.len)).or_default().extend_from_slice(bytes);
        }
        let mut builder = Builder::default();
        for ((shape, width), bytes) in flat {
            let mut records: Vec<&[u8]> = bytes.chunks_exact(usize::from(width).max(1)).collect();
            if !records.is_sorted() {
                records.sort_unstable();
            }
            records.dedup();
            for record in records {
                builder.push(shape, record.get(..usize::from(width)).unwrap_or(record));
            }
        }
        builder.finish()
    }
}

impl<T: Record> From<BTreeSet<T>> for Sorted<T> {
    fn from(records: BTreeSet<T>) -> Self {
        records.into_iter().collect()
    }
}

impl<T: Record, const N: usize> From<[T; N]> for Sorted<T> {
    fn from(records: [T; N]) -> Self {
        records.into_iter().collect()
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len, of: PhantomData }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0, of: PhantomData }
    }
}

impl<T: Record> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_copy_of(other) || self.len == other.len && self.minus(other).is_empty()
    }
}

impl<T: Record> Eq for Sorted<T> {}

impl<T: Record + fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
