//! Transactions, put together.

use super::layout::Range;
use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::request_op::Request;
use super::proto::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// That a key was made at this revision; 0: that there is none.
pub(super) fn made_at(key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// That a key was last put at this revision; 0: that there is none.
pub(super) fn put_at(key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}

pub(super) fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    put_leased(key, value, 0)
}

/// The key goes with the lease.
pub(super) fn put_leased(key: Vec<u8>, value: Vec<u8>, lease: i64) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(PutRequest { key, value, lease })),
    }
}

pub(super) fn delete((key, range_end): Range) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
        })),
    }
}

pub(super) fn get_op(key: Vec<u8>) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(get(key))),
    }
}

pub(super) fn get(key: Vec<u8>) -> RangeRequest {
    RangeRequest {
        key,
        ..RangeRequest::default()
    }
}

/// If all of `when` hold, `then`; otherwise `or_else`. At most 128 operations, etcd's limit.
pub(super) fn txn(when: Vec<Compare>, then: Vec<RequestOp>, or_else: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare: when,
        success: then,
        failure: or_else,
    }
}
