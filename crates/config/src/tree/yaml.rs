//! YAML 1.2 (and `<<`) into a tree. The events come from serde-saphyr's parser; the bounds are ours.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{Key, MAX_DEPTH, MAX_NODES, Mark, Node, Unreadable, Value};

pub(super) fn read(text: &str, file: u32) -> Result<Node, Unreadable> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    Reader { parser, file, nodes: 0, anchors: HashMap::new() }.document()
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    file: u32,
    /// Made so far, copies for aliases included.
    nodes: usize,
    anchors: HashMap<usize, Node>,
}

impl<'t> Reader<'t> {
    fn document(mut self) -> Result<Node, Unreadable> {
        let mut root = None;
        loop {
            let (event, mark) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    return Err(Unreadable::new(mark, "one document per file: a second one starts here"));
                }
                event => root = Some(self.node(event, mark, 0)?),
            }
        }
        Ok(root.unwrap_or(Node { mark: Mark { file: self.file, line: 1, column: 1 }, value: Value::Null }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Mark), Unreadable> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, Mark::default())),
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, self.mark(span))),
                Some(Err(error)) => {
                    let at = error.marker();
                    let unreadable =
                        Unreadable::new(self.at(at.line(), at.col()), format!("not valid YAML: {}", error.info()));
                    return Err(unreadable.hinted(hint(&error.info())));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, mark: Mark, depth: usize) -> Result<Node, Unreadable> {
        self.count(1, mark)?;
        if depth > MAX_DEPTH {
            return Err(Unreadable::new(mark, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(text.into_owned(), style == ScalarStyle::Plain, tag.as_deref(), mark)?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                (self.map(depth)?, anchor)
            }
            Event::Alias(id) => return self.alias(id, mark),
            _ => return Err(Unreadable::new(mark, "not valid YAML here")),
        };
        let node = Node { mark, value };
        if anchor > 0 {
            self.count(size(&node), mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, mark) => items.push(self.node(event, mark, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut entries = Entries::default();
        let mut merged = Vec::new();
        loop {
            let (key, key_mark) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, mark) => (self.node(event, mark, depth + 1)?, mark),
            };
            let (event, mark) = self.next()?;
            let node = self.node(event, mark, depth + 1)?;
            match key.value {
                Value::Scalar { text, plain: true } if text == "<<" => merged.push(node),
                Value::Scalar { text, .. } => entries.add(Key { mark: key_mark, text }, node)?,
                Value::Null | Value::List(_) | Value::Map(_) => {
                    return Err(Unreadable::new(key_mark, "a key is a plain text"));
                }
            }
        }
        for node in merged {
            entries.merge(node)?;
        }
        Ok(Value::Map(entries.list))
    }

    /// A copy, with the alias's own line at its top.
    fn alias(&mut self, id: usize, mark: Mark) -> Result<Node, Unreadable> {
        let Some(target) = self.anchors.get(&id) else {
            return Err(Unreadable::new(mark, "this alias stands inside its own anchor, or its anchor is unknown"));
        };
        let value = target.value.clone();
        let node = Node { mark, value };
        self.count(size(&node), mark)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, mark: Mark) -> Result<(), Unreadable> {
        self.nodes += more;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Unreadable::new(mark, format!("more than {MAX_NODES} values, aliases expanded")))
    }

    fn mark(&self, span: Span) -> Mark {
        self.at(span.start.line(), span.start.col())
    }

    fn at(&self, line: usize, column: usize) -> Mark {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Mark { file: self.file, line: count(line), column: count(column + 1) }
    }
}

/// The entries of one map. Small maps are searched, large ones indexed.
#[derive(Default)]
struct Entries {
    list: Vec<(Key, Node)>,
    index: HashMap<String, usize>,
}

impl Entries {
    const SMALL: usize = 16;

    fn find(&self, name: &str) -> Option<usize> {
        if self.list.len() <= Self::SMALL {
            return self.list.iter().position(|(key, _)| key.text == name);
        }
        self.index.get(name).copied()
    }

    fn push(&mut self, key: Key, node: Node) {
        if self.list.len() == Self::SMALL {
            self.index = self.list.iter().enumerate().map(|(at, (key, _))| (key.text.clone(), at)).collect();
        }
        if self.list.len() >= Self::SMALL {
            self.index.insert(key.text.clone(), self.list.len());
        }
        self.list.push((key, node));
    }

    fn add(&mut self, key: Key, node: Node) -> Result<(), Unreadable> {
        if let Some(first) = self.find(&key.text) {
            let line = self.list[first].0.mark.line;
            let reason = format!("`{}` is already set on line {line}", key.text);
            return Err(Unreadable::new(key.mark, reason));
        }
        self.push(key, node);
        Ok(())
    }

    /// `<<: *base` and `<<: [*one, *two]`: what is not set yet.
    fn merge(&mut self, node: Node) -> Result<(), Unreadable> {
        let mark = node.mark;
        match node.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    if self.find(&key.text).is_none() {
                        self.push(key, node);
                    }
                }
                Ok(())
            }
            Value::List(items) => items.into_iter().try_for_each(|item| match &item.value {
                Value::Map(_) => self.merge(item),
                _ => Err(Unreadable::new(item.mark, "`<<` merges maps")),
            }),
            Value::Null | Value::Scalar { .. } => Err(Unreadable::new(mark, "`<<` merges maps")),
        }
    }
}

fn scalar(text: String, plain: bool, tag: Option<&Tag>, mark: Mark) -> Result<Value, Unreadable> {
    let forced = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    check_tag(tag, mark)?;
    let plain = plain && !forced;
    if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    Ok(Value::Scalar { text, plain })
}

fn check_tag(tag: Option<&Tag>, mark: Mark) -> Result<(), Unreadable> {
    match tag {
        Some(tag) if tag.is_custom() => Err(Unreadable::new(mark, "tags have no meaning here")),
        _ => Ok(()),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(node)).sum(),
    }
}

/// The mistake people make with path templates.
fn hint(info: &str) -> Option<&'static str> {
    let flow = info.contains("flow mapping") || info.contains("flow sequence");
    flow.then_some("inside { } and [ ], quote a value that holds one of { } [ ] , : `path: \"/v1/users/{id}\"`")
}
