//! Tools the model may call.

use serde_json::{Map, Value};

use super::CacheHint;
use crate::Dialect;

#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    Function(Function),
    /// A tool that runs at one provider, as its dialect wrote it.
    Foreign {
        dialect: Dialect,
        value: Value,
    },
}

impl Tool {
    pub fn function(&self) -> Option<&Function> {
        match self {
            Self::Function(function) => Some(function),
            Self::Foreign { .. } => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments.
    pub schema: Option<Value>,
    pub strict: Option<bool>,
    pub cache: Option<CacheHint>,
    pub extras: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    Auto,
    None,
    Required,
    Named(String),
    /// Required, but only these.
    OneOf(Vec<String>),
}
