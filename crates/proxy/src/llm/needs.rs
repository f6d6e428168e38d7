//! What a call needs, and which deployments have it.
//!
//! Tokens are estimated from bytes, and counted where the estimate is near to what a model takes and it is known how that
//! model counts. Who surely takes the prompt comes before who may; who cannot is not asked at all.

use http::{HeaderMap, HeaderName};
use tidegate_llm::catalogue::Model;
use tidegate_llm::meaning::{Kind, NanoUsd, Usage};
use tidegate_llm::peek::Peek;
use tidegate_llm::tokens::{Counted, Encoding};
use tidegate_policy::{Abilities, Deployment, Model as Asked};

use super::heard::Heard;
use super::told::No;
use crate::headers::INTERNAL;
use crate::refusal::Refusal;

/// Regions or tags, one of which the call must stay in: `x-tidegate-residency: eu, ch`.
pub(super) const RESIDENCY: HeaderName = HeaderName::from_static("x-tidegate-residency");
/// Tags that a deployment must have, all of them: `x-tidegate-tags: batch, cheap`.
pub(super) const TAGS: HeaderName = HeaderName::from_static("x-tidegate-tags");

/// Of a prompt: most have about four to a token, and hardly any has more than six.
const USUAL_BYTES: u64 = 4;
const MOST_BYTES: u64 = 6;
/// Beyond these nobody needs to count: it surely fits, or surely not.
const FEW_BYTES: u64 = 2;
const MANY_BYTES: u64 = 16;
/// Shorter prompts are estimated, whoever is asked.
const SMALL: u64 = 1_024;
/// Words in a header.
const MOST_WORDS: usize = 16;
/// Of an answer, where a call does not say: prices and times are compared by it.
const USUAL_ANSWER: u64 = 512;

pub(super) type Words<'a> = Vec<&'a str>;

#[derive(Debug)]
pub(super) struct Needs<'a> {
    bytes: u64,
    answer: u64,
    /// Of images nobody knows how many tokens they are.
    pub(super) countable: bool,
    tools: bool,
    images: bool,
    schema: bool,
    /// Each list is one of places, in one of which the call must stay.
    homes: Vec<Words<'a>>,
    pub(super) tags: Words<'a>,
    /// By the places of [`Encoding::ALL`], where it was needed.
    counts: [Option<Counted>; Encoding::ALL.len()],
}

/// What a deployment lacks. Bits, so that what all of them lack can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lacks(u8);

const CONTEXT: u8 = 1;
const TOOLS: u8 = 2;
const IMAGES: u8 = 4;
const SCHEMA: u8 = 8;
const HOME: u8 = 16;
const TAG: u8 = 32;

/// What is known of a deployment for one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// Tokens that it takes.
    pub(super) context: Option<u64>,
    /// It surely takes this prompt.
    pub(super) surely: bool,
    /// What the call costs there, about.
    pub(super) price: Option<NanoUsd>,
}

impl<'a> Needs<'a> {
    /// `chat`: others need no more than a place.
    pub(super) fn of(peek: &Peek, chat: bool, headers: &'a HeaderMap, homes: [Option<&'a Vec<Box<str>>>; 2]) -> Self {
        // Hardly any call has either: one look at its names is less than one for each.
        let has_ours = headers.keys().any(|name| name.as_str().starts_with(INTERNAL));
        let words = |name: &HeaderName| if has_ours { words(headers, name) } else { Words::new() };
        let asked = words(&RESIDENCY);
        let mut all: Vec<Words<'a>> =
            homes.into_iter().flatten().map(|list| list.iter().map(|word| &**word).collect()).collect();
        all.extend((!asked.is_empty()).then_some(asked));
        Self {
            bytes: peek.prompt_bytes as u64,
            answer: peek.max_tokens.unwrap_or(0),
            countable: chat && !peek.has_images,
            tools: chat && peek.has_tools,
            images: chat && peek.has_images,
            schema: chat && peek.has_schema,
            homes: all,
            tags: words(&TAGS),
            counts: Default::default(),
        }
    }

    /// Is a deployment of the model perhaps too small for the prompt, or just large enough?
    pub(super) fn may_be_near(&self, heard: &Heard<'_>, model: &Asked) -> bool {
        let asked = &heard.peek.model;
        self.countable
            && self.bytes >= SMALL
            && model.reach().into_iter().any(|to| self.is_near(to, asked) && to.encoding(asked).is_some())
    }

    fn is_near(&self, deployment: &Deployment, asked: &str) -> bool {
        let most = (self.bytes / FEW_BYTES).saturating_add(self.answer);
        self.context(deployment, asked).is_some_and(|context| most > context && self.bytes / MANY_BYTES <= context)
    }

    /// Counts, for those that it is near to.
    pub(super) async fn count(&mut self, heard: &Heard<'_>, model: &Asked) {
        let asked = &heard.peek.model;
        for deployment in model.reach().into_iter().filter(|to| self.is_near(to, asked)).collect::<Vec<_>>() {
            if let Some(encoding) = deployment.encoding(asked)
                && self.counts[encoding as usize].is_none()
            {
                self.counts[encoding as usize] = heard.counted(encoding).await;
            }
        }
    }

    /// Of the prompt, about.
    pub(super) fn tokens(&self) -> u64 {
        let counted = self.counts.iter().flatten().map(|counted| counted.tokens).max();
        counted.unwrap_or_else(|| self.bytes.div_ceil(USUAL_BYTES))
    }

    /// Of the answer, about.
    pub(super) fn answer(&self) -> u64 {
        if self.answer == 0 { USUAL_ANSWER } else { self.answer.min(USUAL_ANSWER) }
    }

    /// # Errors
    /// It cannot take the call: what it lacks.
    pub(super) fn fit(&self, deployment: &Deployment, asked: &str) -> Result<Fit, Lacks> {
        let Abilities { context: _, tools, vision, json_schema } = deployment.abilities;
        let row = deployment.row(asked);
        let can = |own: Option<bool>, ability: &str| own.or(row.and_then(|row| knows(row, ability))).unwrap_or(true);
        let context = self.context(deployment, asked);
        let counted = self.counted(deployment, asked);
        let least = counted.unwrap_or(if self.countable { self.bytes / MOST_BYTES } else { 0 });
        let tokens = counted.unwrap_or_else(|| self.tokens());
        let mut lacks = 0;
        let mut lack = |lacked: bool, bit: u8| lacks |= u8::from(lacked) * bit;
        lack(context.is_some_and(|most| least > most), CONTEXT);
        lack(self.tools && !can(tools, "tools"), TOOLS);
        lack(self.images && !can(vision, "vision"), IMAGES);
        lack(self.schema && !can(json_schema, "json_schema"), SCHEMA);
        lack(!self.homes.iter().all(|places| places.iter().any(|place| deployment.is_in(place))), HOME);
        lack(!self.tags.iter().all(|tag| deployment.has_tag(tag)), TAG);
        if lacks != 0 {
            return Err(Lacks(lacks));
        }
        let whole = tokens.saturating_add(self.answer);
        let surely = !self.countable || context.is_none_or(|most| whole <= most);
        let usage = Usage { input: tokens, output: self.answer(), ..Usage::default() };
        Ok(Fit { context, surely, price: deployment.tariff(asked).map(|tariff| tariff.cost(&usage)) })
    }

    /// Of the prompt there, if it was counted.
    fn counted(&self, deployment: &Deployment, asked: &str) -> Option<u64> {
        if self.counts.iter().all(Option::is_none) {
            return None;
        }
        let counted = self.counts[deployment.encoding(asked)? as usize]?;
        counted.surely.then_some(counted.tokens)
    }

    /// Tokens that a deployment takes, if that is known.
    pub(super) fn context(&self, deployment: &Deployment, asked: &str) -> Option<u64> {
        deployment.abilities.context.or_else(|| deployment.row(asked)?.context)
    }

    /// The caller is told what is missing.
    pub(super) fn unmet(&self, model: &str, lacks: &[Lacks], largest: Option<u64>) -> No {
        let list = |words: &Words<'_>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let mut needs = Vec::new();
        let any = lacks.iter().fold(0, |all, Lacks(bits)| all | bits);
        if any & CONTEXT != 0 {
            let largest = largest.map(|most| format!(" (the largest takes {most})")).unwrap_or_default();
            needs.push(format!("a context of about {} tokens{largest}", self.tokens()));
        }
        needs.extend((any & TOOLS != 0).then(|| "tools".to_owned()));
        needs.extend((any & IMAGES != 0).then(|| "images".to_owned()));
        needs.extend((any & SCHEMA != 0).then(|| "answers by a JSON schema".to_owned()));
        if any & HOME != 0 {
            let homes: Vec<String> = self.homes.iter().map(|places| format!("residency in {}", list(places))).collect();
            needs.push(homes.join(" and "));
        }
        needs.extend((any & TAG != 0).then(|| format!("the tags {}", list(&self.tags))));
        let short = if needs.len() > 1 { " all of" } else { "" };
        let message = format!("No deployment of `{model}` has{short} what this call needs: {}.", needs.join("; "));
        let mut no = No::told(Refusal::NoneCan, message, None);
        if let (CONTEXT, Some(error)) = (any, &mut no.error) {
            (error.kind, error.code) = (Kind::ContextExceeded, Some("context_length_exceeded".to_owned()));
        }
        no
    }
}

/// `None`: its row does not say what it can.
fn knows(row: &Model, ability: &str) -> Option<bool> {
    let sees = ability == "vision" && row.takes.iter().any(|kind| kind == "image");
    (!row.can.is_empty() || sees).then(|| sees || row.can.iter().any(|known| known == ability))
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Words<'a> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    let words = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words.take(MOST_WORDS).collect()
}
