//! A rule that can't be read fails closed as a whole.

use selvage_policy::compiled::Action;
use selvage_policy::model::{Entity, Peer, Rule};

use super::Issue;

/// What stands in the place of a rule with these issues: an Allow or Log that matches nothing, and a Deny of everything
/// in that direction for a Deny, a Pass, or an action that is none. The issues say so.
///
/// The rule is not left out: whether a policy has rules, and whether all of them are Log, is asked of what its author
/// wrote.
pub(super) fn closed(action: Option<Action>, issues: &mut [Issue]) -> Rule {
    let (action, destination, consequence) = match action {
        Some(Action::Allow) => (Action::Allow, nobody(), "the rule allows nothing"),
        Some(Action::Log) => (Action::Log, nobody(), "the rule is skipped"),
        Some(Action::Deny | Action::Pass) | None => {
            (Action::Deny, Entity::default(), "the rule denies everything in its direction")
        }
    };
    for issue in issues.iter_mut().filter(|issue| !issue.is_note()) {
        issue.message.push_str(": ");
        issue.message.push_str(consequence);
    }
    Rule { action, family: None, ports: Vec::new(), source: Entity::default(), destination }
}

fn nobody() -> Entity {
    Entity::any_of(vec![Peer::Nothing])
}
