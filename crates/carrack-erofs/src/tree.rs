//! The names of an index in memory, as compact as can be: 32 bytes an entry, and the name.
//!
//! Invariant: a live node's parent is a live folder; an inode lives as long as it has a name. What an inode is beside
//! its kind lies elsewhere ([`Records`](crate::Records)); here is only the number of its record.

use crate::table::Table;
use crate::{Error, Kind, Result};

const NONE: u32 = u32::MAX;
const KIND_SHIFT: u32 = 29;
/// For folders the first node in it, for others the number of names; `LINKS` itself is no node.
const LINKS: u32 = (1 << KIND_SHIFT) - 1;

/// A name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(u32);

/// What one or several names stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InodeId(u32);

impl InodeId {
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How large a tree may become. With the default it takes at most about 56 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most names and the most inodes, those that were replaced included.
    pub entries: u32,
    /// The most bytes of names.
    pub name_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 1 << 20, name_bytes: 20 << 20 }
    }
}

struct Node {
    parent: u32,
    /// In `names`: one byte for the length, and the name.
    name: u32,
    /// The next node of the same folder.
    next: u32,
    /// `NONE`: the name is not there any more; it may come back.
    inode: u32,
}

struct Inode {
    record: u32,
    /// Kind in the top 3 bits; see `LINKS`.
    links: u32,
}

/// Folders, names in them, and inodes.
pub struct Tree {
    nodes: Vec<Node>,
    inodes: Vec<Inode>,
    names: Vec<u8>,
    table: Table,
    limits: Limits,
}

impl Tree {
    /// A tree with a root folder, whose record is `root`.
    pub fn new(limits: Limits, root: u32) -> Self {
        let nodes = vec![Node { parent: 0, name: 0, next: NONE, inode: 0 }];
        let inodes = vec![Inode { record: root, links: Kind::Folder.code() << KIND_SHIFT | LINKS }];
        Self { nodes, inodes, names: vec![0], table: Table::new(), limits }
    }

    /// The root folder.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// What has this name in a folder.
    pub fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        let found = self.find(self.table.hash(folder.0, name), folder, name)?;
        (self.node(found).inode != NONE).then_some(found)
    }

    /// The folder that a node is in; the root's is the root.
    pub fn parent(&self, node: NodeId) -> NodeId {
        NodeId(self.node(node).parent)
    }

    /// The name of a node.
    pub fn name(&self, node: NodeId) -> &[u8] {
        let start = self.node(node).name as usize;
        &self.names[start + 1..start + 1 + usize::from(self.names[start])]
    }

    /// What a live node stands for.
    pub fn inode(&self, node: NodeId) -> InodeId {
        InodeId(self.node(node).inode)
    }

    /// What kind an inode is.
    pub fn kind(&self, inode: InodeId) -> Kind {
        Kind::from_code(self.inodes[inode.index()].links >> KIND_SHIFT).unwrap_or(Kind::File)
    }

    /// The number of the record of an inode.
    pub fn record(&self, inode: InodeId) -> u32 {
        self.inodes[inode.index()].record
    }

    /// Gives an inode another record.
    pub fn set_record(&mut self, inode: InodeId, record: u32) {
        self.inodes[inode.index()].record = record;
    }

    /// How many names something that is no folder has.
    pub fn links(&self, inode: InodeId) -> u32 {
        self.inodes[inode.index()].links & LINKS
    }

    /// How many folders that are there have a record like this.
    pub fn folders_with(&self, is_like_this: impl Fn(u32) -> bool) -> u64 {
        let inodes = self.nodes.iter().filter(|node| node.inode != NONE).map(|node| InodeId(node.inode));
        let folders = inodes.filter(|inode| self.kind(*inode) == Kind::Folder);
        folders.filter(|folder| is_like_this(self.record(*folder))).count() as u64
    }

    /// How many inodes were ever made.
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// An inode without a name.
    pub fn add_inode(&mut self, kind: Kind, record: u32) -> Result<InodeId> {
        let number = self.next_number(self.inodes.len())?;
        let links = if kind == Kind::Folder { LINKS } else { 0 };
        self.inodes.push(Inode { record, links: kind.code() << KIND_SHIFT | links });
        Ok(InodeId(number))
    }

    /// Gives an inode a name in a folder. What had the name loses it; a folder is lost with all below it.
    pub fn put(&mut self, folder: NodeId, name: &[u8], inode: InodeId) -> Result<NodeId> {
        let hash = self.table.hash(folder.0, name);
        let node = match self.find(hash, folder, name) {
            Some(node) if self.node(node).inode == inode.0 => return Ok(node),
            Some(node) => {
                self.remove(node);
                node
            }
            None => self.add_node(hash, folder, name)?,
        };
        self.nodes[node.0 as usize].inode = inode.0;
        if self.kind(inode) != Kind::Folder {
            self.inodes[inode.index()].links += 1;
        }
        Ok(node)
    }

    /// Takes a name away; a folder goes with all below it.
    pub fn remove(&mut self, node: NodeId) {
        if self.node(node).inode == NONE {
            return;
        }
        if self.kind(self.inode(node)) == Kind::Folder {
            self.clear(node);
        }
        self.lose_inode(node);
    }

    /// Removes all that is in a folder.
    pub fn clear(&mut self, top: NodeId) {
        let mut folders = vec![top];
        while let Some(folder) = folders.pop() {
            let mut next = self.first_child(folder);
            self.set_first_child(folder, None);
            while let Some(node) = next {
                let hash = self.hash_of(&self.table, node.0);
                let Self { nodes, names, table, .. } = self;
                table.remove(hash, node.0, |table, node| hash_of(table, nodes, names, node));
                if self.node(node).inode != NONE {
                    match self.kind(self.inode(node)) {
                        Kind::Folder => folders.push(node),
                        _ => self.lose_inode(node),
                    }
                }
                next = self.next_sibling(node);
            }
            if folder != top {
                self.lose_inode(folder);
            }
        }
    }

    fn lose_inode(&mut self, node: NodeId) {
        let inode = self.inode(node);
        if self.kind(inode) != Kind::Folder {
            self.inodes[inode.index()].links -= 1;
        }
        self.nodes[node.0 as usize].inode = NONE;
    }

    /// Orders every folder by name, and gives up the means to find or change names.
    pub(crate) fn sorted(mut self) -> Self {
        self.table = Table::new();
        let mut children = Vec::new();
        for folder in (0..self.nodes.len()).map(|index| NodeId(u32::try_from(index).unwrap_or(NONE))) {
            let inode = self.node(folder).inode;
            if inode == NONE || self.kind(InodeId(inode)) != Kind::Folder {
                continue;
            }
            children.clear();
            let mut next = self.first_child(folder);
            while let Some(node) = next {
                if self.node(node).inode != NONE {
                    children.push(node);
                }
                next = self.next_sibling(node);
            }
            children.sort_unstable_by(|left, right| self.name(*left).cmp(self.name(*right)));
            self.link(folder, &children);
        }
        self
    }

    fn link(&mut self, folder: NodeId, children: &[NodeId]) {
        let mut next = None;
        for node in children.iter().rev() {
            self.nodes[node.0 as usize].next = next.map_or(NONE, |next: NodeId| next.0);
            next = Some(*node);
        }
        self.set_first_child(folder, next);
    }

    pub(crate) fn first_child(&self, folder: NodeId) -> Option<NodeId> {
        let first = self.inodes[self.inode(folder).index()].links & LINKS;
        (first != LINKS).then_some(NodeId(first))
    }

    pub(crate) fn next_sibling(&self, node: NodeId) -> Option<NodeId> {
        let next = self.node(node).next;
        (next != NONE).then_some(NodeId(next))
    }

    fn set_first_child(&mut self, folder: NodeId, child: Option<NodeId>) {
        let links = &mut self.inodes[self.nodes[folder.0 as usize].inode as usize].links;
        *links = *links & !LINKS | child.map_or(LINKS, |child| child.0);
    }

    fn add_node(&mut self, hash: u64, folder: NodeId, name: &[u8]) -> Result<NodeId> {
        let number = self.next_number(self.nodes.len())?;
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or_else(|| Error::Unsupported {
            reason: format!("a name of {} bytes: too long, the longest has 255", name.len()),
        })?;
        let start = u32::try_from(self.names.len()).unwrap_or(NONE);
        if start.saturating_add(u32::from(length)) >= self.limits.name_bytes {
            return Err(Error::TooLarge { what: "bytes of names", limit: self.limits.name_bytes.into() });
        }
        self.names.push(length);
        self.names.extend_from_slice(name);
        let next = self.first_child(folder).map_or(NONE, |first| first.0);
        self.nodes.push(Node { parent: folder.0, name: start, next, inode: NONE });
        self.set_first_child(folder, Some(NodeId(number)));
        let Self { nodes, names, table, .. } = self;
        table.insert(hash, number, |table, node| hash_of(table, nodes, names, node));
        Ok(NodeId(number))
    }

    fn next_number(&self, count: usize) -> Result<u32> {
        let limit = self.limits.entries.min(LINKS);
        let number = u32::try_from(count).ok().filter(|number| *number < limit);
        number.ok_or(Error::TooLarge { what: "entries", limit: limit.into() })
    }

    fn find(&self, hash: u64, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        let is_right = |node| self.node(NodeId(node)).parent == folder.0 && self.name(NodeId(node)) == name;
        self.table.find(hash, is_right).map(NodeId)
    }

    fn hash_of(&self, table: &Table, node: u32) -> u64 {
        hash_of(table, &self.nodes, &self.names, node)
    }

    fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }
}

fn hash_of(table: &Table, nodes: &[Node], names: &[u8], node: u32) -> u64 {
    let node = &nodes[node as usize];
    let start = node.name as usize;
    table.hash(node.parent, &names[start + 1..start + 1 + usize::from(names[start])])
}
