//! What conditions see of a call. Bounded: the head was, and of the body only its few peeked fields are here.

use tidegate_auth::token::Claim;
use tidegate_policy::condition::{Fact, Scene};

use super::Chooser;
use crate::identify::Caller;

/// Values of claims within each other.
const DEEPEST: usize = 4;
const MOST: usize = 64;

pub(super) fn of(chooser: &Chooser<'_, '_>) -> Scene {
    let peek = &chooser.heard.peek;
    let number = |number: u64| Fact::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let prompt = vec![
        ("bytes".to_owned(), number(peek.prompt_bytes as u64)),
        ("tokens".to_owned(), number(chooser.needs.tokens())),
        ("messages".to_owned(), number(peek.messages as u64)),
        ("tools".to_owned(), Fact::Bool(peek.has_tools)),
        ("images".to_owned(), Fact::Bool(peek.has_images)),
        ("json_schema".to_owned(), Fact::Bool(peek.has_schema)),
    ];
    Scene::new(vec![
        ("model", text(&peek.model)),
        ("caller", caller(chooser)),
        ("headers", headers(chooser)),
        ("prompt", Fact::Map(prompt)),
        ("tags", Fact::List(chooser.needs.tags.iter().map(|tag| text(tag)).collect())),
        ("stream", Fact::Bool(peek.stream)),
        ("max_tokens", peek.max_tokens.map_or(Fact::Null, number)),
        ("user", peek.end_user.as_deref().map_or(Fact::Null, text)),
    ])
}

fn text(text: &str) -> Fact {
    Fact::Text(text.to_owned())
}

fn caller(chooser: &Chooser<'_, '_>) -> Fact {
    let consumer = chooser.caller.and_then(|caller| caller.consumer);
    let plan = chooser.caller.and_then(Caller::plan).and_then(|at| chooser.snapshot.plans.get(at));
    let or_null = |value: Option<&str>| value.map_or(Fact::Null, text);
    let claims = chooser.caller.and_then(Caller::token).map_or(Fact::Map(Vec::new()), |token| {
        let all = token.claims.all().iter().take(MOST);
        Fact::Map(all.map(|(name, claim)| (name.to_string(), of_claim(claim, DEEPEST))).collect())
    });
    Fact::Map(vec![
        ("consumer".to_owned(), or_null(consumer.map(|consumer| consumer.name.as_str()))),
        ("tenant".to_owned(), or_null(consumer.map(|consumer| consumer.tenant.as_str()))),
        ("team".to_owned(), or_null(consumer.and_then(|consumer| consumer.team.as_deref()))),
        ("plan".to_owned(), or_null(plan.map(|plan| plan.name.as_str()))),
        ("claims".to_owned(), claims),
    ])
}

/// Several lines of one name are one value, as HTTP has it. What proves who calls is not shown.
fn headers(chooser: &Chooser<'_, '_>) -> Fact {
    let mut all: Vec<(String, Fact)> = Vec::new();
    for name in chooser.headers.keys().take(MOST) {
        if matches!(name.as_str(), "authorization" | "x-api-key" | "api-key" | "x-goog-api-key" | "cookie") {
            continue;
        }
        let lines = chooser.headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        all.push((name.as_str().to_owned(), Fact::Text(lines.collect::<Vec<_>>().join(", "))));
    }
    Fact::Map(all)
}

fn of_claim(claim: &Claim, left: usize) -> Fact {
    match claim {
        _ if left == 0 => Fact::Null,
        Claim::Null => Fact::Null,
        Claim::Bool(is) => Fact::Bool(*is),
        Claim::Whole(number) => i64::try_from(*number).map_or(Fact::Real(*number as f64), Fact::Int),
        Claim::Number(number) => Fact::Real(*number),
        Claim::Text(value) => text(value),
        Claim::List(list) => Fact::List(list.iter().take(MOST).map(|one| of_claim(one, left - 1)).collect()),
        Claim::Map(map) => {
            Fact::Map(map.iter().take(MOST).map(|(name, one)| (name.to_string(), of_claim(one, left - 1))).collect())
        }
    }
}
