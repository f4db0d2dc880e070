//! The arguments of one request: spans of the bytes they arrived in.

use std::ops::Index;

/// A piece of a buffer below 4 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

/// The arguments of a request, the command's name first.
#[derive(Clone, Copy)]
pub struct Argv<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Argv<'a> {
    /// Every span must lie within `bytes`; looking at one that does not panics.
    #[inline]
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Argv<'a> {
        Argv { bytes, spans }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`. Unlike indexing, its lifetime is that of the request's bytes.
    ///
    /// # Panics
    /// When there are not so many arguments.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        let Span { start, len } = self.spans[index];
        &self.bytes[start as usize..start as usize + len as usize]
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.spans.len()).then(|| self.arg(index))
    }

    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone + 'a {
        let bytes = self.bytes;
        self.spans
            .iter()
            .map(move |s| &bytes[s.start as usize..s.start as usize + s.len as usize])
    }

    /// The arguments from `index` on.
    pub fn from(&self, index: usize) -> Argv<'a> {
        Argv {
            bytes: self.bytes,
            spans: &self.spans[index.min(self.spans.len())..],
        }
    }

    pub fn to_slices(&self) -> Vec<&'a [u8]> {
        self.iter().collect()
    }

    pub fn to_owned(&self) -> OwnedArgv {
        OwnedArgv::from_args(self.iter())
    }
}

impl Index<usize> for Argv<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.arg(index)
    }
}

/// Arguments that own their bytes: of a queued, posted or inline command.
#[derive(Clone, Default)]
pub struct OwnedArgv {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedArgv {
    pub fn from_args<'a>(args: impl Iterator<Item = &'a [u8]>) -> OwnedArgv {
        let mut owned = OwnedArgv::default();
        args.for_each(|arg| owned.push(arg));
        owned
    }

    /// # Panics
    /// When the arguments together reach 4 GiB, which a request's limits exclude.
    pub fn push(&mut self, arg: &[u8]) {
        let start = u32::try_from(self.bytes.len()).expect("requests are bounded below 4 GiB");
        let len = u32::try_from(arg.len()).expect("requests are bounded below 4 GiB");
        self.bytes.extend_from_slice(arg);
        self.spans.push(Span { start, len });
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    pub fn argv(&self) -> Argv<'_> {
        Argv::new(&self.bytes, &self.spans)
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}
