//! Paths as a tree of segments. Each node may end templates, start a `{*rest}`, and be the root of prefixes.
//!
//! (matchit would do for one route per template, but it refuses two templates of one shape and knows only its best
//! match; here the caller may turn a match down and gets the next best.)
//!
//! A walk visits a node at most twice (for templates, then for prefixes), and only nodes that match the path so far.
//!
//! With ten thousand routes it is not instructions that cost but memory: each request finds its node where no cache has it. So a
//! short segment lies in the map beside its node, a node's first route within the node, all of it on one line of the cache; what is
//! below a node, and the names of captures, which most routes share, lie elsewhere.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use smallvec::SmallVec;

use crate::path::{MAX_CAPTURES, Segment, Template};

#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
    /// Lists of names of captures.
    names: Vec<Names>,
}

type Names = Box<[Box<str>]>;

/// So many of the last lists are looked at for an equal one.
const ALIKE: usize = 8;

/// With the segment that leads to it no longer than a line of the cache.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Node {
    /// `None`: nothing.
    below: Option<Box<Below>>,
    /// Best first.
    leaves: SmallVec<[Leaf; 1]>,
}

#[derive(Debug, Default)]
struct Below {
    /// The empty segment (a trailing slash) is one of them.
    literals: HashMap<Text, Node, BuildHasherDefault<Fnv>>,
    /// Most literal characters first.
    captures: Vec<(Around, Node)>,
}

/// A segment.
type Text = SmallVec<[u8; 16]>;

const _: () = assert!(size_of::<(Text, Node)>() == 64, "a node and its segment are as long as a line of the cache");

/// What ends at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Template,
    /// `{*rest}`
    Rest,
    Prefix,
}

/// `before{}after`.
#[derive(Debug, PartialEq, Eq)]
struct Around {
    before: Box<str>,
    after: Box<str>,
}

/// A route that ends here, with the names it gave to its captures.
#[derive(Debug)]
pub(super) struct Leaf {
    route: u32,
    /// Their place in the tree's list.
    names: u32,
    end: End,
}

/// What a template captured: where in the matched path, by name. Cut out when somebody asks, for few routes do.
#[derive(Debug, Clone, Default)]
pub struct Captured<'r> {
    names: &'r [Box<str>],
    spans: SmallVec<[(u32, u32); 2]>,
}

impl<'r> Captured<'r> {
    /// `spans`: where the values begin and end, in the order of the names.
    pub fn new(names: &'r [Box<str>], spans: impl IntoIterator<Item = (usize, usize)>) -> Self {
        // No path is longer than 4 GiB.
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { names, spans: spans.into_iter().map(|(from, to)| (short(from), short(to))).collect() }
    }

    /// What `name` captured, still percent-encoded. `path`: the one that was matched.
    #[must_use]
    pub fn value<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        self.iter(path).find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Names and what they captured.
    pub fn iter<'a, 'p>(&'a self, path: &'p str) -> impl Iterator<Item = (&'a str, &'p str)> + use<'a, 'p, 'r> {
        let cut = |&(from, to): &(u32, u32)| path.get(from as usize..to as usize).unwrap_or_default();
        self.names.iter().map(|name| &**name).zip(self.spans.iter().map(cut))
    }
}

/// Where captures begin and end in the path, while walking.
#[derive(Debug, Default)]
pub(super) struct Captures {
    spans: [(usize, usize); MAX_CAPTURES],
    len: usize,
}

impl Leaf {
    /// The place of its route.
    pub(super) fn route(&self) -> usize {
        self.route as usize
    }
}

impl Tree {
    /// Routes are inserted best first: a leaf list keeps that order.
    pub(super) fn insert(&mut self, template: &Template, prefix: bool, route: usize) {
        let names = self.place_of(template.names().map(Into::into).collect());
        let mut node = &mut self.root;
        let mut end = if prefix { End::Prefix } else { End::Template };
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.below().literals.entry(text.as_bytes().into()).or_default(),
                Segment::Capture { before, after, .. } => node.below().capture(before, after),
                Segment::Rest { .. } => {
                    end = End::Rest; // Always the last one.
                    break;
                }
            };
        }
        node.leaves.push(Leaf { route: place(route), names, end });
    }

    /// Of a list of names, new or known: neighbours in a document are alike.
    fn place_of(&mut self, names: Names) -> u32 {
        let known = self.names.iter().enumerate().rev().take(ALIKE).find(|(_, known)| **known == names);
        let at = known.map(|(at, _)| at).unwrap_or_else(|| {
            self.names.push(names);
            self.names.len() - 1
        });
        place(at)
    }

    /// What a leaf of this tree calls its captures.
    pub(super) fn names(&self, leaf: &Leaf) -> &[Box<str>] {
        &self.names[leaf.names as usize]
    }

    /// The best leaf that `accept`s.
    pub(super) fn find<'t>(
        &'t self,
        path: &str,
        captures: &mut Captures,
        accept: &mut dyn FnMut(&Leaf) -> bool,
    ) -> Option<&'t Leaf> {
        let mut walk = Walk { path, captures, accept };
        if !path.starts_with('/') {
            // `OPTIONS *` and CONNECT have no path; only routes for everything take them.
            return walk.first(&self.root, End::Prefix);
        }
        walk.template(&self.root, 0).or_else(|| walk.prefix(&self.root, 0))
    }
}

struct Walk<'w> {
    path: &'w str,
    captures: &'w mut Captures,
    accept: &'w mut dyn FnMut(&Leaf) -> bool,
}

impl Walk<'_> {
    /// Templates that match the whole of what is left at `at`, which is at a slash or at the end.
    fn template<'t>(&mut self, node: &'t Node, at: usize) -> Option<&'t Leaf> {
        if at == self.path.len() {
            return self.first(node, End::Template);
        }
        self.children(node, at, Self::template)
    }

    /// `{*rest}` and prefixes, the deepest first.
    fn prefix<'t>(&mut self, node: &'t Node, at: usize) -> Option<&'t Leaf> {
        if at < self.path.len() {
            let below = self.children(node, at, Self::prefix);
            if below.is_some() {
                return below;
            }
            let (start, _) = self.cut(at);
            if start < self.path.len() && node.leaves.iter().any(|leaf| leaf.end == End::Rest) {
                let rest = self.capturing((start, self.path.len()), |walk| walk.first(node, End::Rest));
                if rest.is_some() {
                    return rest;
                }
            }
        }
        self.first(node, End::Prefix)
    }

    fn children<'t>(
        &mut self,
        node: &'t Node,
        at: usize,
        visit: fn(&mut Self, &'t Node, usize) -> Option<&'t Leaf>,
    ) -> Option<&'t Leaf> {
        let below = node.below.as_deref()?;
        let (start, end) = self.cut(at);
        let segment = &self.path[start..end];
        if let Some(found) = below.literals.get(segment.as_bytes()).and_then(|child| visit(self, child, end)) {
            return Some(found);
        }
        below.captures.iter().find_map(|(around, child)| {
            let (from, to) = around.inner(segment)?;
            self.capturing((start + from, start + to), |walk| visit(walk, child, end))
        })
    }

    /// The segment after the slash (or slashes) at `at`; empty only at the end of the path.
    fn cut(&self, at: usize) -> (usize, usize) {
        let bytes = self.path.as_bytes();
        let slashes = bytes[at..].iter().take_while(|&&b| b == b'/').count();
        let start = at + slashes;
        let length = bytes[start..].iter().position(|&b| b == b'/').unwrap_or(bytes.len() - start);
        (start, start + length)
    }

    fn first<'t>(&mut self, node: &'t Node, end: End) -> Option<&'t Leaf> {
        node.leaves.iter().find(|leaf| leaf.end == end && (self.accept)(leaf))
    }

    /// Keeps the capture when `then` finds something.
    fn capturing<'t>(
        &mut self,
        span: (usize, usize),
        then: impl FnOnce(&mut Self) -> Option<&'t Leaf>,
    ) -> Option<&'t Leaf> {
        let slot = self.captures.len;
        *self.captures.spans.get_mut(slot)? = span;
        self.captures.len += 1;
        let found = then(self);
        if found.is_none() {
            self.captures.len = slot;
        }
        found
    }
}

impl Captures {
    pub(super) fn of<'r>(&self, names: &'r [Box<str>]) -> Captured<'r> {
        Captured::new(names, self.spans[..self.len].iter().copied())
    }
}

impl Node {
    fn below(&mut self) -> &mut Below {
        self.below.get_or_insert_default()
    }
}

impl Below {
    fn capture(&mut self, before: &str, after: &str) -> &mut Node {
        let around = Around { before: before.into(), after: after.into() };
        let at = match self.captures.iter().position(|(known, _)| *known == around) {
            Some(at) => at,
            None => {
                let at = self.captures.partition_point(|(known, _)| known.literal() >= around.literal());
                self.captures.insert(at, (around, Node::default()));
                at
            }
        };
        &mut self.captures[at].1
    }
}

impl Around {
    fn literal(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// What `{}` stands for in `segment`, at least one character.
    fn inner(&self, segment: &str) -> Option<(usize, usize)> {
        let inner = segment.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        (!inner.is_empty()).then(|| (self.before.len(), self.before.len() + inner.len()))
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("no document has four billion routes")
}

/// FNV-1a: segments are short, and clients cannot insert, so a keyed hash would buy nothing.
#[derive(Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The length that goes before a slice: in one step instead of eight.
    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
