//! Conditions that documents write about calls, in CEL (cel-spec): parsed when the document is compiled, asked by each call.
//!
//! The only place that names the `cel` crate. What runs is bounded by what may be written: so many bytes, no list within
//! a list to walk, and facts whose sizes callers bound. An expression that fails does not hold.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, Program, Value};

/// Of an expression.
const LONGEST: usize = 1_024;
/// What parser and interpreter do for them, they do within themselves: their stack is as deep.
const DEEPEST: usize = 24;
const MOST_OPERATORS: usize = 100;
/// The parser needs up to 100 KB for one pair of brackets. Only what is used is ever there.
const STACK: usize = 64 << 20;

/// What expressions may name.
pub const NAMES: [&str; 8] = ["model", "caller", "headers", "prompt", "tags", "stream", "max_tokens", "user"];

pub struct Condition {
    text: Box<str>,
    program: Program,
}

/// What is true of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Null,
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(String),
    List(Vec<Fact>),
    Map(Vec<(String, Fact)>),
}

/// The facts of one call, for all its conditions.
pub struct Scene(Context<'static, 'static>);

impl Condition {
    /// # Errors
    /// It is no expression, or one that may not be written here: why.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() || text.len() > LONGEST {
            return Err(format!("an expression is 1 to {LONGEST} bytes long"));
        }
        shallow(text)?;
        // The parser is somebody else's: whatever it makes of a text, it is the text's fault.
        let parsed = thread::scope(|scope| {
            let parser = thread::Builder::new().name("cel".into()).stack_size(STACK);
            let parsed = parser.spawn_scoped(scope, || Program::compile(text)).map_err(|why| why.to_string())?;
            parsed.join().map_err(|_| "is no expression".to_owned())
        })?;
        let program = parsed.map_err(|why| misread(&why.to_string()))?;
        walk(program.expression(), false, DEEPEST)?;
        let references = program.references();
        let mut unknown: Vec<&str> = references.variables();
        unknown.retain(|name| !NAMES.contains(name) && !is_local(program.expression(), name));
        unknown.sort_unstable();
        match unknown.first() {
            Some(name) => Err(format!("nothing is named `{name}`: there are {}", NAMES.join(", "))),
            None => Ok(()),
        }?;
        drop(references);
        Ok(Self { text: text.into(), program })
    }

    /// # Errors
    /// It failed on these facts, or says something else than true or false: why. Then it does not hold.
    pub fn holds(&self, scene: &Scene) -> Result<bool, String> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.program.execute(&scene.0)));
        match ran {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(_)) => Err("it says neither true nor false".to_owned()),
            Ok(Err(why)) => Err(why.to_string().chars().take(256).collect()),
            Err(_) => Err("it broke".to_owned()),
        }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

impl Scene {
    /// Of [`NAMES`]; what is not given is null.
    #[must_use]
    pub fn new(facts: Vec<(&'static str, Fact)>) -> Self {
        let mut context = Context::default();
        for name in NAMES {
            context.add_variable_from_value(name, Value::Null);
        }
        for (name, fact) in facts {
            context.add_variable_from_value(name, value(fact));
        }
        Self(context)
    }
}

fn value(fact: Fact) -> Value {
    match fact {
        Fact::Null => Value::Null,
        Fact::Bool(is) => Value::Bool(is),
        Fact::Int(number) => Value::Int(number),
        Fact::Real(number) => Value::Float(number),
        Fact::Text(text) => Value::from(text),
        Fact::List(list) => Value::from(list.into_iter().map(value).collect::<Vec<Value>>()),
        Fact::Map(map) => {
            Value::from(map.into_iter().map(|(name, fact)| (name, value(fact))).collect::<HashMap<String, Value>>())
        }
    }
}

/// Before anything is parsed: are there few enough operators, and brackets, signs and choices within each other?
fn shallow(text: &str) -> Result<(), String> {
    let (mut depth, mut deepest, mut operators, mut run, mut quote) = (0_usize, 0, 0, 0, None);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match quote {
            Some(_) if byte == b'\\' => drop(bytes.next()),
            Some(end) if byte == end => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None => {
                match byte {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                    // What is behind one is within it.
                    b'?' => deepest += 1,
                    _ => {}
                }
                let sign = matches!(byte, b'!' | b'-');
                run = if sign { run + 1 } else { run * usize::from(byte.is_ascii_whitespace()) };
                operators += usize::from(byte.is_ascii_punctuation() && byte != b'_');
                if depth + deepest + run > DEEPEST || operators > MOST_OPERATORS {
                    return Err(too_deep());
                }
            }
        }
    }
    Ok(())
}

/// The first line of what the parser says, without what it could have read instead.
fn misread(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("ERROR: ").trim_start_matches("<input>:");
    format!("is no expression, at {}", line.split(" expecting ").next().unwrap_or_default())
}

fn too_deep() -> String {
    format!("is too deep: at most {MOST_OPERATORS} operators, {DEEPEST} of them within each other")
}

/// `walks`: within a walk over a list. `left`: so much deeper may it be.
fn walk(expr: &IdedExpr, walks: bool, left: usize) -> Result<(), String> {
    let left = left.checked_sub(1).ok_or_else(too_deep)?;
    let all = |mut list: Vec<&IdedExpr>| list.drain(..).try_for_each(|expr| walk(expr, walks, left));
    match &expr.expr {
        Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        Expr::Unspecified => Err("is no expression".to_owned()),
        Expr::Struct(_) => Err("makes a message, which conditions have no use for".to_owned()),
        Expr::Select(select) => walk(&select.operand, walks, left),
        Expr::List(list) => all(list.elements.iter().collect()),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => walk(&entry.key, walks, left).and(walk(&entry.value, walks, left)),
            EntryExpr::StructField(_) => Err("makes a message".to_owned()),
        }),
        Expr::Call(call) => all(call.target.iter().map(|target| &**target).chain(&call.args).collect()),
        Expr::Comprehension(_) if walks => Err("walks over a list within a list, which could take long".to_owned()),
        Expr::Comprehension(it) => {
            walk(&it.iter_range, walks, left)?;
            [&it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
                .into_iter()
                .try_for_each(|expr| walk(expr, true, left))
        }
    }
}

/// Does a walk over a list give this name to its elements?
fn is_local(expr: &IdedExpr, name: &str) -> bool {
    match &expr.expr {
        Expr::Comprehension(it) => {
            it.iter_var == name
                || it.iter_var2.as_deref() == Some(name)
                || it.accu_var == name
                || [&it.iter_range, &it.loop_step, &it.result].into_iter().any(|expr| is_local(expr, name))
        }
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).any(|e| is_local(e, name)),
        Expr::Select(select) => is_local(&select.operand, name),
        Expr::List(list) => list.elements.iter().any(|expr| is_local(expr, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        let text = |text: &str| Fact::Text(text.to_owned());
        Scene::new(vec![
            ("model", text("fast")),
            ("caller", Fact::Map(vec![("consumer".into(), text("acme")), ("team".into(), Fact::Null)])),
            ("headers", Fact::Map(vec![("x-tier".into(), text("gold"))])),
            ("prompt", Fact::Map(vec![("tokens".into(), Fact::Int(5_000)), ("tools".into(), Fact::Bool(true))])),
            ("tags", Fact::List(vec![text("eu"), text("zdr")])),
        ])
    }

    #[test]
    fn what_is_true_of_a_call_can_be_asked() {
        for (text, holds) in [
            ("model == 'fast' && caller.consumer == 'acme'", true),
            ("prompt.tokens > 4000 || prompt.tools", true),
            ("'eu' in tags && !('us' in tags)", true),
            ("'x-tier' in headers && headers['x-tier'].startsWith('go')", true),
            ("tags.exists(tag, tag == 'zdr')", true),
            ("has(headers.nothing)", false),
            ("caller.team == 'web'", false),
            ("size(tags) == 3", false),
        ] {
            assert_eq!(Condition::parse(text).unwrap().holds(&scene()), Ok(holds), "{text}");
        }
    }

    #[test]
    fn what_fails_does_not_hold_and_says_why() {
        for text in ["headers['x-none'] == 'a'", "prompt.tokens", "prompt.tokens > 'a'", "prompt.tokens / 0 == 1"] {
            assert!(Condition::parse(text).unwrap().holds(&scene()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_may_not_be_written_is_refused_before_it_runs() {
        let deep = format!("{}true{}", "(".repeat(400), ")".repeat(400));
        let nots = format!("{}true", "! ".repeat(400));
        let choices = "true ? true : ".repeat(70) + "true";
        for (text, why) in [
            ("", "1 to 1024"),
            (&*"a".repeat(1_025), "1 to 1024"),
            ("model ==", ""),
            ("modle == 'x'", "nothing is named `modle`"),
            ("tags.all(a, tags.all(b, tags.all(c, a + b == c)))", "list within a list"),
            ("cel.Message{a: 1} == 2", ""),
            (&*deep, "too deep"),
            (&*nots, "too deep"),
            (&*choices, "too deep"),
            (&*("1+".repeat(300) + "1 == 2"), "too deep"),
            (&*("1+".repeat(90) + "1 == 2"), "too deep"),
            (&*format!("caller{} == 1", ".a".repeat(90)), "too deep"),
        ] {
            let said = Condition::parse(text).expect_err(text);
            assert!(said.contains(why) && !said.is_empty(), "{text}: {said}");
        }
    }

    #[test]
    fn the_deepest_that_may_be_written_runs_on_a_usual_stack() {
        let deep = |open: &str, close: &str| open.repeat(DEEPEST) + "true" + &close.repeat(DEEPEST);
        for text in [
            deep("(", ")"),
            deep("!", ""),
            "true?true:".repeat(20) + "true",
            "1+".repeat(20) + "1>1",
            "true||".repeat(MOST_OPERATORS / 2 - 1) + "true",
            format!("{}1{}==[]", "[".repeat(20), "]".repeat(20)),
            format!("\"{}\" == 'x'", "((((!!!!".repeat(100)),
            format!("caller{} == 1", ".a".repeat(20)),
        ] {
            let condition = Condition::parse(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
            let _whatever = condition.holds(&scene());
        }
    }
}
