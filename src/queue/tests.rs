//! Queues under two kinds of test: threads and a GIL that are played by one thread, in any order of
//! what can happen to them (`laws`); and real calls in every order of a few threads (`orders`, run by
//! `scripts/loom`).

#[cfg(not(loom))]
mod laws;
#[cfg(loom)]
mod orders;
