//! Routes stay small, and what they have none of reads as nothing.

use tidegate_policy::{HeaderEdits, Rare, Route, RouteLimits};

#[test]
fn a_route_with_its_counts_takes_five_lines_of_the_cache() {
    let counts = 2 * size_of::<usize>();
    assert!(size_of::<Route>() + counts <= 5 * 64, "{}", size_of::<Route>());
}

#[test]
fn nothing_reads_as_nothing_and_can_become_something() {
    let mut limits = Rare::<RouteLimits>::default();
    assert!(limits.always.is_empty() && limits.of_plan(None).is_some());
    limits.anonymous_plan = Some(3);
    assert_eq!((limits.anonymous_plan, size_of_val(&limits)), (Some(3), size_of::<usize>()));
    assert_eq!(Rare::<RouteLimits>::from([1, 2]).always.len(), 2);
    assert!(Rare::from(HeaderEdits::default()).0.is_empty());
}
