//! A list of names and values in one buffer.
#![forbid(unsafe_code)]

/// Names and values, packed into one byte buffer that keeps its capacity when cleared: filling it
/// again for the next request allocates nothing once it has grown. Order and duplicates are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    bytes: Vec<u8>,
    ends: Vec<End>,
}

/// Where one field's name and value end in the buffer; it begins where the one before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    name: usize,
    value: usize,
}

impl Fields {
    /// Without any, with room for so many that have so many bytes together.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(fields) }
    }

    /// Adds a field after all others.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push(End { name, value: self.bytes.len() });
    }

    /// All fields, in the order they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let field = (&self.bytes[start..end.name], &self.bytes[end.name..end.value]);
            start = end.value;
            field
        })
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Fields;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_pushed_comes_back_in_order(
            fields in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..20)
        ) {
            let mut packed = Fields::default();
            packed.push(b"an earlier", b"request");
            packed.clear();
            for (name, value) in &fields {
                packed.push(name, value);
            }
            let back: Vec<_> = packed.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(back, fields);
        }
    }
}
