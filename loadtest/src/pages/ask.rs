//! Asks the server and its PostgreSQL the same questions, and measures the time of both.
//!
//! Each asker sends one question after the other; several askers share one list. The time of a question runs from
//! sending it to the arrival of its answer. It does not include parsing the answer.

use super::kinds::{Bare, Question};
use crate::client::Socket;
use crate::engine::recorder::{histogram, microseconds};
use chat_server::storage::connect::{Role, Target, connect};
use chat_server::storage::sql;
use hdrhistogram::Histogram;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

macro_rules! rows {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, sender_id, content, created_at, edited_at, deleted_at, parent_message_id FROM messages ",
            "WHERE conversation_id = $1 AND ",
            $rest
        )
    };
}
const ROWS_BEFORE: &str = rows!("seq < $2 ORDER BY seq DESC LIMIT $3");
const ROWS_AFTER: &str = rows!("seq > $2 ORDER BY seq LIMIT $3");
const ROWS_AROUND: &str = concat!(
    "(",
    rows!("seq < (SELECT x.seq FROM messages x WHERE x.id = $2) ORDER BY seq DESC LIMIT $3"),
    ") UNION ALL (",
    rows!("seq >= (SELECT x.seq FROM messages x WHERE x.id = $2) ORDER BY seq LIMIT $3"),
    ")"
);

/// One answer.
#[derive(Debug)]
pub struct Answered {
    /// Time from the request to its answer.
    pub took: Duration,
    /// Bytes of it; nothing where they are not counted.
    pub bytes: usize,
    /// The reason for the refusal, if there is one.
    pub refused: Option<String>,
}

/// Asks one question at a time.
pub trait Asker {
    /// Asks it.
    ///
    /// # Errors
    /// What ends the measurement: a broken connection, not a refusal.
    fn ask(&mut self, question: &Question) -> impl Future<Output = Result<Answered, String>>;
}

/// Over WebSockets, one for each asking user.
#[derive(Debug)]
pub struct ThroughServer {
    /// By user's index.
    pub sockets: Vec<Socket>,
}

impl Asker for ThroughServer {
    async fn ask(&mut self, question: &Question) -> Result<Answered, String> {
        let socket = self.sockets.get_mut(question.user as usize).ok_or("the asking user is not signed in")?;
        let reply = socket.ask(question.command, &question.data).await?;
        let bytes = reply.outcome.as_ref().map_or(0, |data| data.get().len());
        Ok(Answered { took: reply.took, bytes, refused: reply.outcome.err() })
    }
}

/// Without the server: its statements in its transactions as its role, or bare rows as PostgreSQL's superuser.
pub struct Direct {
    reader: Client,
    superuser: Client,
    set_user: Statement,
    look_up: Statement,
    conversations: Statement,
    before: Statement,
    after: Statement,
    around: Statement,
    large: i64,
    users: Vec<String>,
}

fn describe(error: &Error) -> String {
    format!("the floor: {}", crate::compare::postgres::describe(error))
}

/// The server's timeout for a read.
const STATEMENT_TIMEOUT_MS: &str = "5000";

impl Direct {
    /// Connects. `large` is the room whose rows are read, `users` are the ids of the asking users.
    ///
    /// # Errors
    /// With PostgreSQL's message.
    pub async fn connect(target: &Target, large: i64, users: &[i64]) -> Result<Self, String> {
        let superuser = target.connect_as_login().await.map_err(|error| error.to_string())?;
        let open = async {
            let reader = connect(&target.config(Role::App)).await?;
            Ok(Self {
                set_user: reader.prepare(sql::SET_READER).await?,
                look_up: reader.prepare(sql::LOOK_UP).await?,
                conversations: reader.prepare(sql::LIST_CONVERSATIONS).await?,
                before: superuser.prepare(ROWS_BEFORE).await?,
                after: superuser.prepare(ROWS_AFTER).await?,
                around: superuser.prepare(ROWS_AROUND).await?,
                reader,
                superuser,
                large,
                users: users.iter().map(i64::to_string).collect(),
            })
        };
        open.await.map_err(|error: Error| describe(&error))
    }

    /// A read as the server does it: in one transaction, all of it sent at once.
    async fn read(&self, user: &String, statement: &Statement, of: &[&(dyn ToSql + Sync)]) -> Result<(), Error> {
        let user: [&(dyn ToSql + Sync); 2] = [user, &STATEMENT_TIMEOUT_MS];
        let (begun, set, rows, committed) = futures_util::join!(
            self.reader.batch_execute(sql::BEGIN_READ),
            self.reader.query(&self.set_user, &user),
            self.reader.query(statement, of),
            self.reader.batch_execute(sql::COMMIT),
        );
        begun?;
        set?;
        rows?;
        committed
    }
}

impl Asker for Direct {
    async fn ask(&mut self, question: &Question) -> Result<Answered, String> {
        let user = self.users.get(question.user as usize).ok_or("the asking user is not signed in")?;
        let page = super::kinds::PAGE;
        let began = Instant::now();
        let outcome = match &question.bare {
            Bare::Lookup(name, arguments) => self.read(user, &self.look_up, &[name, arguments]).await,
            Bare::Conversations => self.read(user, &self.conversations, &[&0_i64, &(page + 1)]).await,
            Bare::Before(seq, limit) => self.superuser.query(&self.before, &[&self.large, seq, limit]).await.map(drop),
            Bare::After(seq, limit) => self.superuser.query(&self.after, &[&self.large, seq, limit]).await.map(drop),
            Bare::Around(message) => {
                let half = page / 2 + 1;
                self.superuser.query(&self.around, &[&self.large, message, &half]).await.map(drop)
            }
        };
        let took = began.elapsed();
        match outcome {
            Ok(()) => Ok(Answered { took, bytes: 0, refused: None }),
            Err(error) if error.as_db_error().is_some() => {
                Ok(Answered { took, bytes: 0, refused: Some(describe(&error)) })
            }
            Err(error) => Err(describe(&error)),
        }
    }
}

/// The result of some questions.
#[derive(Debug)]
pub struct PageTally {
    /// How long answers took, refusals among them.
    pub took: Histogram<u64>,
    /// Bytes of all answers.
    pub bytes: u64,
    /// Refusals by their words.
    pub refused: BTreeMap<String, u64>,
}

impl PageTally {
    /// An empty tally.
    ///
    /// # Errors
    /// That there is no memory for a histogram.
    pub fn new() -> Result<Self, String> {
        Ok(Self { took: histogram()?, bytes: 0, refused: BTreeMap::new() })
    }

    /// Adds another tally.
    ///
    /// # Errors
    /// That the histograms do not fit, which is a fault of this program's.
    pub fn add(&mut self, other: Self) -> Result<(), String> {
        self.took.add(&other.took).map_err(|error| format!("cannot merge histograms: {error}"))?;
        self.bytes += other.bytes;
        for (words, count) in other.refused {
            *self.refused.entry(words).or_default() += count;
        }
        Ok(())
    }
}

/// Lets all askers take from the questions until there are none or `until` has come.
///
/// # Errors
/// A broken connection.
pub async fn ask_all<A: Asker>(askers: &mut [A], questions: &[Question], until: Instant) -> Result<PageTally, String> {
    let next = Cell::new(0);
    let next = &next;
    let ask = async |asker: &mut A| {
        let mut tally = PageTally::new()?;
        while Instant::now() < until
            && let Some(question) = questions.get(next.replace(next.get() + 1))
        {
            let answered = asker.ask(question).await?;
            tally.took.saturating_record(microseconds(answered.took.as_nanos() as u64));
            tally.bytes += answered.bytes as u64;
            if let Some(words) = answered.refused {
                *tally.refused.entry(words).or_default() += 1;
            }
        }
        Ok::<_, String>(tally)
    };
    let mut all = PageTally::new()?;
    for tally in futures_util::future::join_all(askers.iter_mut().map(ask)).await {
        all.add(tally?)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::kinds::kinds;
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    struct Counting(u32);

    impl Asker for Counting {
        async fn ask(&mut self, _: &Question) -> Result<Answered, String> {
            self.0 += 1;
            tokio::task::yield_now().await;
            let refused = self.0.is_multiple_of(10).then(|| "no".to_owned());
            Ok(Answered { took: Duration::from_micros(5), bytes: 3, refused })
        }
    }

    #[tokio::test]
    async fn asks_each_question_once_and_counts_refusals() {
        let samples = super::super::kinds::Samples { rooms: vec![2; 60], ..Default::default() };
        let kind = kinds().next().unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        let questions: Vec<Question> = (0..100).map(|_| (kind.ask)(&samples, &mut random)).collect();
        let mut askers = [Counting(0), Counting(0), Counting(0)];
        let until = Instant::now() + Duration::from_mins(1);
        let tally = ask_all(&mut askers, &questions, until).await.unwrap();
        assert_eq!(askers.iter().map(|asker| asker.0).sum::<u32>(), 100);
        assert!(askers.iter().all(|asker| asker.0 > 30), "in turn");
        assert_eq!((tally.took.len(), tally.took.max(), tally.bytes), (100, 5, 300));
        assert_eq!(tally.refused["no"], 9);
        let none = ask_all(&mut askers, &questions, Instant::now()).await.unwrap();
        assert_eq!(none.took.len(), 0, "the time is over");
    }
}
