//! Metrics as a collector is told them: cumulative, from when this process began.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_model::Nanos;

use super::calls::Calls;
use super::proto::Message;
use crate::meter::{BOUNDS, Laned, Total};
use crate::meters::{CLASSES, METHODS, Meters, NO_ROUTE, RouteLane};
use crate::spoken::ModelLane;

const CUMULATIVE: u64 = 2;

pub(super) fn write(out: &mut Message<'_>, meters: &Meters, calls: &Calls, when: (Nanos, Nanos)) {
    requests(out, meters, when);
    calls.write(out, when);
    models(out, meters, when);
}

fn requests(out: &mut Message<'_>, meters: &Meters, when: (Nanos, Nanos)) {
    let each = |visit: &mut dyn FnMut(&str, &Laned<RouteLane>)| {
        visit(NO_ROUTE, meters.unrouted());
        meters.routes.each(|name, lanes| visit(name, lanes));
    };
    histogram(out, "http.server.request.duration", "s", "From the request's head to the end of the answer", |points| {
        each(&mut |route, lanes| {
            let total = Total::of(lanes, |lane: &RouteLane| &lane.duration);
            if total.count > 0 {
                let buckets: Vec<u64> = total.buckets.iter().map(|(_, count)| *count).collect();
                points.message(1, |point| {
                    self::point(point, (&BOUNDS, &buckets, total.sum), when);
                    point.text_attribute(9, "http.route", route);
                });
            }
        });
    });
    sum(out, "tidegate.requests", "{request}", "Requests by route, method and class of the answer", |points| {
        each(&mut |route, lanes| {
            for (m, method) in METHODS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let value = lanes.sum(|lane| lane.requests[m][c].load(Relaxed));
                    let names = [("http.route", route), ("http.request.method", *method), ("class", *class)];
                    count(points, value, &names, when);
                }
            }
        });
    });
}

fn models(out: &mut Message<'_>, meters: &Meters, when: (Nanos, Nanos)) {
    type Of = fn(&ModelLane) -> u64;
    let rows: [(&str, &str, &str, Of); 4] = [
        ("tidegate.llm.cost", "{nanodollar}", "What calls cost, in billionths of a dollar", |lane| {
            lane.cost_nanos.load(Relaxed)
        }),
        ("tidegate.llm.fallbacks", "{deployment}", "Deployments that failed before another one was asked", |lane| {
            lane.fallbacks.load(Relaxed)
        }),
        ("tidegate.llm.cache.hits", "{call}", "Calls answered from the cache", |lane| lane.hits.load(Relaxed)),
        ("tidegate.llm.cache.saved_tokens", "{token}", "Tokens that answers from the cache would have taken", |lane| {
            lane.saved.load(Relaxed)
        }),
    ];
    for (name, unit, help, of) in rows {
        sum(out, name, unit, help, |points| {
            meters.models.each(|model, lanes| count(points, lanes.sum(of), &[("tidegate.llm.model", model)], when));
        });
    }
}

fn metric(out: &mut Message<'_>, (name, unit, help): (&str, &str, &str), field: u64, data: &[u8], more: &[u8]) {
    if data.is_empty() {
        return; // Nothing was counted.
    }
    out.message(2, |metric| {
        metric.text(1, name);
        metric.text(2, help);
        metric.text(3, unit);
        metric.message(field, |inner| {
            inner.raw(data);
            inner.raw(more);
        });
    });
}

pub(super) fn histogram(
    out: &mut Message<'_>,
    name: &str,
    unit: &str,
    help: &str,
    points: impl FnOnce(&mut Message<'_>),
) {
    let (mut data, mut more) = (Vec::new(), Vec::new());
    points(&mut Message::new(&mut data));
    Message::new(&mut more).number(2, CUMULATIVE);
    metric(out, (name, unit, help), 9, &data, &more);
}

fn sum(out: &mut Message<'_>, name: &str, unit: &str, help: &str, points: impl FnOnce(&mut Message<'_>)) {
    let (mut data, mut more) = (Vec::new(), Vec::new());
    points(&mut Message::new(&mut data));
    let mut rest = Message::new(&mut more);
    rest.number(2, CUMULATIVE);
    rest.number(3, 1); // It only grows.
    metric(out, (name, unit, help), 7, &data, &more);
}

/// A point of a histogram, without its attributes.
pub(super) fn point(out: &mut Message<'_>, (bounds, buckets, sum): (&[f64], &[u64], f64), when: (Nanos, Nanos)) {
    out.fixed64(2, when.0.0);
    out.fixed64(3, when.1.0);
    out.fixed64(4, buckets.iter().sum());
    out.double(5, sum);
    out.packed(6, buckets.iter().copied());
    out.packed(7, bounds.iter().map(|bound| bound.to_bits()));
}

fn count(out: &mut Message<'_>, value: u64, names: &[(&str, &str)], when: (Nanos, Nanos)) {
    if value == 0 {
        return;
    }
    out.message(1, |point| {
        point.fixed64(2, when.0.0);
        point.fixed64(3, when.1.0);
        point.fixed64(6, value);
        names.iter().for_each(|(name, value)| point.text_attribute(7, name, value));
    });
}
