//! A flood, in a thread of its own, so that its clients delay nobody else's.

use super::commands::{self, CommandFlood, Den};
use super::counts::{Asked, Counts};
use super::requests::{self, Parties, RequestFlood};
use super::slow_bodies;
use crate::setup::account::Account;
use crate::setup::api::Target;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    Command(CommandFlood),
    Request(RequestFlood),
    SlowBodies,
}

impl Attack {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let commands = CommandFlood::ALL.into_iter().map(Self::Command);
        commands.chain(RequestFlood::ALL.into_iter().map(Self::Request)).chain([Self::SlowBodies])
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Command(kind) => kind.name(),
            Self::Request(kind) => kind.name(),
            Self::SlowBodies => slow_bodies::NAME,
        }
    }

    /// The attacks of these names, or all if there are none.
    pub(super) fn named(names: &[String]) -> Result<Vec<Self>, String> {
        if names.is_empty() {
            return Ok(Self::all().collect());
        }
        let find = |name: &String| {
            Self::all().find(|attack| attack.name() == name).ok_or_else(|| {
                let known: Vec<&str> = Self::all().map(Self::name).collect();
                format!("--flood {name}: there is no such flood; choose one of {}", known.join(", "))
            })
        };
        names.iter().map(find).collect()
    }
}

/// Who takes part.
pub(super) struct Cast {
    pub(super) target: Target,
    pub(super) flooders: Vec<Account>,
    pub(super) adders: Vec<Account>,
    pub(super) victims: Vec<Account>,
    pub(super) den: Den,
}

/// A flood that is under way.
pub(super) struct Flood {
    counts: Arc<Counts>,
    thread: JoinHandle<Result<(), String>>,
}

impl Flood {
    pub(super) fn start(cast: &Arc<Cast>, attack: Attack) -> Self {
        let counts = Arc::new(Counts::default());
        let thread = std::thread::spawn({
            let (cast, counts) = (Arc::clone(cast), Arc::clone(&counts));
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| format!("cannot start the flood's runtime: {error}"))?;
                runtime.block_on(flood(&cast, attack, &counts));
                Ok(())
            }
        });
        Self { counts, thread }
    }

    pub(super) fn stop(self) -> Result<Asked, String> {
        self.counts.end();
        self.thread.join().map_err(|_| "the flood panicked".to_owned())??;
        Ok(self.counts.asked())
    }
}

async fn flood(cast: &Cast, attack: Attack, counts: &Counts) {
    let Cast { target, flooders, adders, victims, den } = cast;
    match attack {
        Attack::Command(kind) => commands::flood(target, flooders, den, kind, counts).await,
        Attack::Request(kind) => {
            let parties = Parties { flooders, adders, victims, seed: rand::random() };
            requests::flood(target, kind, &parties, counts).await;
        }
        Attack::SlowBodies => slow_bodies::flood(target, slow_bodies::SOCKETS, counts).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_floods_by_name_and_lists_them_for_a_wrong_one() {
        let all: Vec<&str> = Attack::all().map(Attack::name).collect();
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), all.len());
        assert_eq!(Attack::named(&[]).unwrap().len(), all.len());
        let one = Attack::named(&["slow_bodies".to_owned()]).unwrap();
        assert_eq!(one, [Attack::SlowBodies]);
        assert!(Attack::named(&["rain".to_owned()]).unwrap_err().contains("choose one of search_messages, "));
    }
}
