//! APR's ring macros for bucket brigades (`apr_ring.h`, `apr_buckets.h`).

use crate::{apr_bucket, apr_bucket_brigade};
use std::mem::offset_of;

/// The ring arithmetic below treats the address of a brigade's list as that of a bucket whose
/// link it is. That is what `APR_RING_SENTINEL` computes when the link comes first.
const _: () = assert!(offset_of!(apr_bucket, link) == 0);

/// `APR_BUCKET_INIT`: a bucket that is in no brigade.
///
/// # Safety
///
/// `bucket` may be written to.
pub unsafe fn init_bucket(bucket: *mut apr_bucket) {
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*bucket).link.next).write(bucket);
        (&raw mut (*bucket).link.prev).write(bucket);
    }
}

/// `APR_BUCKET_INSERT_AFTER`: makes `bucket` the one behind `before`.
///
/// # Safety
///
/// Both are valid, belong to the same allocator; `before` is in a brigade and `bucket` in none.
pub unsafe fn insert_bucket_after(before: *mut apr_bucket, bucket: *mut apr_bucket) {
    // SAFETY: the caller's promise; a sentinel is never touched as more than its link.
    unsafe {
        let next = (*before).link.next;
        (*bucket).link.next = next;
        (*bucket).link.prev = before;
        (*next).link.prev = bucket;
        (*before).link.next = bucket;
    }
}

/// `APR_BRIGADE_INSERT_TAIL`: makes `bucket` the last of `brigade`.
///
/// # Safety
///
/// Both are valid, belong to the same connection's allocator, and `bucket` is in no brigade.
pub unsafe fn append_bucket(brigade: *mut apr_bucket_brigade, bucket: *mut apr_bucket) {
    // SAFETY: the caller's promise; the sentinel is never read as more than its link.
    unsafe {
        let sentinel = (&raw mut (*brigade).list).cast::<apr_bucket>();
        let last = (*brigade).list.prev;
        (*bucket).link.next = sentinel;
        (*bucket).link.prev = last;
        (*last).link.next = bucket;
        (*brigade).list.prev = bucket;
    }
}
