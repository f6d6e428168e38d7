//! Specs over real processes: what the README promises, told as stories. One binary, so that it links once.
//! Everything is on loopback, on ports the kernel chose; every process is ended by whoever started it.

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on says where")]

mod harness;

mod audit;
mod bounds;
mod breakers;
mod caching;
mod certificates;
mod clocks;
mod crowded;
mod deploy;
mod disaster;
mod diverging;
mod document;
mod exactness;
mod extending;
mod fills;
mod full_disk;
mod gathering;
mod guards;
mod handover;
mod health;
mod jwt;
mod kinds;
mod levels;
mod lifecycle;
mod llm;
mod members;
mod money;
mod operators;
mod orders;
mod overload;
mod planted;
mod purges;
mod reads;
mod renewals;
mod retries;
mod revocation;
mod scaling;
mod scopes;
mod secrets;
mod shared;
mod slices;
mod slow_disk;
mod smooth;
mod standing_in;
mod tls;
mod walk;
mod waste;
mod watching;
mod zones;
