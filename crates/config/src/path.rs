//! Where in a document something is: `routes[2].to[0].upstream`. Lives on the stack while a document is walked.

use std::fmt;

#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    pub(crate) const fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    pub(crate) const fn item(&'a self, index: usize) -> Path<'a> {
        Path::Item(self, index)
    }

    pub(crate) fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let mut at = *self;
        loop {
            at = match at {
                Path::Root => break,
                Path::Field(parent, name) => {
                    steps.push(Step::Field(name));
                    *parent
                }
                Path::Item(parent, index) => {
                    steps.push(Step::Item(index));
                    *parent
                }
            };
        }
        steps.reverse();
        steps
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.steps()))
    }
}

pub(crate) fn render(steps: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Item(index) => text.push_str(&format!("[{index}]")),
            Step::Field(name) if name.is_empty() || name.contains(['.', '[', ']', '"', ' ']) => {
                text.push_str(&format!("[{name:?}]"));
            }
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
        }
    }
    text
}
