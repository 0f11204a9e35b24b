//! `POST /access/v1/evaluation`: OpenID AuthZEN Authorization API 1.0. The whole decision travels in `context`.

use serde::Serialize;

use nethical_protocol::decision::Decision;

use super::answer;
use super::call::{Call, Handled};
use super::decide::{echo_of, submit_one};
use super::decode::{Dialect, decode};

#[derive(Serialize)]
struct Evaluation {
    decision: bool,
    context: Decision,
}

/// One evaluation; a denial is 200 with `decision: false`.
pub async fn evaluation(call: Call) -> Handled {
    let decoded = decode(&call.body, Dialect::AuthZen);
    let echo = echo_of(&call, &decoded);
    let answer = submit_one(&call, decoded).await;
    let body = |decision: &Decision| Evaluation { decision: decision.allowed, context: decision.clone() };
    answer::single(&answer, call.wants_strict_status(), &echo, body)
}
