//! Boxes whose content is made where it lies: `Box::new` makes it on the stack first and copies it, which for what a request is
//! made of are kilobytes.

use std::pin::Pin;

#[inline(always)]
pub(crate) fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}

#[inline(always)]
pub(crate) fn pinned<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(boxed(make))
}
