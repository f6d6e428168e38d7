//! What few have: elsewhere, so that it takes no room where it is missing.

use std::ops::{Deref, DerefMut};

use crate::attached::RouteLimits;
use crate::route::{HeaderEdits, Rewrite, Timeouts};

/// Reads like a `T`, which is empty most of the time.
#[derive(Debug, Clone)]
pub struct Rare<T>(Option<Box<T>>);

/// Has a value that stands for nothing.
pub trait Empty: 'static {
    const EMPTY: &'static Self;
    fn is_empty(&self) -> bool;
}

impl<T> Rare<T> {
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Empty> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((!value.is_empty()).then(|| Box::new(value)))
    }
}

impl<T: Empty> Deref for Rare<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::EMPTY,
        }
    }
}

impl<T: Empty + Default> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: 'static> Empty for Vec<T> {
    const EMPTY: &'static Self = &Self::new();

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Empty for HeaderEdits {
    const EMPTY: &'static Self = &Self(Vec::new());

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Empty for Rewrite {
    const EMPTY: &'static Self = &Self { strip_prefix: None, add_prefix: None, path: None, host: None };

    fn is_empty(&self) -> bool {
        self == Self::EMPTY
    }
}

impl Empty for Timeouts {
    const EMPTY: &'static Self = &Self { total: None, first_byte: None };

    fn is_empty(&self) -> bool {
        self == Self::EMPTY
    }
}

impl Empty for RouteLimits {
    const EMPTY: &'static Self = &Self {
        always: Vec::new(),
        anonymous: Vec::new(),
        anonymous_plan: None,
        product: None,
        by_plan: Vec::new(),
        weights: Vec::new(),
        end_user: None,
    };

    fn is_empty(&self) -> bool {
        let Self { always, anonymous, anonymous_plan, product, by_plan, weights, end_user } = self;
        let lists = always.is_empty() && anonymous.is_empty() && by_plan.is_empty() && weights.is_empty();
        lists && anonymous_plan.is_none() && product.is_none() && end_user.is_none()
    }
}
