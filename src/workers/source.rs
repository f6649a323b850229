//! Questions of the engine, put to whoever keeps the rows, and the answers brought back.

use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;

use super::authenticator::Authenticator;
use super::host::Host;
use super::router::config;
use super::{d1, glue, hooks};
use crate::engine::Input;
use crate::limits;
use crate::names::Millis;
use crate::observe::Observer;
use crate::protocol::Problem;
use crate::source::{Answered, Ask, Failed, Home, Question, unanswered};

impl<A: Authenticator, O: Observer> Host<A, O> {
    /// Puts questions to their sources, and those that come of the answers. Ends when all of them are
    /// answered or given up.
    pub(super) async fn drive(&self, questions: Vec<Question>, began: Millis) {
        let mut under_way: FuturesUnordered<LocalBoxFuture<'_, Vec<Question>>> =
            FuturesUnordered::new();
        let put = |question| -> LocalBoxFuture<'_, _> { Box::pin(self.put(question, began)) };
        under_way.extend(questions.into_iter().map(put));
        while let Some(more) = under_way.next().await {
            under_way.extend(more.into_iter().map(put));
        }
    }

    /// Puts one question. The questions that come of its answer.
    async fn put(&self, question: Question, began: Millis) -> Vec<Question> {
        let id = question.id;
        let (answer, mut more) = self.wait_for(&question, began).await;
        if let Some(answer) = answer {
            let input = Input::Answered { ask: id, answer };
            more.extend(self.run(input, began).questions);
        }
        more
    }

    /// The answer, if it is still of use; and what the engine has asked for while it was late.
    async fn wait_for(
        &self,
        question: &Question,
        began: Millis,
    ) -> (Option<Answered>, Vec<Question>) {
        let id = question.id;
        let is_write = matches!(question.what, Ask::Write(_));
        let timeout = match self.timeout_of(question) {
            Ok(timeout) => timeout,
            Err(problem) => return (Some(Err(problem.into())), Vec::new()),
        };
        let answer = Box::pin(self.ask(question, timeout));
        let timer = glue::Timer::new(timeout as u32);
        let answer = match select(answer, Box::pin(timer.over())).await {
            Either::Left((answer, _)) => return (Some(answer), Vec::new()),
            Either::Right((_, answer)) => answer,
        };
        let more = self.run(Input::Late { ask: id }, began).questions;
        if !is_write {
            return (None, more);
        }
        // What came of a write is waited for: others must hear of it.
        let rest = limits::SOURCE_NEVER_MS.saturating_sub(timeout);
        let timer = glue::Timer::new(rest as u32);
        let never: Pin<Box<_>> = Box::pin(timer.over());
        match select(answer, never).await {
            Either::Left((answer, _)) => (Some(answer), more),
            Either::Right(_) => {
                let failed = Failed {
                    problem: unanswered(),
                    may_be_done: true,
                };
                (Some(Err(failed)), more)
            }
        }
    }

    fn timeout_of(&self, question: &Question) -> Result<u64, Problem> {
        let config = config::<A>(&self.env).map_err(|error| Problem::from(&error))?;
        let rule = config.rules.find(&question.channel)?;
        let timeout = rule.source.as_ref().map(|source| source.timeout_ms);
        Ok(timeout.unwrap_or(limits::SOURCE_TIMEOUT_MS))
    }

    async fn ask(&self, question: &Question, timeout_ms: u64) -> Answered {
        let config = config::<A>(&self.env).map_err(|error| Problem::from(&error))?;
        let rule = config.rules.find(&question.channel)?;
        let space = self.with(|running| running.space().clone())?;
        let Some(source) = &rule.source else {
            return Err(unanswered().into());
        };
        match &source.home {
            Home::D1(table) => d1::ask(&self.env, &config, &space, table, question).await,
            Home::Hooks(target) => {
                hooks::ask(&self.env, &config, &space, target, question, timeout_ms).await
            }
            Home::Handler(name) => {
                let (handlers, row_bytes) = (&self.handlers, config.limits.row_bytes);
                handlers
                    .ask(name, &self.env, &space, question, row_bytes)
                    .await
            }
        }
    }
}
