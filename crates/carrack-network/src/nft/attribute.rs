//! Attributes of nfnetlink: type, length, value, padded to four bytes; numbers in network byte order.

const NESTED: u16 = 0x8000;
const HEADER_LEN: usize = 4;

/// A list of attributes being built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub fn new() -> Self {
        Self::default()
    }

    /// A value as it is.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// A string with its terminating zero.
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// A number.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A time in milliseconds.
    pub fn milliseconds(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A list as a value.
    pub fn nest(self, kind: u16, value: Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }

    /// A list of lists, all of one kind.
    pub fn list(self, kind: u16, item_kind: u16, items: impl IntoIterator<Item = Self>) -> Self {
        self.nest(kind, items.into_iter().fold(Self::new(), |list, item| list.nest(item_kind, item)))
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        // Values are names, numbers and chunks of elements whose count `PortMaps` bounds: below 64 KiB.
        let length = (HEADER_LEN + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The message of a netfilter family: `struct nfgenmsg`, then the attributes.
    pub fn into_message(self, family: u8, resource: u16) -> Vec<u8> {
        const VERSION: u8 = 0;
        let [high, low] = resource.to_be_bytes();
        let mut message = vec![family, VERSION, high, low];
        message.extend_from_slice(&self.0);
        message
    }
}
